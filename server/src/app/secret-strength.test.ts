import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { isGuessablePassword, keyWeakness, secretWeakness, typedWeakness } from './secret-strength.ts';

test('what a generator makes is let in: base64, base64url and hex of 32 bytes and more, without one exception in 10,000', () => {
  for (let round = 0; round < 10_000; round += 1) {
    const texts = [
      randomBytes(32).toString('base64'),
      randomBytes(48).toString('base64url'),
      randomBytes(32).toString('base64url'),
      randomBytes(32).toString('hex'),
      randomBytes(64).toString('hex').toUpperCase(),
    ];
    for (const text of texts) assert.equal(secretWeakness(text), null, text);
    assert.equal(keyWeakness(randomBytes(32)), null);
  }
});

test('of 32 random bytes in base64 that have no digit, none is refused for it', () => {
  let found = 0;
  for (let round = 0; round < 30_000; round += 1) {
    const text = randomBytes(32)
      .toString('base64')
      .replaceAll(/[0-9]/g, (digit) => 'kVbRwXnQyT'.charAt(Number(digit)));
    if (secretWeakness(text) !== null) found += 1;
  }
  // Evenness is asked of these alone, and 18 standard deviations of what people write lie beyond it; a few in a million fall out.
  assert.ok(found <= 90, `${found} of 30,000`);
});

test('what is text behind its encoding is refused, however mixed the encoding looks', () => {
  const sentences = [
    'correct horse battery staple, 2026 edition',
    'My-Super-Secret-Key-For-The-Cluster-In-Production',
    'jwt_secret_4f8a_do_not_commit_to_the_repository',
    'Ein sehr geheimes Schlüsselwort für unseren Dienst',
    'секретный ключ для подписи токенов',
  ];
  for (const sentence of sentences) {
    const bytes = Buffer.from(sentence);
    for (const text of [bytes.toString('base64'), bytes.toString('base64url'), bytes.toString('hex')])
      assert.notEqual(secretWeakness(text), null, `${sentence}: ${text}`);
  }
});

test('what people invent is refused, however long it is', () => {
  const invented = [
    '',
    'short',
    'password'.repeat(8),
    'ab'.repeat(40),
    'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ',
    'qwertyuiopasdfghjklzxcvbnmQWERTYUIOPASDFGHJKL1234567890',
    'the quick brown fox jumps over the lazy dog 1234567890',
    'ThisIsTheSecretOfOurProductionClusterDoNotShareIt',
    'my-very-long-and-very-secret-cluster-secret-2026-prod',
    '00000000-0000-4000-8000-000000000000',
    '0123456789abcdef'.repeat(4),
    '1'.repeat(64),
    '8'.repeat(43),
    'Aa1'.repeat(20),
    'Zk3vQ8mR1xT6bY9cL4nW7pD2sF5gH0jA',
    `${randomBytes(32).toString('base64')} `,
    'пароль'.repeat(10),
  ];
  for (const text of invented) assert.notEqual(secretWeakness(text), null, text);
});

test('what is typed to try out is let in where it is long, and refused where it is short or a pattern', () => {
  for (const text of ['short', 'a'.repeat(64), 'password'.repeat(8), 'abcdefghijklmnopqrstuvwxyz0123456789'])
    assert.notEqual(typedWeakness(text), null, text);
  const taken = ['a-secret-of-the-failure-tests-0123456789', randomBytes(32).toString('hex')];
  for (const text of taken) assert.equal(typedWeakness(text), null, text);
});

test('a master key of one letter, of a row of bytes or of text is refused', () => {
  const keys = [
    Buffer.alloc(32),
    Buffer.from(Array.from({ length: 32 }, (_, index) => index * 3)),
    Buffer.from('a secret of exactly 32 characters'.slice(0, 32)),
    Buffer.from('0123456789abcdef0123456789abcdef'),
  ];
  for (const key of keys) assert.notEqual(keyWeakness(key), null, key.toString());
});

test('passwords that are short or of one kind of characters are guessable', () => {
  for (const text of ['admin', 'Vq8xN2aL', '1234567890123', 'aaaaaaaaaaaa', 'letmeinplease'])
    assert.ok(isGuessablePassword(text), text);
  for (const text of ['Vq8xN2aLr5', 'correct-horse-battery', randomBytes(18).toString('base64url')])
    assert.ok(!isGuessablePassword(text), text);
});
