import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import fc from 'fast-check';
import { asTenantId, type Clock, silentLogger, systemClock } from '#kernel';
import { hasTestRedis, openTestRedis, type TestRedis } from '#testing';
import { describeBroadcastContract } from './broadcast.contract.ts';
import { describeCacheContract } from './cache.contract.ts';
import { describeLeasesContract } from './leases.contract.ts';
import { limitsProcessFile, limitsProcessReport } from './limits-process.testing.ts';
import { windowsProcessFile, windowsProcessReport } from './limits-windows.testing.ts';
import {
  assertNoWindowExceeded,
  callsArbitrary,
  contractSeed,
  describeLimitsContract,
  ruleArbitrary,
  startUs,
} from './limits.contract.ts';
import { memoryLimits } from './memory/limits.ts';
import { redisAddress } from './redis/address.ts';
import { redisBroadcast } from './redis/broadcast.ts';
import { redisCache } from './redis/cache.ts';
import { type RedisConnection, redisConnection } from './redis/connection.ts';
import { redisLeases } from './redis/leases.ts';
import { redisLimits } from './redis/limits.ts';
import { redisRollCall } from './redis/roll-call.ts';

const tenantId = asTenantId(randomUUID());

/** A connection with a deadline that a busy machine keeps. */
function connectionTo(url: string): RedisConnection {
  return redisConnection(
    { clock: systemClock, logger: silentLogger, random: Math.random, onCall: () => undefined },
    { address: redisAddress(url), deadlineMs: 10_000, heartbeatMs: 10_000, giveUpMs: 10_000 },
  );
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, 'it never came about');
    await pause(5);
  }
}

interface Opened {
  readonly redis: TestRedis;
  readonly connection: RedisConnection;
  close(): Promise<void>;
}

async function open(): Promise<Opened> {
  const redis = await openTestRedis();
  const connection = connectionTo(redis.url);
  return {
    redis,
    connection,
    async close() {
      await connection.stop();
      await redis.close();
    },
  };
}

function describeContracts(): void {
  describeCacheContract('on Redis', async () => {
    const { redis, connection, close } = await open();
    await connection.start();
    return { cache: redisCache(connection, redis.prefix), until, close };
  });

  describeLimitsContract('on Redis', { cases: 80 }, async () => {
    const { redis, connection, close } = await open();
    await connection.start();
    let us = 0;
    const limits = redisLimits(connection, { prefix: redis.prefix, nowUs: () => us });
    return { limits, moveTo: (next) => (us = next), close };
  });

  describeLeasesContract('on Redis', async () => {
    const { redis, connection, close } = await open();
    await connection.start();
    const leases = redisLeases(connection, redis.prefix);
    return { leases, others: redisLeases(connection, redis.prefix), until, close };
  });

  describeBroadcastContract('on Redis', async () => {
    const { redis, connection, close } = await open();
    const counts = { onPublished: () => undefined, onReceived: () => undefined };
    const broadcast = redisBroadcast(connection, redis.prefix, { logger: silentLogger, ...counts });
    await connection.start();
    return { broadcast, until, close };
  });
}

interface Call {
  readonly limit: number;
  readonly periodMs: number;
  readonly burst: number;
}

/** Starts processes with these arguments, lets them go all at once, and gathers what they report. */
async function reportsOf<Report>(
  runs: readonly (readonly string[])[],
  shape: { parse(value: unknown): Report },
  onBegin: () => Promise<void> = async () => undefined,
): Promise<readonly Report[]> {
  const children = runs.map((args) => {
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    return { child, lines: createInterface(child.stdout)[Symbol.asyncIterator]() };
  });
  try {
    for (const { lines } of children) assert.equal((await lines.next()).value, 'ready');
    await onBegin();
    for (const { child } of children) child.stdin.write('\n');
    return await Promise.all(
      children.map(async ({ child, lines }) => {
        const { value } = await lines.next();
        if (child.exitCode === null) await once(child, 'exit');
        return shape.parse(JSON.parse(value ?? ''));
      }),
    );
  } finally {
    for (const { child } of children) child.kill('SIGKILL');
  }
}

/** Lets so many processes take at once; what they were allowed in all, and how often they asked. */
async function takeFromProcesses(redis: TestRedis, count: number, rule: Call, durationMs: number) {
  const call = { tenantId, key: randomUUID(), ...rule, cost: 1 };
  const args = [limitsProcessFile, redis.url, redis.prefix, JSON.stringify(call), String(durationMs)];
  let before = 0;
  const reports = await reportsOf(
    Array.from({ length: count }, () => args),
    limitsProcessReport,
    async () => {
      before = await serverTimeUs(redis);
    },
  );
  const elapsedUs = (await serverTimeUs(redis)) - before;
  const sum = (pick: (report: (typeof reports)[number]) => number): number =>
    reports.reduce((total, report) => total + pick(report), 0);
  return { allowed: sum((r) => r.allowed), asked: sum((r) => r.asked), elapsedUs };
}

async function serverTimeUs(redis: TestRedis): Promise<number> {
  const answer = await redis.send('TIME');
  const [seconds, us] = Array.isArray(answer) ? answer.map(Number) : [];
  return (seconds ?? 0) * 1_000_000 + (us ?? 0);
}

function describeLimitsOnOneServer(): void {
  let redis: TestRedis;
  let connection: RedisConnection;
  before(async () => {
    ({ redis, connection } = await open());
    await connection.start();
  });
  after(async () => {
    await connection.stop();
    await redis.close();
  });

  test(`memory and Redis answer alike, also when the rule changes and the clock goes back (seed ${contractSeed})`, async () => {
    let us = 0;
    const clock: Clock = { now: () => us / 1000, monotonic: () => us / 1000 };
    const inMemory = memoryLimits(clock);
    const onServer = redisLimits(connection, { prefix: redis.prefix, nowUs: () => us });
    const part = ruleArbitrary.chain((rule) => fc.tuple(fc.constant(rule), callsArbitrary(rule)));
    const property = fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
      const key = randomUUID();
      us = startUs;
      for (const [rule, calls] of parts) {
        us -= 1_000;
        for (const { waitUs, cost } of calls) {
          us += waitUs;
          const call = { tenantId, key, ...rule, cost };
          assert.deepEqual(await onServer.take(call), inMemory.take(call));
        }
      }
    });
    await fc.assert(property, { seed: contractSeed, numRuns: 40 });
  });

  for (const count of [1, 4]) {
    test(`${count} processes on one Redis are allowed exactly the burst where nothing is paid off`, async () => {
      const rule = { limit: 1, periodMs: 86_400_000, burst: 500 };
      const { allowed, asked } = await takeFromProcesses(redis, count, rule, 1_000);
      console.log(`${count} processes: ${allowed} of ${asked} calls allowed, burst ${rule.burst}`);
      assert.ok(asked > 1_000, 'they asked for more than there was');
      assert.equal(allowed, 500);
    });

    test(`${count} processes on one Redis are allowed the burst and what the time pays off, no call more`, async () => {
      const rule = { limit: 200, periodMs: 1_000, burst: 50 };
      const { allowed, asked, elapsedUs } = await takeFromProcesses(redis, count, rule, 2_000);
      const most = rule.burst + Math.floor((elapsedUs * rule.limit) / (rule.periodMs * 1000));
      console.log(
        `${count} processes: ${allowed} of ${asked} calls allowed in ${elapsedUs} us, at most ${most}`,
      );
      assert.ok(allowed <= most, `${allowed} of at most ${most}`);
      // They asked without a pause for two seconds.
      assert.ok(allowed >= rule.burst + 2 * rule.limit - 20, `${allowed} is too few`);
    });
  }

  for (const count of [1, 4]) {
    const name =
      count === 1
        ? 'one process uses over no window more than the limit, also while estimates are corrected'
        : 'limits do not multiply by the number of processes';
    test(`${name} (seed ${contractSeed})`, async () => {
      const rules = fc.sample(
        fc.record({
          limit: fc.integer({ min: 1, max: 5_000 }),
          periodMs: fc.constantFrom(7, 100, 1_000, 3_000),
          burst: fc.integer({ min: 1, max: 2_000 }),
        }),
        { seed: contractSeed, numRuns: 4 },
      );
      for (const [turn, rule] of rules.entries()) {
        const call = JSON.stringify({ tenantId, key: randomUUID(), ...rule });
        const runs = Array.from({ length: count }, (_, index) => {
          const seed = String(contractSeed + turn * 10 + index);
          return [windowsProcessFile, redis.url, redis.prefix, call, seed, '700'];
        });
        const reports = await reportsOf(runs, windowsProcessReport);
        const admitted = reports.flatMap((report) => report.admitted).toSorted((a, b) => a.atUs - b.atUs);
        assert.ok(admitted.length > 0, JSON.stringify(rule));
        // The window check is quadratic; so many, from the start, hold the burst and the time after it.
        assertNoWindowExceeded(rule, admitted.slice(0, 3_000));
      }
    });
  }

  test('the script is taught again after the server forgot it', async () => {
    const limits = redisLimits(connection, { prefix: redis.prefix });
    const call = { tenantId, key: 'script', limit: 1, periodMs: 3_600_000, burst: 3, cost: 1 };
    assert.equal((await limits.take(call)).remaining, 2);
    // Of the whole server, but scripts are no data: whoever uses them teaches them again, as here.
    await redis.send('SCRIPT', 'FLUSH');
    assert.equal((await limits.take(call)).remaining, 1);
    assert.equal((await limits.take(call)).remaining, 0);
  });

  test('a key that somebody else filled with something does not break a limit', async () => {
    const limits = redisLimits(connection, { prefix: redis.prefix });
    await redis.send('SET', `${redis.prefix}limit:${tenantId}:odd`, 'something else');
    const outcome = await limits.take({ tenantId, key: 'odd', limit: 1, periodMs: 1000, burst: 2, cost: 1 });
    assert.equal(outcome.remaining, 1);
  });
}

function describeRollCall(): void {
  let opened: Opened;
  before(async () => {
    opened = await open();
    await opened.connection.start();
  });
  after(() => opened.close());

  test('each process knows how many there are, also of those that left, and of none before the first answer', async () => {
    const { connection, redis } = opened;
    const settings = { prefix: redis.prefix, logger: silentLogger, everyMs: 10 };
    const [a, b] = ['a', 'b'].map((id) => redisRollCall(connection, id, settings).join('limits'));
    const other = redisRollCall(connection, 'c', settings).join('something-else');
    assert.ok(a && b);
    assert.equal(a.count, null);
    await until(async () => a.count === 2 && b.count === 2);
    await until(async () => other.count === 1);
    await b.leave();
    await until(async () => a.count === 1);
    // A process that died without leaving.
    await redis.send('ZADD', `${redis.prefix}roll:limits`, String(Date.now() - 9_000), 'dead');
    await until(async () => a.count === 2);
    await redis.send('ZADD', `${redis.prefix}roll:limits`, String(Date.now() - 11_000), 'dead');
    await until(async () => a.count === 1);
    await a.leave();
    await other.leave();
    assert.deepEqual(await redis.keys(), []);
  });

  test('the last count stays while the server is away', async () => {
    const { redis } = opened;
    const connection = connectionTo(redis.url);
    await connection.start();
    const settings = { prefix: redis.prefix, logger: silentLogger, everyMs: 10 };
    const presences = ['x', 'y', 'z'].map((id) => redisRollCall(connection, id, settings).join('away'));
    await until(async () => presences.every(({ count }) => count === 3));
    await connection.stop();
    await pause(50);
    assert.deepEqual(
      presences.map(({ count }) => count),
      [3, 3, 3],
    );
    await Promise.all(presences.map((presence) => presence.leave()));
  });
}

function describeKeysOnServer(): void {
  let opened: Opened;
  before(async () => {
    opened = await open();
    await opened.connection.start();
  });
  after(() => opened.close());

  test('fences grow also after the server lost all of its data', async () => {
    const { connection, redis } = opened;
    let last = 0;
    for (let round = 0; round < 20; round++) {
      // A new one each time: what a process remembers is not what makes it grow.
      const leases = redisLeases(connection, redis.prefix);
      const lease = await leases.acquire({ name: 'emptied', holder: `h${round}`, ttlMs: 60_000 });
      assert.ok(lease !== null && lease.fence > last, `${String(lease?.fence)} after ${last}`);
      last = lease.fence;
      await redis.empty();
      assert.equal(await leases.renew(lease, 60_000), false);
    }
  });

  test("fences grow also where the server's clock is behind", async () => {
    const { connection, redis } = opened;
    const ahead = (await serverTimeUs(redis)) + 3_600_000_000;
    await redis.send('SET', `${redis.prefix}fence:behind`, String(ahead));
    const leases = redisLeases(connection, redis.prefix);
    const lease = await leases.acquire({ name: 'behind', holder: 'a', ttlMs: 60_000 });
    assert.equal(lease?.fence, ahead + 1);
    await redis.empty();
    const next = await leases.acquire({ name: 'behind', holder: 'b', ttlMs: 60_000 });
    assert.equal(next?.fence, ahead + 2, 'the process remembers it');
  });

  test('every key begins with the prefix and has an end', async () => {
    const { connection, redis } = opened;
    await redis.empty();
    const before = new Set(await allKeys(redis));
    const cache = redisCache(connection, redis.prefix);
    await cache.set({ tenantId, key: 'k', value: 'v', ttlMs: 60_000 });
    await cache.deleteTenant(tenantId);
    await cache.set({ tenantId, key: 'k', value: 'v', ttlMs: 60_000 });
    await redisLimits(connection, { prefix: redis.prefix }).take({
      tenantId,
      key: 'k',
      limit: 1,
      periodMs: 1000,
      burst: 1,
      cost: 1,
    });
    await redisLeases(connection, redis.prefix).acquire({ name: 'n', holder: 'h', ttlMs: 60_000 });
    const keys = await redis.keys();
    // The generation, a value of it and one of the generation before, a limit, a lease and its fence.
    assert.equal(keys.length, 6);
    for (const key of keys) assert.ok(Number(await redis.send('PTTL', key)) > 0, key);
    const strangers = (await allKeys(redis)).filter((key) => !before.has(key) && !key.startsWith('stoa:'));
    assert.deepEqual(strangers, []);
  });

  test('a load whose tenant was emptied by another process meanwhile stores nothing', async () => {
    const { connection, redis } = opened;
    const [here, elsewhere] = [redisCache(connection, redis.prefix), redisCache(connection, redis.prefix)];
    for (const round of ['nothing was stored before', 'something was']) {
      const at = { tenantId, key: 'loaded', ttlMs: 60_000 };
      const given = await here.getOrLoad(at, async () => {
        await elsewhere.deleteTenant(tenantId);
        return 'old';
      });
      assert.equal(given, 'old');
      assert.equal(await here.get(at), null, round);
      await here.set({ tenantId, key: 'another', value: 'x', ttlMs: 60_000 });
    }
  });
}

async function allKeys(redis: TestRedis): Promise<string[]> {
  const answer = await redis.send('KEYS', '*');
  return Array.isArray(answer) ? answer.map(String) : [];
}

if (hasTestRedis()) {
  describeContracts();
  describe('limits on one Redis', describeLimitsOnOneServer);
  describe('the roll of processes on one Redis', describeRollCall);
  describe('what lies in Redis', describeKeysOnServer);
} else {
  describe('cache, limits, leases and broadcast on Redis', {
    skip: 'needs Redis: npm run test:services',
  }, () => {});
}
