import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { AppError, asTenantId, type Logger, systemClock } from '#kernel';
import { createFaultProxy, type FaultProxy, hasTestRedis, openTestRedis, type TestRedis } from '#testing';
import { type CacheModule, createCache } from './index.ts';

const tenantId = asTenantId(randomUUID());
const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const metrics = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};
/** What a call may take beyond its deadline on a busy machine. */
const slackMs = 400;
const isAway = (error: unknown): boolean => error instanceof AppError && error.code === 'cache_unavailable';

function linesOf(): { lines: string[]; logger: Logger } {
  const lines: string[] = [];
  const write = (level: string) => (fields: object, message: string) => {
    const cause =
      'err' in fields && fields.err instanceof Error
        ? `${String(fields.err.stack)} ${JSON.stringify(fields.err)}`
        : '';
    lines.push(`${level} ${message} ${JSON.stringify(fields)} ${cause}`);
  };
  const logger: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: () => logger,
  };
  return { lines, logger };
}

async function until(what: string, holds: () => boolean): Promise<number> {
  const startMs = performance.now();
  while (!holds()) {
    assert.ok(performance.now() - startMs < 15_000, `it never came about: ${what}`);
    await pause(5);
  }
  return performance.now() - startMs;
}

/** Milliseconds until a promise settled, and whether it was refused as away. */
async function timed(work: () => unknown): Promise<{ ms: number; isRefused: boolean }> {
  const startMs = performance.now();
  try {
    await work();
    return { ms: performance.now() - startMs, isRefused: false };
  } catch (error) {
    if (!isAway(error)) throw error;
    return { ms: performance.now() - startMs, isRefused: true };
  }
}

const rule = { tenantId, key: 'k', limit: 1_000_000, periodMs: 1000, burst: 1_000_000, cost: 1 };

function everyCall({ cache, limits, leases }: CacheModule): (() => unknown)[] {
  const lease = { name: 'n', holder: 'h', fence: 1 };
  return [
    () => cache.get({ tenantId, key: 'k' }),
    () => cache.set({ tenantId, key: 'k', value: 'v', ttlMs: 1000 }),
    () => cache.delete({ tenantId, key: 'k' }),
    () => cache.deleteTenant(tenantId),
    () => cache.getOrLoad({ tenantId, key: 'k', ttlMs: 1000 }, async () => 'loaded'),
    () => limits.take(rule),
    () => leases.acquire({ name: 'n', holder: 'h', ttlMs: 1000 }),
    () => leases.renew(lease, 1000),
    () => leases.release(lease),
  ];
}

function describeOutages(): void {
  let redis: TestRedis;
  let relay: FaultProxy;
  let module: CacheModule;
  let lines: string[];
  const rejections: unknown[] = [];
  const noteRejection = (reason: unknown): void => {
    rejections.push(reason);
  };

  before(async () => {
    redis = await openTestRedis();
    process.on('unhandledRejection', noteRejection);
  });
  beforeEach(async () => {
    relay = await createFaultProxy(redis.url);
    const log = linesOf();
    ({ lines } = log);
    const deps = { clock: systemClock, logger: log.logger, metrics, random: Math.random };
    module = createCache(deps, { redisUrl: relay.urlOf(redis.url), prefix: redis.prefix });
  });
  afterEach(async () => {
    await module.lifecycle.stop();
    await relay.close();
  });
  after(async () => {
    process.off('unhandledRejection', noteRejection);
    await redis.close();
    assert.deepEqual(rejections, []);
  });

  const isHealthy = (): boolean => module.health?.isHealthy() === true;

  test('a server that is away at the start holds nothing up, and is found when it comes', async () => {
    await relay.set({ isShut: true });
    const startMs = performance.now();
    await module.lifecycle.start();
    assert.ok(performance.now() - startMs < 1_000 + slackMs);
    assert.equal(isHealthy(), false);
    for (const call of everyCall(module)) assert.ok((await timed(call)).ms < slackMs);
    let missed = 0;
    module.broadcast.subscribe('t', { onMessage: () => undefined, onMissed: () => (missed += 1) });
    assert.equal(missed, 0);
    await relay.set({});
    await until('it is up', isHealthy);
    assert.equal(missed, 1);
    assert.equal(await module.cache.set({ tenantId, key: 'k', value: 'v', ttlMs: 60_000 }), true);
    assert.equal(lines.filter((line) => line.startsWith('warn')).length, 1);
  });

  test('a closed port is refused at once, and no call waits', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    server.close();
    await once(server, 'close');
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const { logger } = linesOf();
    const closed = createCache(
      { clock: systemClock, logger, metrics, random: Math.random },
      { redisUrl: `redis://127.0.0.1:${port}`, prefix: redis.prefix },
    );
    await closed.lifecycle.start();
    const took = await Promise.all(everyCall(closed).map(timed));
    assert.ok(took.every(({ ms }) => ms < slackMs));
    assert.equal(took.filter(({ isRefused }) => isRefused).length, 6);
    assert.equal(closed.health?.isHealthy(), false);
    await closed.lifecycle.stop();
  });

  test('a cut line refuses what is under way and what comes, and heals by itself', async () => {
    await module.lifecycle.start();
    assert.equal(isHealthy(), true);
    const [reads, limit] = [module.cache.get({ tenantId, key: 'k' }), timed(() => module.limits.take(rule))];
    await relay.set({ isShut: true });
    await reads;
    await limit;
    await until('it is noticed', () => !isHealthy());
    for (const call of everyCall(module)) assert.ok((await timed(call)).ms < slackMs);
    let missed = 0;
    module.broadcast.subscribe('t', { onMessage: () => undefined, onMissed: () => (missed += 1) });
    await relay.set({});
    await until('it is up', isHealthy);
    await until('listeners know', () => missed === 1);
    assert.equal((await timed(() => module.limits.take(rule))).isRefused, false);
  });

  test('a server that stops answering costs the first calls their deadline and later ones nothing', async () => {
    await module.lifecycle.start();
    await relay.set({ isSilent: true });
    const first = await Promise.all(everyCall(module).map(timed));
    console.log(
      `silent server: first calls took up to ${Math.max(...first.map(({ ms }) => ms)).toFixed(0)} ms`,
    );
    // getOrLoad reads, loads and writes, so it meets two calls.
    assert.ok(first.every(({ ms }) => ms < 200 + slackMs));
    assert.equal(isHealthy(), false);
    const startMs = performance.now();
    for (let index = 0; index < 1000; index++)
      assert.ok((await timed(() => module.limits.take(rule))).isRefused);
    console.log(`silent server: 1,000 later calls took ${(performance.now() - startMs).toFixed(0)} ms`);
    assert.ok(performance.now() - startMs < slackMs);
    await until('the silent connection is given up', () => relay.taken > 1);
    await relay.set({ isShut: true });
    await relay.set({});
    await until('it is up', isHealthy);
  });

  test('a silent server is noticed while nobody calls', async () => {
    await module.lifecycle.start();
    await relay.set({ isSilent: true });
    await until('it is noticed', () => !isHealthy());
  });

  test('a server that comes back to itself before the connection is given up is used at once', async () => {
    await module.lifecycle.start();
    await redis.send('CLIENT', 'PAUSE', '300');
    const { isRefused, ms } = await timed(() => module.limits.take(rule));
    assert.ok(isRefused && ms < 100 + slackMs);
    assert.equal(isHealthy(), false);
    await until('it is up', isHealthy);
    assert.equal(relay.taken, 1);
    assert.equal((await timed(() => module.limits.take(rule))).isRefused, false);
  });

  test('a process that stood still itself does not take the server for dead', async () => {
    const { logger } = linesOf();
    // Not by the relay, which stands still too.
    const direct = createCache(
      { clock: systemClock, logger, metrics, random: Math.random },
      { redisUrl: redis.url, prefix: redis.prefix },
    );
    await direct.lifecycle.start();
    for (const turnsBefore of [0, 1, 2]) {
      const call = timed(() => direct.limits.take(rule));
      for (let turn = 0; turn < turnsBefore; turn++) await new Promise((resolve) => setImmediate(resolve));
      const endMs = performance.now() + 300;
      while (performance.now() < endMs);
      assert.equal((await call).isRefused, false, `after ${turnsBefore} turns`);
      assert.equal(direct.health?.isHealthy(), true);
    }
    await direct.lifecycle.stop();
  });

  test('a password is in no line and no error, whatever goes wrong', async () => {
    const { lines: written, logger } = linesOf();
    const secret = 'hunter2-very-secret';
    const target = new URL(relay.urlOf(redis.url));
    target.username = 'somebody';
    target.password = secret;
    const refused = createCache(
      { clock: systemClock, logger, metrics, random: Math.random },
      { redisUrl: target.href, prefix: redis.prefix },
    );
    await refused.lifecycle.start();
    assert.equal(refused.health?.isHealthy(), false);
    assert.equal(written.length, 1);
    assert.match(written.join(), /WRONGPASS/);
    const errors = await Promise.allSettled(everyCall(refused).map(async (call) => call()));
    await refused.lifecycle.stop();
    assert.ok(!JSON.stringify([written, errors.map(String)]).includes(secret));
    for (const wrong of [`redis://u:${secret}@host/x`, `redis://:${secret}@host?ca=1`, `http://${secret}@`]) {
      const deps = { clock: systemClock, logger, metrics, random: Math.random };
      assert.throws(
        () => createCache(deps, { redisUrl: wrong }),
        (error: unknown) =>
          error instanceof Error && !`${error.message} ${String(error.stack)}`.includes(secret),
      );
    }
  });

  test('a server that answers and cannot serve counts as away, and is told of once', async () => {
    const user = `stoa-test-${randomUUID()}`;
    const rights = ['~*', '&*', '+@all', '-eval', '-evalsha'];
    await redis.send('ACL', 'SETUSER', user, 'on', '>of-the-test', ...rights);
    const { lines: written, logger } = linesOf();
    const target = new URL(redis.url);
    target.username = user;
    target.password = 'of-the-test';
    const refused = createCache(
      { clock: systemClock, logger, metrics, random: Math.random },
      { redisUrl: target.href, prefix: redis.prefix },
    );
    try {
      await refused.lifecycle.start();
      for (const call of everyCall(refused)) await timed(call);
      assert.equal((await timed(() => refused.limits.take(rule))).isRefused, true);
      assert.equal(written.filter((line) => /cannot serve.*NOPERM/.test(line)).length, 1);
      await redis.send('ACL', 'SETUSER', user, '+eval', '+evalsha');
      assert.equal((await timed(() => refused.limits.take(rule))).isRefused, false);
    } finally {
      await refused.lifecycle.stop();
      await redis.send('ACL', 'DELUSER', user);
    }
  });

  test('a stop waits for no server', async () => {
    await module.lifecycle.start();
    await relay.set({ isSilent: true });
    const { ms } = await timed(() => module.lifecycle.stop());
    assert.ok(ms < 100 + slackMs);
  });
}

if (hasTestRedis()) {
  describe('Redis away', describeOutages);
} else {
  describe('Redis away', { skip: 'needs Redis: npm run test:services' }, () => {});
}
