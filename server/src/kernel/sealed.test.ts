import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { AppError } from './error.ts';
import { createSealer } from './sealed.ts';

const key = randomBytes(32);
const aad = 'platform:providers:credential:018f';
const secret = 'sk-test-Grüße-\u{1F511}';

function refusal(fn: () => unknown): AppError {
  try {
    fn();
  } catch (error) {
    assert.ok(error instanceof AppError);
    return error;
  }
  return assert.fail('it opened');
}

test('what was sealed opens again under the same key and place', () => {
  const sealer = createSealer(key);
  for (const text of [secret, '', 'x'.repeat(100_000)])
    assert.equal(sealer.open(sealer.seal(text, aad), aad), text);
  assert.equal(createSealer(Buffer.from(key)).open(sealer.seal(secret, aad), aad), secret);
});

test('a record shows neither plaintext nor key, names its key, and never repeats', () => {
  const sealer = createSealer(key);
  const records = new Set(Array.from({ length: 200 }, () => sealer.seal(secret, aad)));
  assert.equal(records.size, 200);
  for (const record of records) {
    assert.match(record, new RegExp(`^v1\\.${sealer.keyId}\\.[\\w-]{16}\\.[\\w-]+$`));
    assert.ok(!record.includes(secret));
  }
  assert.match(sealer.keyId, /^[0-9a-f]{8}$/);
  assert.notEqual(sealer.keyId, createSealer(randomBytes(32)).keyId);
});

test('a record in another place or under another key does not open, and the error says nothing of why', () => {
  const sealer = createSealer(key);
  const record = sealer.seal(secret, aad);
  const errors = [
    refusal(() => sealer.open(record, 'platform:providers:credential:018e')),
    refusal(() => sealer.open(record, '')),
    refusal(() => createSealer(randomBytes(32)).open(record, aad)),
    refusal(() => sealer.open('', aad)),
    refusal(() => sealer.open(secret, aad)),
  ];
  for (const error of errors) {
    assert.equal(error.code, 'internal_error');
    assert.equal(error.publicMessage, 'A stored secret could not be read.');
    assert.deepEqual(error.details, {});
  }
});

test('a change of any one character or bit of a record is refused', () => {
  const sealer = createSealer(key);
  const record = sealer.seal(secret, aad);
  for (let index = 0; index < record.length; index++) {
    for (const letter of ['A', 'z', '0', '-', '.', '=', ' ']) {
      if (record[index] === letter) continue;
      const altered = record.slice(0, index) + letter + record.slice(index + 1);
      assert.equal(refusal(() => sealer.open(altered, aad)).code, 'internal_error', altered);
    }
    assert.equal(refusal(() => sealer.open(record.slice(0, index), aad)).code, 'internal_error');
  }
  assert.equal(refusal(() => sealer.open(`${record}A`, aad)).code, 'internal_error');
  const [version, keyId, nonce = '', body = ''] = record.split('.');
  for (const [part, text] of [nonce, body].entries()) {
    const bytes = Buffer.from(text, 'base64url');
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const parts =
        part === 0 ? [flipped.toString('base64url'), body] : [nonce, flipped.toString('base64url')];
      assert.equal(
        refusal(() => sealer.open([version, keyId, ...parts].join('.'), aad)).code,
        'internal_error',
      );
    }
  }
});

test('a master key of another length is refused', () => {
  for (const length of [0, 16, 31, 33])
    assert.equal(refusal(() => createSealer(randomBytes(length))).code, 'internal_error');
});
