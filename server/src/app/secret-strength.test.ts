import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { isGuessablePassword, keyWeakness, secretWeakness } from './secret-strength.ts';

test('what a generator makes is let in: base64, base64url and hex of 32 bytes and more', () => {
  let refused = 0;
  const rounds = 2000;
  for (let round = 0; round < rounds; round += 1) {
    const texts = [
      randomBytes(32).toString('base64'),
      randomBytes(48).toString('base64url'),
      randomBytes(32).toString('hex'),
      randomBytes(64).toString('hex').toUpperCase(),
    ];
    refused += texts.filter((text) => secretWeakness(text) !== null).length;
    assert.equal(keyWeakness(randomBytes(32)), null);
  }
  // One in about 1,500 lacks a digit; whoever meets that makes another.
  assert.ok(refused < rounds / 100, `${refused} of ${rounds * 4} were refused`);
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
