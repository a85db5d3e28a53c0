import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stem } from './stemmer.ts';

// From Porter's paper and the vocabulary that he publishes with it.
const vectors: readonly (readonly [string, string])[] = [
  ['caresses', 'caress'],
  ['ponies', 'poni'],
  ['ties', 'ti'],
  ['cats', 'cat'],
  ['feed', 'feed'],
  ['agreed', 'agre'],
  ['plastered', 'plaster'],
  ['motoring', 'motor'],
  ['sing', 'sing'],
  ['conflated', 'conflat'],
  ['troubled', 'troubl'],
  ['sized', 'size'],
  ['hopping', 'hop'],
  ['falling', 'fall'],
  ['filing', 'file'],
  ['happy', 'happi'],
  ['sky', 'sky'],
  ['relational', 'relat'],
  ['conditional', 'condit'],
  ['digitizer', 'digit'],
  ['vietnamization', 'vietnam'],
  ['operator', 'oper'],
  ['hopefulness', 'hope'],
  ['triplicate', 'triplic'],
  ['formalize', 'formal'],
  ['electrical', 'electr'],
  ['goodness', 'good'],
  ['revival', 'reviv'],
  ['adjustment', 'adjust'],
  ['adoption', 'adopt'],
  ['effective', 'effect'],
  ['probate', 'probat'],
  ['rate', 'rate'],
  ['cease', 'ceas'],
  ['controlling', 'control'],
  ['roll', 'roll'],
  ['generalizations', 'gener'],
  ['oscillators', 'oscil'],
];

test("words have the stems of Porter's published vocabulary", () => {
  for (const [word, expected] of vectors) assert.equal(stem(word), expected, word);
});

test('the forms of one word share a stem, and other words are left as they are', () => {
  assert.equal(new Set(['isolated', 'isolation', 'isolates', 'isolating'].map(stem)).size, 1);
  for (const word of ['is', 'größe', 'v1', '2024', '']) assert.equal(stem(word), word);
});
