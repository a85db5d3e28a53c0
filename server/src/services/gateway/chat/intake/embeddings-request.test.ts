import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#kernel';
import { readEmbeddingsRequest } from './embeddings-request.ts';

function read(fields: Record<string, unknown>): string {
  try {
    return readEmbeddingsRequest(Buffer.from(JSON.stringify({ model: 'm', ...fields }))).encodingFormat;
  } catch (error) {
    if (error instanceof AppError) return `${error.code} ${error.param ?? ''}`;
    throw error;
  }
}

test('every form of input that OpenAI takes is taken', () => {
  for (const input of ['text', ['a', 'b'], [1, 2, 3], [[1], [2, 3]]]) assert.equal(read({ input }), 'float');
  assert.equal(read({ input: 'x', encoding_format: 'base64' }), 'base64');
  assert.equal(read({ input: 'x', encoding_format: null, dimensions: 256 }), 'float');
});

test('any other input is refused and named', () => {
  for (const input of [undefined, null, '', [], {}, 5, true])
    assert.equal(read({ input }), 'invalid_request input');
  assert.equal(read({ input: ['a', ''] }), 'invalid_request input[1]');
  assert.equal(read({ input: ['a', [1]] }), 'invalid_request input[1]');
  assert.equal(read({ input: [[1], [-1]] }), 'invalid_request input[1]');
  assert.equal(read({ input: [1, 'a'] }), 'invalid_request input[0]');
  assert.equal(read({ input: Array.from({ length: 2_049 }, () => 'a') }), 'invalid_request input');
  assert.equal(read({ input: 'x', encoding_format: 'int8' }), 'invalid_request encoding_format');
  assert.equal(read({ input: 'x', dimensions: 0 }), 'invalid_request dimensions');
});
