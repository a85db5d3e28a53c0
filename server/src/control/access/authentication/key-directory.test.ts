import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, manualClock, type Standing } from '#kernel';
import { keyRevoked } from '../refusals.ts';
import type { KeyFacts } from './key-cache.ts';
import { KeyDirectory } from './key-directory.ts';

interface TestPrincipal {
  readonly standing: Standing;
}

/** A table of keys whose reading a test can hold up between the reading and the answer. */
function table() {
  const rows = new Map<string, { version: number; isRevoked: boolean; tenantVersion: number }>();
  const gate = { wait: async (): Promise<void> => undefined, reads: 0 };
  return {
    rows,
    gate,
    async load(keyIds: readonly string[]): Promise<readonly KeyFacts<TestPrincipal>[]> {
      gate.reads += 1;
      const read = keyIds.flatMap((keyId) => {
        const row = rows.get(keyId);
        return row ? [{ keyId, ...row }] : [];
      });
      await gate.wait();
      return read.map(({ keyId, version, tenantVersion, isRevoked }) => ({
        keyId,
        tenantId: 'tenant',
        hash: new Uint8Array(32),
        previous: null,
        networks: null,
        expiresAtMs: Infinity,
        refusal: isRevoked ? keyRevoked : null,
        version,
        tenantVersion,
        principal: (standing) => ({ standing }),
      }));
    },
  };
}

test('a key that is revoked while it is being looked up is never let in', async () => {
  const { rows, gate, load } = table();
  const directory = new KeyDirectory({ load, clock: manualClock() });
  rows.set('key', { version: 1, isRevoked: false, tenantVersion: 1 });
  const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
  gate.wait = () => mayGoOn;
  const found = directory.fetch('key');
  // The old row is read; now the change commits and is announced; then the old answer arrives.
  rows.set('key', { version: 2, isRevoked: true, tenantVersion: 1 });
  await directory.refresh(['key']);
  gate.wait = async () => undefined;
  goOn();
  assert.equal((await found)?.standing.refusal, keyRevoked);
});

test('a refresh that fails drops the key, so that nobody is served by what is known to be old', async () => {
  const { rows, gate, load } = table();
  const directory = new KeyDirectory({ load, clock: manualClock() });
  rows.set('key', { version: 1, isRevoked: false, tenantVersion: 1 });
  await directory.fetch('key');
  gate.wait = async () => {
    throw new AppError('database_unavailable', 'The database cannot be reached.');
  };
  await assert.rejects(directory.refresh(['key']));
  assert.equal(directory.find('key'), undefined);
  gate.wait = async () => undefined;
  rows.set('key', { version: 2, isRevoked: true, tenantVersion: 1 });
  assert.equal((await directory.fetch('key'))?.standing.refusal, keyRevoked);
});

test('only keys that are known here, in an older version, are behind a change', async () => {
  const { rows, load } = table();
  const directory = new KeyDirectory({ load, clock: manualClock() });
  rows.set('key', { version: 2, isRevoked: false, tenantVersion: 4 });
  await directory.fetch('key');
  assert.equal(directory.isBehind({ id: 'key', version: 2 }), false);
  assert.equal(directory.isBehind({ id: 'key', version: 3 }), true);
  assert.equal(directory.isBehind({ id: 'other', version: 3 }), false);
  assert.deepEqual(directory.behindOfTenant({ id: 'tenant', version: 4 }), []);
  assert.deepEqual(directory.behindOfTenant({ id: 'tenant', version: 5 }), ['key']);
  assert.deepEqual(directory.behindOfTenant({ id: 'another', version: 5 }), []);
});

test('a change of keys that nobody here uses costs no query', async () => {
  const { gate, load } = table();
  const directory = new KeyDirectory({ load, clock: manualClock() });
  await directory.refresh(['a', 'b']);
  await directory.refreshTenant('tenant');
  assert.equal(gate.reads, 0);
});

test('a key is noted once between two takings, with its first use', async () => {
  const clock = manualClock(0);
  const { rows, load } = table();
  const directory = new KeyDirectory({ load, clock });
  rows.set('key', { version: 1, isRevoked: false, tenantVersion: 1 });
  const key = await directory.fetch('key');
  assert.ok(key);
  clock.advance(1000);
  directory.noteUse(key);
  clock.advance(1000);
  directory.noteUse(key);
  assert.deepEqual(
    directory.takeUses().map(({ usedAtMs }) => usedAtMs),
    [1000],
  );
  assert.deepEqual(directory.takeUses(), []);
  directory.noteUse(key);
  assert.deepEqual(
    directory.takeUses().map(({ usedAtMs }) => usedAtMs),
    [2000],
  );
});
