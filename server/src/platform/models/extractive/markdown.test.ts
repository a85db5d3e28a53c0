import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sentencesOf } from './markdown.ts';

function quotes(text: string): string[] {
  return sentencesOf(text).map(({ start, end }) => text.slice(start, end));
}

test('prose is cut at the ends of sentences, and every span is the sentence itself', () => {
  const text =
    'Stoa runs for many tenants. Is it fast, e.g. Under load? Yes, it is "very fast." It has 3.5 stars.\n';
  assert.deepEqual(quotes(text), [
    'Stoa runs for many tenants.',
    'Is it fast, e.g. Under load?',
    'Yes, it is "very fast."',
    'It has 3.5 stars.',
  ]);
});

test('code, tables, headings, HTML, rules and front matter are no sentences', () => {
  const text = [
    '---',
    'title: This is the front matter of it.',
    '---',
    '# A heading that is long enough.',
    '',
    '```ts',
    'const text = "This is code and no sentence at all.";',
    '```',
    '',
    '~~~',
    'Neither is what stands between tildes here.',
    '```',
    'Nor this, behind a fence of another kind.',
    '~~~',
    '',
    '| a table | has cells that look like prose. |',
    '| --- | --- |',
    '| another | row of cells with words in it. |',
    '',
    '<div>This is HTML and no sentence at all.</div>',
    '',
    '    indented code is also left out of it all.',
    '',
    '---',
    '',
    'A heading by underline is one too',
    '---------------------------------',
    '',
    'Only this line counts as a sentence.',
  ].join('\n');
  assert.deepEqual(quotes(text), ['Only this line counts as a sentence.']);
  assert.deepEqual(sentencesOf(text)[0]?.headings, [
    'A heading that is long enough.',
    'A heading by underline is one too',
  ]);
  assert.equal(sentencesOf(text)[0]?.line, text.split('\n').length);
});

test('a sentence over several lines, of a list or of a quotation keeps its bytes, line breaks and all', () => {
  const text =
    '- First item of the list,\r\n  which goes on here. And one more sentence.\r\n- [ ] Second item of the list\r\n\r\n> A quotation of some\r\n> length is quoted.\r\n';
  assert.deepEqual(quotes(text), [
    'First item of the list,\r\n  which goes on here.',
    'And one more sentence.',
    'Second item of the list',
    'A quotation of some\r\n> length is quoted.',
  ]);
  assert.deepEqual(
    sentencesOf(text).map((sentence) => sentence.line),
    [1, 2, 3, 5],
  );
});

test('points inside code and links end nothing, and halves of brackets and emphasis are left out', () => {
  const text =
    'Call `a.B. C` or [the page. Really](https://x.y/A. B) to see it. **Bold begins here. It ends** there for good. A (bracket. It closes) in the next.';
  assert.deepEqual(quotes(text), ['Call `a.B. C` or [the page. Really](https://x.y/A. B) to see it.']);
});

test('headings above a sentence are its context, outermost first, and forget what is no longer above', () => {
  const text =
    '# One\n## Two\n### Three\nThe first sentence stands here.\n## Four\nThe second sentence stands here.\n';
  assert.deepEqual(
    sentencesOf(text).map((sentence) => sentence.headings),
    [
      ['One', 'Two', 'Three'],
      ['One', 'Four'],
    ],
  );
});

test('hostile text takes no more than linear time', () => {
  for (const unit of [
    '[](',
    '`',
    '**',
    '> ',
    '(',
    '. A',
    '<a ',
    '](',
    '- ',
    '|',
    '# ',
    '.',
    '.*',
    '<http:',
    'a b ',
  ]) {
    const line = unit.repeat(Math.floor(9_000 / unit.length));
    const text = `x${line}\n${line}x\n\n# ${line}#x\n\n${line}\n\n`.repeat(5) + unit.repeat(60_000);
    const started = performance.now();
    sentencesOf(text);
    assert.ok(performance.now() - started < 1000, `${unit} took ${performance.now() - started} ms`);
  }
});
