import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { type CacheModule, createCache, memoryLimits, type Presence } from '#cache';
import { asTenantId, silentLogger, systemClock, type TenantPrincipal } from '#kernel';
import { createFaultProxy, type FaultProxy, hasTestRedis, openTestRedis, type TestRedis } from '#testing';
import { createLimitsBook } from './book.ts';
import { createLimiter, type LimitedRequest, type Limiter } from './limiter.ts';

const nothing = { add: () => undefined };
const metrics = {
  counter: () => nothing,
  gauge: () => ({ set: () => undefined }),
  histogram: () => ({ observe: () => undefined }),
  observedGauge: () => undefined,
};
const processes = 4;
/** An hour for each, so that time pays nothing off while the test runs. */
const rule = {
  meter: 'requests',
  per: 'tenant',
  route_class: 'any',
  limit: 1,
  period_s: 3600,
  burst: 40,
} as const;
const tenantId = asTenantId(randomUUID());

function asked(routeClass: LimitedRequest['routeClass']): LimitedRequest {
  const principal: TenantPrincipal = {
    kind: 'tenant',
    tenantId,
    keyId: '00abcdefghij',
    role: 'admin',
    scopes: null,
    projectId: null,
    tags: {},
    standing: { refusal: null },
  };
  return { principal, routeClass, clientAddress: '192.0.2.1', tokens: 0, tokensAsked: 0 };
}

/** One process as far as Redis can tell. */
interface Member {
  readonly cache: CacheModule;
  readonly presence: Presence;
  readonly limiter: Limiter;
}

async function startMember(redisUrl: string, prefix: string): Promise<Member> {
  const deps = { clock: systemClock, logger: silentLogger, metrics, random: Math.random };
  const cache = createCache(deps, { redisUrl, prefix });
  await cache.lifecycle.start();
  const presence = cache.rollCall.join('limits');
  const book = createLimitsBook([rule]);
  const counters = {
    refusals: nothing,
    withoutStore: nothing,
    lostCorrections: nothing,
    unknownKeys: nothing,
  };
  const limiter = createLimiter({
    book,
    limits: cache.limits,
    ownLimits: memoryLimits(systemClock),
    processCount: () => presence.count ?? processes,
    counters,
  });
  return { cache, presence, limiter };
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    assert.ok(Date.now() < deadline, 'it never came about');
    await pause(10);
  }
}

function describeAway(): void {
  let redis: TestRedis;
  let proxy: FaultProxy;
  let members: readonly Member[];
  before(async () => {
    redis = await openTestRedis();
    const { hostname, port } = new URL(redis.url);
    proxy = await createFaultProxy({ host: hostname, port: Number(port || 6379) });
    const url = `redis://127.0.0.1:${proxy.port}`;
    members = await Promise.all(Array.from({ length: processes }, () => startMember(url, redis.prefix)));
    await until(() => members.every(({ presence }) => presence.count === processes));
  });
  after(async () => {
    await proxy.set({});
    await Promise.all(
      members.map(async ({ presence, cache }) => {
        await presence.leave();
        await cache.lifecycle.stop();
      }),
    );
    await proxy.close();
    await redis.close();
  });

  const passed = async (routeClass: LimitedRequest['routeClass'] = 'chat'): Promise<number> => {
    const verdicts = await Promise.all(
      members.flatMap(({ limiter }) =>
        Array.from({ length: 30 }, async () => limiter.check(asked(routeClass))),
      ),
    );
    return verdicts.filter((verdict) => verdict?.refusal === null).length;
  };

  test('with Redis four processes share one limit; without it each holds its part, and together no more than the limit', async () => {
    assert.equal(await passed(), 40);
    await proxy.set({ isShut: true });
    await until(() => members.every(({ cache }) => cache.health?.isHealthy() === false));
    assert.equal(await passed(), 40, 'each its ten of forty');
    assert.equal(await passed(), 0);
    assert.deepEqual(
      members.map(({ presence }) => presence.count),
      Array.from({ length: 4 }, () => processes),
    );
    assert.equal(await passed('auth'), 0);
    const verdict = await members[0]?.limiter.check(asked('auth'));
    assert.equal(verdict?.refusal?.code, 'limits_unavailable');
  });

  test('when Redis is back its own count holds again', async () => {
    await proxy.set({});
    await until(() => members.every(({ cache }) => cache.health?.isHealthy() === true));
    assert.equal(await passed(), 0, 'what was taken before the outage is remembered there');
  });

  test('a Redis that goes silent in the middle costs a request its 100 ms and no answer', async () => {
    await proxy.set({ isSilent: true });
    const startMs = performance.now();
    const verdicts = await Promise.all(members.map(async ({ limiter }) => limiter.check(asked('chat'))));
    assert.ok(verdicts.every((verdict) => verdict?.refusal?.code === 'rate_limit_exceeded'));
    assert.ok(performance.now() - startMs < 5_000);
    await proxy.set({});
  });
}

if (hasTestRedis()) describe('limits while Redis is away', describeAway);
else describe('limits while Redis is away', { skip: 'needs Redis: npm run test:services' }, () => {});
