import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from './error.ts';
import { maximumJsonDepth, parseJsonBody } from './json.ts';

function codeOf(bytes: Buffer): string {
  try {
    parseJsonBody(bytes);
    return 'accepted';
  } catch (error) {
    return error instanceof AppError ? error.code : 'thrown';
  }
}

test('each way of not being JSON has its own code', () => {
  assert.equal(codeOf(Buffer.from('{"a":1}')), 'accepted');
  assert.equal(codeOf(Buffer.from('')), 'invalid_json');
  assert.equal(codeOf(Buffer.from('{"a":1,}')), 'invalid_json');
  assert.equal(codeOf(Buffer.from([0x22, 0xff, 0x22])), 'invalid_encoding');
  assert.equal(codeOf(Buffer.from('\ufeff{}')), 'invalid_json');
});

test('nesting is allowed to the limit and not one level deeper, brackets in strings apart', () => {
  const nest = (levels: number) => Buffer.from('['.repeat(levels) + ']'.repeat(levels));
  assert.equal(codeOf(nest(maximumJsonDepth)), 'accepted');
  assert.equal(codeOf(nest(maximumJsonDepth + 1)), 'json_too_deep');
  assert.equal(codeOf(nest(1_000_000)), 'json_too_deep');
  assert.equal(
    codeOf(Buffer.from(JSON.stringify({ a: '[{'.repeat(500), b: '\\"[['.repeat(200) }))),
    'accepted',
  );
});

test('many shallow objects are not deep', () => {
  assert.equal(
    codeOf(Buffer.from(JSON.stringify(Array.from({ length: 10_000 }, () => ({ a: [] }))))),
    'accepted',
  );
});

test('a 20 MiB string is read in well under a second', () => {
  const bytes = Buffer.from(
    JSON.stringify({ brackets: '[]'.repeat(100), image: 'A'.repeat(20 * 1024 * 1024), list: [[[]]] }),
  );
  const startedAt = performance.now();
  assert.equal(codeOf(bytes), 'accepted');
  assert.ok(performance.now() - startedAt < 1_000);
});
