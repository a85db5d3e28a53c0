import assert from 'node:assert/strict';
import { test } from 'node:test';
import { indexSentences } from './ranking.ts';

const files = [
  {
    name: 'one.md',
    text: '# Targets\n\nA request goes to the next target when one target fails, and that target is tried again.\n\nA provider runs models, and a target is what a request can be sent to.\n',
  },
  {
    name: 'two.md',
    text: '# Keys\n\nA revoked key is refused within one second. It is refused everywhere. Keys of tenants begin with a prefix.\n\nNothing here speaks of zebras.\n',
  },
];
const index = indexSentences(files);
const first = (question: string): string | undefined => index.find(question, 3)[0]?.quote;

test('a question for what something is gets its definition first', () => {
  assert.equal(
    first('What is a target?'),
    'A provider runs models, and a target is what a request can be sent to.',
  );
});

test('the forms of a word are one word, and case does not matter', () => {
  assert.equal(first('REVOKING KEYS'), 'A revoked key is refused within one second.');
});

test('a rare word of the question that the collection lacks outweighs common ones that it has', () => {
  assert.deepEqual(index.find('Does the platypus have a key?', 3), []);
  assert.deepEqual(index.find('quasar request nebula', 3), []);
});

test('a sentence that leans on the one before comes after one that stands alone', () => {
  assert.deepEqual(
    index.find('refused', 3).map((citation) => citation.quote),
    ['A revoked key is refused within one second.', 'It is refused everywhere.'],
  );
});

test('at most so many sentences are found, and one that says the same in another file is left out', () => {
  const twice = indexSentences([...files, { name: 'copy.md', text: files[1]?.text ?? '' }]);
  assert.equal(twice.find('revoked key', 3).filter((found) => found.quote.startsWith('A revoked')).length, 1);
  assert.equal(twice.find('key', 1).length, 1);
});

test('an empty collection and an empty question find nothing', () => {
  assert.deepEqual(indexSentences([]).find('anything', 3), []);
  for (const question of ['', 'the of and', '?', '1 2 3']) assert.deepEqual(index.find(question, 3), []);
});
