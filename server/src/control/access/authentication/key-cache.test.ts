import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Standing } from '#kernel';
import { invalidApiKey, keyExpired, keyRevoked, tenantSuspended } from '../refusals.ts';
import { KeyCache, type KeyFacts } from './key-cache.ts';

interface TestPrincipal {
  readonly keyId: string;
  readonly role: string;
  readonly standing: Standing;
}

function facts(
  keyId: string,
  changes: Partial<KeyFacts<TestPrincipal>> & { role?: string } = {},
): KeyFacts<TestPrincipal> {
  const { role = 'admin', ...rest } = changes;
  return {
    keyId,
    tenantId: 'tenant',
    hash: new Uint8Array(32),
    previous: null,
    networks: null,
    expiresAtMs: Infinity,
    refusal: null,
    version: 1,
    tenantVersion: 1,
    principal: (standing) => ({ keyId, role, standing }),
    ...rest,
  };
}

test('the cache never holds more keys than its capacity', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  for (let index = 0; index < 1000; index++) {
    cache.put(facts(`key${index}`), 0);
    assert.ok(cache.size <= 10);
  }
  assert.equal(cache.size, 10);
  assert.ok(cache.find('key999'));
});

test('a key in use outlives keys that are not', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  cache.put(facts('used'), 0);
  for (let index = 0; index < 200; index++) {
    const used = cache.find('used');
    assert.ok(used, `gone after ${index}`);
    used.isRecent = true;
    cache.put(facts(`other${index}`), 0);
  }
});

test('where every key is in use, one insertion passes by a bounded number of them', () => {
  const cache = new KeyCache<TestPrincipal>(1000);
  for (let index = 0; index < 1000; index++) cache.put(facts(`key${index}`), 0).isRecent = true;
  cache.put(facts('new'), 0);
  const spared = Array.from({ length: 1000 }, (_, index) => cache.find(`key${index}`)).filter(
    (key) => key?.isRecent === false,
  );
  assert.equal(spared.length, 64);
  assert.equal(cache.size, 1000);
});

test('an older answer never replaces a newer one, of the key or of its tenant', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  cache.put(facts('key', { version: 3, tenantVersion: 5, refusal: keyRevoked }), 0);
  cache.put(facts('key', { version: 2, tenantVersion: 5 }), 0);
  cache.put(facts('key', { version: 3, tenantVersion: 4 }), 0);
  assert.equal(cache.find('key')?.standing.refusal, keyRevoked);
  cache.put(facts('key', { version: 4, tenantVersion: 5 }), 0);
  assert.equal(cache.find('key')?.standing.refusal, null);
});

test('a changed key keeps its standing object, so that running answers see what becomes of it', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  const before = cache.put(facts('key'), 0).principal;
  const after = cache.put(facts('key', { version: 2, role: 'viewer' }), 0).principal;
  assert.equal(before.role, 'admin');
  assert.equal(after.role, 'viewer');
  assert.equal(before.standing, after.standing);
  cache.put(facts('key', { version: 3, refusal: tenantSuspended }), 0);
  assert.equal(before.standing.refusal, tenantSuspended);
});

test('the answers of an evicted key still see it revoked, expired or gone', () => {
  const cache = new KeyCache<TestPrincipal>(1);
  const revoked = cache.put(facts('revoked'), 0).principal;
  const gone = cache.put(facts('gone'), 0).principal;
  const expiring = cache.put(facts('expiring', { expiresAtMs: 100 }), 0).principal;
  cache.put(facts('last'), 0);
  for (const id of ['revoked', 'gone', 'expiring']) {
    assert.equal(cache.find(id), undefined);
    assert.ok(cache.isKnown(id));
    assert.ok(cache.idsOf('tenant').includes(id));
  }
  cache.put(facts('revoked', { version: 2, refusal: keyRevoked }), 0);
  cache.remove('gone');
  cache.expire(100);
  assert.equal(revoked.standing.refusal, keyRevoked);
  assert.equal(gone.standing.refusal, invalidApiKey);
  assert.equal(expiring.standing.refusal, keyExpired);
  assert.equal(cache.isKnown('gone'), false);
});

test('a key expires for its running answers at its time and not before', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  const { standing } = cache.put(facts('key', { expiresAtMs: 1000 }), 0);
  const later = cache.put(facts('later', { expiresAtMs: 2000 }), 0);
  cache.expire(999);
  assert.equal(standing.refusal, null);
  cache.expire(1000);
  assert.equal(standing.refusal, keyExpired);
  assert.equal(later.standing.refusal, null);
  cache.expire(2000);
  assert.equal(later.standing.refusal, keyExpired);
});

test('a key whose expiry was moved stands again', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  const { standing } = cache.put(facts('key', { expiresAtMs: 1000 }), 0);
  cache.expire(1000);
  cache.put(facts('key', { version: 2, expiresAtMs: 5000 }), 1000);
  assert.equal(standing.refusal, null);
  cache.expire(5000);
  assert.equal(standing.refusal, keyExpired);
});

test('a key says that it is revoked or expired before its tenant is suspended, and nothing once the tenant is deleted', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  const refusalOf = (id: string, changes: Partial<KeyFacts<TestPrincipal>>): unknown =>
    cache.put(facts(id, changes), 1000).standing.refusal;
  assert.equal(refusalOf('a', { refusal: tenantSuspended }), tenantSuspended);
  assert.equal(refusalOf('b', { refusal: tenantSuspended, expiresAtMs: 1000 }), keyExpired);
  assert.equal(refusalOf('c', { refusal: keyRevoked, expiresAtMs: 1000 }), keyRevoked);
  assert.equal(refusalOf('d', { refusal: invalidApiKey, expiresAtMs: 1000 }), invalidApiKey);
});

test('a key that was dropped is looked up again and follows changes meanwhile', () => {
  const cache = new KeyCache<TestPrincipal>(10);
  const { standing } = cache.put(facts('key'), 0);
  cache.drop('key');
  assert.equal(cache.find('key'), undefined);
  assert.equal(standing.refusal, null);
  assert.equal(cache.put(facts('key', { version: 2, refusal: keyRevoked }), 0).standing, standing);
  assert.equal(standing.refusal, keyRevoked);
});
