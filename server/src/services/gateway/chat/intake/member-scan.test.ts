import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nameSet, scanObject } from './member-scan.ts';

const wanted = nameSet(['model', 'stream', 'n', 'messages']);

const scalarOrDeep = fc.jsonValue({ maxDepth: 5 });
const anyKey = fc.oneof(fc.constantFrom('model', 'stream', 'n', 'messages', 'x', 'modelx', ''), fc.string());

/** Names in another case are refused, which chat-request.test.ts shows. */
const key = anyKey.filter((name) => name === name.toLowerCase() || !wanted.names.has(name.toLowerCase()));

/** JSON text of an object, with spaces thrown in and some keys escaped. */
const written = fc
  .tuple(fc.dictionary(key, scalarOrDeep), fc.constantFrom('', ' ', '\n\t', ' \r\n '), fc.boolean())
  .map(([object, space, isEscaped]) => {
    const members = Object.entries(object).map(([name, value]) => {
      const plain = JSON.stringify(name);
      const keyText = isEscaped
        ? plain.replace(/[a-z]/, (letter) => `\\u00${letter.charCodeAt(0).toString(16)}`)
        : plain;
      return `${space}${keyText}${space}:${space}${JSON.stringify(value, null, space.includes('\n') ? 1 : 0)}${space}`;
    });
    return { object, text: `${space}{${members.join(',')}${space}}${space}` };
  });

test('the offsets of a member are exactly its value, for any JSON object', () => {
  fc.assert(
    fc.property(written, ({ object, text }) => {
      const bytes = Buffer.from(text);
      const scan = scanObject(bytes, wanted);
      assert.ok(scan);
      assert.equal(scan.isEmpty, Object.keys(object).length === 0);
      const expected = Object.keys(object).filter((name) => wanted.names.has(name));
      assert.deepEqual(scan.members.map(({ name }) => name).sort(), expected.sort());
      for (const { name, valueStart, valueEnd } of scan.members) {
        const value: unknown = JSON.parse(bytes.toString('utf8', valueStart, valueEnd));
        const whole: unknown = JSON.parse(JSON.stringify(object[name]));
        assert.deepEqual(value, whole);
      }
    }),
    { numRuns: 500 },
  );
});

test('strings of any length with any run of backslashes end where JSON ends them', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('"', '\\', 'a', 'é', 'x'.repeat(60)), { maxLength: 60 }),
      (pieces) => {
        const bytes = Buffer.from(JSON.stringify({ x: pieces.join(''), model: 'm' }));
        const member = scanObject(bytes, wanted)?.members[0];
        assert.equal(member?.name, 'model');
      },
    ),
    { numRuns: 500 },
  );
});

test('no bytes, however broken, make the scan throw anything but a refusal or run on', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('{', '}', '[', ']', '"', ':', ',', '\\', '1', ' ', 'n'), { maxLength: 60 }),
      (pieces) => {
        const bytes = Buffer.from(`{${pieces.join('')}`);
        const scan = scanObject(bytes, nameSet(['zz']));
        assert.ok(scan);
      },
    ),
    { numRuns: 2_000 },
  );
});

test('a body of 20 MiB with an image in it is scanned within 50 ms', () => {
  const text = 'A'.repeat(20 * 1024 * 1024 - 200);
  const body = Buffer.from(`{"model":"m","messages":[{"role":"user","content":"${text}"}]}`);
  let bestUs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round += 1) {
    const before = process.cpuUsage();
    scanObject(body, wanted);
    bestUs = Math.min(bestUs, process.cpuUsage(before).user);
  }
  assert.ok(bestUs < 50_000, `${bestUs} us`);
});
