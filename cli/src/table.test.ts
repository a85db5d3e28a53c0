import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { amount, counted, duration, moment, perMillion } from './formats.ts';
import { displayWidth, factLines, tableLines } from './table.ts';
import { createTerminal, printable, printableLine } from './terminal.ts';

const plain = { paint: (_style: string, text: string) => text };

function stream(isTTY: boolean) {
  return Object.assign(new PassThrough(), { isTTY });
}

test('columns stay aligned under wide, combining and joined characters', () => {
  const rows = ['ab', '日本', 'e\u0301', '👩‍👩‍👧', '한글x'].map((name) => ({ name, size: name.length }));
  const lines = tableLines(
    [
      { title: 'NAME', value: (row) => row.name },
      { title: 'N', value: () => '|' },
    ],
    rows,
    plain,
  );
  assert.deepEqual(
    lines.map((line) => displayWidth(line.slice(0, line.lastIndexOf(line.endsWith('N') ? 'N' : '|')))),
    [7, 7, 7, 7, 7, 7],
  );
  assert.deepEqual(['日本', 'e\u0301', '👩‍👩‍👧', 'Ω', '❤️', ''].map(displayWidth), [4, 1, 2, 1, 2, 0]);
});

test('numbers stand to the right, and no line ends in spaces', () => {
  const lines = tableLines(
    [
      { title: 'N', value: (row: string) => row, align: 'right' },
      { title: 'TEXT', value: (row: string) => (row === '7' ? '' : 'x') },
    ],
    ['7', '1,000'],
    plain,
  );
  assert.deepEqual(lines, ['    N  TEXT', '    7', '1,000  x']);
  assert.deepEqual(
    factLines(
      [
        ['a', '1'],
        ['long', '2'],
      ],
      plain,
    ),
    ['a     1', 'long  2'],
  );
});

test("others' text can do nothing to the terminal: control and direction characters become pictures", () => {
  const hostile = 'a\u001b[31mb\u001b]0;t\u0007\r\u009b2J\u202ec\u0000\u007f';
  assert.equal(printable(hostile), 'a␛[31mb␛]0;t␇\ufffd2J\ufffdc␀␡');
  assert.equal(printable('line\n\ttab 日本'), 'line\n\ttab 日本');
  assert.equal(printableLine('one\n\ttwo'), 'one two');
  const [, cell] = tableLines([{ title: 'T', value: (row: string) => row }], ['x\u001b[2J\ny'], plain);
  assert.equal(cell, 'x␛[2J y');
});

test('colours appear on a terminal only, and never with NO_COLOR or a dumb one', () => {
  const painted = (isTTY: boolean, env: Record<string, string>): boolean =>
    createTerminal(stream(isTTY), stream(false), env).paint('red', 'x') !== 'x';
  assert.equal(painted(true, {}), true);
  assert.equal(painted(true, { NO_COLOR: '' }), true);
  assert.equal(painted(false, {}), false);
  assert.equal(painted(true, { NO_COLOR: '1' }), false);
  assert.equal(painted(true, { TERM: 'dumb' }), false);
  assert.equal(createTerminal(stream(true), stream(false), {}).paintErrors('red', 'x'), 'x');
});

test('money is moved and trimmed as text, to the last digit', () => {
  assert.equal(perMillion('0.00000015'), '0.15');
  assert.equal(perMillion('0.0000025'), '2.5');
  assert.equal(perMillion('0.000000000000001'), '0.000000001');
  assert.equal(perMillion('0'), '0');
  assert.equal(perMillion('12.5'), '12500000');
  assert.equal(amount('0.000120000000000'), '$0.00012');
  assert.equal(amount('100'), '$100');
  assert.equal(amount('100.000'), '$100');
  assert.equal(amount('-1.50'), '-$1.5');
  assert.equal(amount(null), '-');
});

test('times and counts read well', () => {
  assert.equal(moment('2026-01-31T09:05:00.123Z'), '2026-01-31 09:05:00Z');
  assert.equal(moment(null), '-');
  assert.deepEqual([0.4, 80.4, 1_234, 90_000, null].map(duration), [
    '0.4 ms',
    '80 ms',
    '1.23 s',
    '1.5 min',
    '-',
  ]);
  assert.deepEqual([counted(1, 'request'), counted(2_000, 'request')], ['1 request', '2,000 requests']);
});
