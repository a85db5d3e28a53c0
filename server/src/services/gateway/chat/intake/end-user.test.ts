import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#kernel';
import { readChatRequest } from './chat-request.ts';
import { readEmbeddingsRequest } from './embeddings-request.ts';
import { asEndUser } from './end-user.ts';

function chat(more: object) {
  const body = { model: 'auto', messages: [{ role: 'user', content: 'Hello' }], ...more };
  return readChatRequest(Buffer.from(JSON.stringify(body)));
}

test('a request with a token for an end user counts as that one’s, whether it says so or not', () => {
  assert.equal(asEndUser(chat({}), 'user-42').endUser, 'user-42');
  assert.equal(asEndUser(chat({ user: 'user-42' }), 'user-42').endUser, 'user-42');
  const embeddings = readEmbeddingsRequest(Buffer.from('{"model":"auto","input":"Hello"}'));
  assert.equal(asEndUser(embeddings, 'user-42').endUser, 'user-42');
});

test('a request that names another end user than its token is refused', () => {
  for (const user of ['user-43', 'User-42', 'user-42 ', 'user-4'])
    assert.throws(
      () => asEndUser(chat({ user }), 'user-42'),
      (error) => error instanceof AppError && error.code === 'permission_denied' && error.param === 'user',
    );
});

test('a caller without such a token names whom it likes', () => {
  const intake = chat({ user: 'anybody' });
  assert.equal(asEndUser(intake, undefined), intake);
});
