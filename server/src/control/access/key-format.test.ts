import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { operatorKeyPattern, tenantKeyPattern } from '@stoa/contracts';
import fc from 'fast-check';
import {
  bearerToken,
  checkOf,
  hashOfKey,
  isKeyId,
  isKeyWithHash,
  isWellFormedKey,
  keyIdIn,
  keyPrefixes,
  makeKey,
  makeKeyOfId,
} from './key-format.ts';

const base62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Written again from the specification, in another way than the code. */
function expectedCheck(text: string): string {
  let rest = BigInt(crc32(Buffer.from(text, 'latin1')));
  const digits: string[] = [];
  for (let index = 0; index < 6; index++) {
    digits.unshift(base62[Number(rest % 62n)] ?? '');
    rest /= 62n;
  }
  assert.equal(rest, 0n);
  return digits.join('');
}

test('a new key has the documented form, cell, check, hash and last four characters', () => {
  for (const [prefix, pattern] of [
    [keyPrefixes.tenant, tenantKeyPattern],
    [keyPrefixes.operator, operatorKeyPattern],
  ] as const) {
    for (let index = 0; index < 200; index++) {
      const { key, keyId, hash, lastFour } = makeKey(prefix, '00');
      assert.match(key, pattern);
      assert.equal(keyId.slice(0, 2), '00');
      assert.equal(keyIdIn(key, prefix), keyId);
      assert.equal(key.slice(-6), expectedCheck(key.slice(0, -6)));
      assert.deepEqual(Buffer.from(hash), createHash('sha256').update(key).digest());
      assert.equal(lastFour, key.slice(-4));
      assert.ok(isWellFormedKey(key) && isKeyWithHash(key, hash) && isKeyId(keyId));
    }
  }
});

test('the check is six base62 characters of the CRC32, with leading zeros', () => {
  // CRC32 of "123456789" is the algorithm's published check value, 0xcbf43926.
  assert.equal(0xcbf43926 % 62, base62.indexOf(checkOf('123456789').slice(-1)));
  assert.equal(checkOf('123456789'), expectedCheck('123456789'));
  assert.equal(checkOf(''), '000000');
});

test('every character of secret and id is equally likely', () => {
  const counts = new Map<string, number>();
  const keys = 4000;
  for (let index = 0; index < keys; index++) {
    const { key } = makeKey(keyPrefixes.tenant, '00');
    for (const letter of key.slice(10, 20) + key.slice(21, 51))
      counts.set(letter, (counts.get(letter) ?? 0) + 1);
  }
  assert.equal(counts.size, 62);
  const expected = (keys * 40) / 62;
  let chiSquare = 0;
  for (const count of counts.values()) chiSquare += (count - expected) ** 2 / expected;
  // 61 degrees of freedom: above 150 once in a hundred million runs; bytes modulo 62 would give about 1,100.
  assert.ok(chiSquare < 150, `chi square ${chiSquare}`);
});

test('no two keys are the same', () => {
  const keys = Array.from({ length: 2000 }, () => makeKey(keyPrefixes.tenant, '00'));
  assert.equal(new Set(keys.map(({ key }) => key)).size, 2000);
  assert.equal(new Set(keys.map(({ keyId }) => keyId)).size, 2000);
});

test('any single wrong, swapped, missing or added character makes a key malformed', () => {
  const { key } = makeKey(keyPrefixes.tenant, '00');
  const isGood = (text: string): boolean =>
    keyIdIn(text, keyPrefixes.tenant) !== null && isWellFormedKey(text);
  assert.ok(isGood(key));
  fc.assert(
    fc.property(fc.nat(key.length - 1), fc.constantFrom(...base62.split(''), '-', ' ', 'é'), (at, letter) => {
      const changed = key.slice(0, at) + letter + key.slice(at + 1);
      assert.equal(isGood(changed), changed === key);
      assert.equal(isGood(key.slice(0, at) + key.slice(at + 1)), false);
      assert.equal(isGood(key.slice(0, at) + letter + key.slice(at)), false);
      const swapped = key.slice(0, at) + key.charAt(at + 1) + key.charAt(at) + key.slice(at + 2);
      assert.equal(isGood(swapped), swapped === key);
    }),
    { numRuns: 3000 },
  );
});

test('reading a key never throws, whatever text it is given, and finds an id only in the outer shape', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.string().map((text) => `stoa_sk_${text}`),
      ),
      (text) => {
        bearerToken(text);
        bearerToken(`Bearer ${text}`);
        isWellFormedKey(text);
        hashOfKey(text);
        if (keyIdIn(text, keyPrefixes.tenant) !== null)
          assert.ok(text.length === 57 && text.charAt(20) === '_');
      },
    ),
    { numRuns: 500 },
  );
});

test('a key of one kind is none of the other', () => {
  const tenant = makeKey(keyPrefixes.tenant, '00').key;
  const operator = makeKey(keyPrefixes.operator, '00').key;
  assert.equal(keyIdIn(tenant, keyPrefixes.operator), null);
  assert.equal(keyIdIn(operator, keyPrefixes.tenant), null);
});

test('the credential is read from a bearer header alone, the scheme in any case', () => {
  const { key } = makeKey(keyPrefixes.tenant, '00');
  for (const header of [`Bearer ${key}`, `bearer ${key}`, `BEARER   ${key}  `])
    assert.equal(bearerToken(header), key);
  for (const header of [undefined, '', 'Bearer', 'Bearer ', key, `Basic ${key}`, `Bearer ${key} ${key}`])
    assert.equal(bearerToken(header), null);
});

test('a cell is named by two base62 characters', () => {
  for (const cell of ['', '0', '000', '-1', 'é0']) assert.throws(() => makeKey(keyPrefixes.tenant, cell));
  assert.equal(makeKey(keyPrefixes.tenant, 'zZ').keyId.slice(0, 2), 'zZ');
});

test('another secret of a key keeps its prefix and id and shares nothing else', () => {
  const first = makeKey(keyPrefixes.tenant, '00');
  const second = makeKeyOfId(keyPrefixes.tenant, first.keyId);
  assert.equal(second.key.slice(0, 21), first.key.slice(0, 21));
  assert.ok(isWellFormedKey(second.key));
  assert.notEqual(second.key.slice(21, 51), first.key.slice(21, 51));
  assert.ok(isKeyWithHash(second.key, second.hash) && !isKeyWithHash(second.key, first.hash));
  assert.throws(() => makeKeyOfId(keyPrefixes.tenant, 'short'));
});

test('the rule for gitleaks is the form of a key, no more and no less', () => {
  const file = path.join(import.meta.dirname, '../../../../docs/reference/gitleaks.toml');
  const source = /^regex = '''(.*)'''$/m.exec(readFileSync(file, 'utf8'))?.[1];
  assert.ok(source !== undefined);
  const rule = new RegExp(source, 'g');
  for (const prefix of Object.values(keyPrefixes)) {
    for (let index = 0; index < 500; index++) {
      const { key } = makeKey(prefix, '00');
      for (const text of [key, `"${key}"`, `KEY=${key};`, `Bearer ${key}\n`])
        assert.deepEqual(text.match(rule), [key]);
      for (const text of [
        key.slice(0, -1),
        `${key}0`,
        `x${key}`,
        key.replace('stoa', 'stua'),
        key.replace('_', '-'),
      ])
        assert.equal(text.match(rule), null, text);
      assert.equal(key.replace(/^stoa_../, 'stoa_xx').match(rule), null);
    }
  }
});
