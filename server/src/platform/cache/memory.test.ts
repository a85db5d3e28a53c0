import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { asTenantId, type Clock, type ManualClock, manualClock, silentLogger } from '#kernel';
import { describeBroadcastContract } from './broadcast.contract.ts';
import { describeCacheContract } from './cache.contract.ts';
import { describeLeasesContract } from './leases.contract.ts';
import { describeLimitsContract } from './limits.contract.ts';
import { memoryBroadcast } from './memory/broadcast.ts';
import { memoryCache } from './memory/cache.ts';
import { memoryLeases } from './memory/leases.ts';
import { memoryLimits } from './memory/limits.ts';

const close = async (): Promise<void> => undefined;
const tenantId = asTenantId(randomUUID());

function untilOf(clock: ManualClock) {
  return async (holds: () => Promise<boolean>): Promise<void> => {
    for (let steps = 0; !(await holds()); steps++) {
      assert.ok(steps < 1000, 'it never came about');
      clock.advance(10);
    }
  };
}

describeCacheContract('in memory', async () => {
  const clock = manualClock();
  return { cache: memoryCache(clock), until: untilOf(clock), close };
});

describeLimitsContract('in memory', { cases: 2_000 }, async () => {
  let us = 0;
  const clock: Clock = { now: () => us / 1000, monotonic: () => us / 1000 };
  return { limits: memoryLimits(clock), moveTo: (next) => (us = next), close };
});

describeLeasesContract('in memory', async () => {
  const clock = manualClock();
  const leases = memoryLeases(clock);
  return { leases, others: leases, until: untilOf(clock), close };
});

describeBroadcastContract('in memory', async () => ({
  broadcast: memoryBroadcast(silentLogger),
  until: untilOf(manualClock()),
  close,
}));

test('the cache in memory holds its number of entries, the least recently used out', async () => {
  const cache = memoryCache(manualClock(), { maximumEntries: 3 });
  const put = (key: string) => cache.set({ tenantId, key, value: key, ttlMs: 1000 });
  for (const key of ['a', 'b', 'c']) await put(key);
  await cache.get({ tenantId, key: 'a' });
  await put('d');
  const held = await Promise.all(['a', 'b', 'c', 'd'].map((key) => cache.get({ tenantId, key })));
  assert.deepEqual(held, ['a', null, 'c', 'd']);
});

test('the cache in memory holds its number of bytes', async () => {
  const cache = memoryCache(manualClock(), { maximumBytes: 100_000 });
  for (let index = 0; index < 50; index++)
    await cache.set({ tenantId, key: `k${index}`, value: 'x'.repeat(10_000), ttlMs: 1000 });
  const held = await Promise.all(
    Array.from({ length: 50 }, (_, index) => cache.get({ tenantId, key: `k${index}` })),
  );
  assert.deepEqual(held.map((value) => value !== null).lastIndexOf(false), 45);
  assert.equal(await cache.set({ tenantId, key: 'huge', value: 'x'.repeat(60_000), ttlMs: 1000 }), false);
});

test('limits in memory forget paid debts by themselves and hold their number of keys', () => {
  const clock = manualClock();
  const limits = memoryLimits(clock, { maximumKeys: 10 });
  const rule = { limit: 1, periodMs: 1000, burst: 1, cost: 1 };
  for (let index = 0; index < 11; index++) limits.take({ tenantId, key: `k${index}`, ...rule });
  assert.equal(limits.take({ tenantId, key: 'k10', ...rule }).isAllowed, false);
  assert.equal(limits.take({ tenantId, key: 'k1', ...rule }).isAllowed, false);
  assert.equal(limits.take({ tenantId, key: 'k0', ...rule }).isAllowed, true);
});
