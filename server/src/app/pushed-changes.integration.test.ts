/**
 * What one process changes, another honours within a second: by the push where Redis is there, by the poll where it is
 * not. Two compositions of the control plane on one database stand for two processes; test/journeys has real ones.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { createdApiKey, provider, tenant } from '@stoa/contracts';
import { createAccess } from '#access';
import { type CacheModule, createCache } from '#cache';
import { asTenantId, createSealer, fromTypeId, type Logger, silentLogger, systemClock } from '#kernel';
import { createRegistry, type RegistryModule } from '#registry';
import {
  type ControlPlane,
  createFaultProxy,
  type FaultProxy,
  hasTestRedis,
  openControlPlane,
  openTestDatabase,
  openTestRedis,
  type TestDatabase,
  type TestRedis,
} from '#testing';

const masterKey = randomBytes(32);
const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const metrics = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};
/** So rare that a change which arrives did not come by it. */
const neverMs = 600_000;
const withinMs = 1_000;
const engines = (['extractive', 'scripted'] as const).map((id) => ({
  provider: id,
  id,
  kind: 'chat' as const,
}));

let database: TestDatabase;
let redis: TestRedis;

/** One process as far as the other can tell. */
interface Process {
  readonly plane: ControlPlane;
  readonly registry: RegistryModule;
  readonly shared: CacheModule;
  close(): Promise<void>;
}

async function openProcess(
  redisUrl: string,
  pollEveryMs: number,
  logger: Logger = silentLogger,
): Promise<Process> {
  const shared = createCache(
    { clock: systemClock, logger, metrics, random: Math.random },
    { redisUrl, prefix: redis.prefix },
  );
  const { broadcast } = shared;
  const registry = createRegistry(
    {
      db: database.db,
      providers: new Map(),
      sealer: createSealer(masterKey),
      clock: systemClock,
      logger,
      metrics,
      priceOf: () => null,
      readEnvironment: () => undefined,
      broadcast,
    },
    { openai: null, builtIn: engines, pollEveryMs },
  );
  const plane = await openControlPlane(database.db, {
    masterKey,
    logger,
    broadcast,
    access: { pollIntervalMs: pollEveryMs },
    routes: () => registry.routes,
  });
  await shared.lifecycle.start();
  await plane.access.lifecycle.start();
  await registry.lifecycle.start();
  return {
    plane,
    registry,
    shared,
    async close() {
      await registry.lifecycle.stop();
      await plane.close();
      await shared.lifecycle.stop();
    },
  };
}

interface Pair {
  readonly relay: FaultProxy;
  readonly here: Process;
  readonly there: Process;
}

/** Two processes, each reaching Redis by one relay; `work` gets them and they are closed after it. */
async function withPair(pollEveryMs: number, work: (pair: Pair) => Promise<void>): Promise<void> {
  const relay = await createFaultProxy(redis.url);
  const here = await openProcess(relay.urlOf(redis.url), pollEveryMs);
  const there = await openProcess(relay.urlOf(redis.url), pollEveryMs);
  try {
    await work({ relay, here, there });
  } finally {
    await there.close();
    await here.close();
    await relay.close();
  }
}

/** Milliseconds from now until the condition holds; fails after 10 s. */
async function elapsed(what: string, holds: () => boolean | Promise<boolean>): Promise<number> {
  const startMs = performance.now();
  while (!(await holds())) {
    assert.ok(performance.now() - startMs < 10_000, `it never came about: ${what}`);
    await pause(2);
  }
  return performance.now() - startMs;
}

async function newKey({ plane }: Process) {
  const made = tenant.parse((await plane.admin('POST', '/control/v1/tenants', { body: { name: 'T' } })).body);
  const path = `/control/v1/tenants/${made.id}`;
  const body = { name: 'k', role: 'admin' };
  const { id, key } = createdApiKey.parse((await plane.admin('POST', `${path}/keys`, { body })).body);
  return { path, keyPath: `${path}/keys/${id}`, key, tenantId: asTenantId(fromTypeId('ten', made.id) ?? '') };
}

const statusBy = async ({ plane }: Process, key: string): Promise<number> =>
  (await plane.open('GET', '/v1/keys', { key })).status;

/** What is changed here, and how long it takes until there knows, for each kind of change. */
const changes: Record<string, (pair: Pair) => Promise<number>> = {
  async 'a revoked key'({ here, there }) {
    const { key, keyPath } = await newKey(here);
    assert.equal(await statusBy(there, key), 200);
    assert.equal((await here.plane.admin('DELETE', keyPath)).status, 200);
    return elapsed('the key is refused', async () => (await statusBy(there, key)) === 401);
  },
  async 'a suspended tenant'({ here, there }) {
    const { key, path } = await newKey(here);
    assert.equal(await statusBy(there, key), 200);
    const answer = await here.plane.admin('PATCH', path, { body: { state: 'suspended' } });
    assert.equal(answer.status, 200, answer.text);
    return elapsed('the tenant is refused', async () => (await statusBy(there, key)) === 403);
  },
  async "a revoked operator's key"({ here, there }) {
    const operator = { operator: 'system:test' };
    const { id, key } = await here.plane.access.api.createOperatorKey(operator, { name: 'o' });
    const status = async () => (await there.plane.admin('GET', '/control/v1/tenants', { key })).status;
    assert.equal(await status(), 200);
    assert.equal((await here.plane.admin('DELETE', `/control/v1/operator-keys/${id}`)).status, 200);
    return elapsed('the key is refused', async () => (await status()) === 401);
  },
  async 'a changed policy'({ here, there }) {
    const { key, tenantId } = await newKey(here);
    const allows = async () => {
      const { byId } = there.registry.api.snapshot();
      const target = byId.get('extractive');
      return target !== undefined && (await there.registry.api.policyFor(tenantId)).isAllowed(target);
    };
    assert.equal(await allows(), true);
    const answer = await here.plane.open('PUT', '/v1/policy', {
      key,
      body: { order: [], allowed: ['scripted'] },
    });
    assert.equal(answer.status, 200, answer.text);
    return elapsed('the policy applies', async () => !(await allows()));
  },
  async 'a new model'({ here, there }) {
    const name = `p${randomBytes(4).toString('hex')}`;
    const body = { name, kind: 'openai-compatible', base_url: 'http://127.0.0.1:9/v1', discover: false };
    const made = await here.plane.admin('POST', '/control/v1/providers', { body });
    assert.equal(made.status, 201, made.text);
    const { id } = provider.parse(made.body);
    const model = { target: `${name}/m`, provider_id: id, model: 'm' };
    const answer = await here.plane.admin('POST', '/control/v1/models', { body: model });
    assert.equal(answer.status, 201, answer.text);
    return elapsed('the model is known', () => there.registry.api.snapshot().byId.has(`${name}/m`));
  },
};

function report(how: string, what: string, took: readonly number[]): void {
  const sorted = took.toSorted((a, b) => a - b).map((ms) => ms.toFixed(1));
  console.log(`${what}, ${how}: ${sorted.join(', ')} ms until the other process knew`);
}

function describePush(): void {
  before(async () => {
    database = await openTestDatabase();
    redis = await openTestRedis();
  });
  after(async () => {
    await redis.close();
    await database.close();
  });

  for (const [what, change] of Object.entries(changes)) {
    test(`${what} is honoured by another process within a second by the push alone`, async () => {
      await withPair(neverMs, async (pair) => {
        const took: number[] = [];
        for (let round = 0; round < 5; round++) took.push(await change(pair));
        report('pushed', what, took);
        assert.ok(took.every((ms) => ms < withinMs));
      });
    });

    test(`${what} is honoured by another process within a second with Redis away`, async () => {
      await withPair(500, async (pair) => {
        await pair.relay.set({ isShut: true });
        await elapsed('both know it', () =>
          [pair.here, pair.there].every((p) => !p.shared.health?.isHealthy()),
        );
        const took: number[] = [];
        for (let round = 0; round < 3; round++) took.push(await change(pair));
        report('polled, Redis away', what, took);
        assert.ok(took.every((ms) => ms < withinMs));
      });
    });
  }

  test('a Redis that stopped answering holds no change up, and the poll finds it within a second', async () => {
    await withPair(500, async (pair) => {
      await pair.relay.set({ isSilent: true });
      const { key, keyPath } = await newKey(pair.here);
      assert.equal(await statusBy(pair.there, key), 200);
      const startMs = performance.now();
      assert.equal((await pair.here.plane.admin('DELETE', keyPath)).status, 200);
      const answeredMs = performance.now() - startMs;
      const ms = await elapsed('the key is refused', async () => (await statusBy(pair.there, key)) === 401);
      report('polled, Redis silent', 'a revoked key', [ms]);
      assert.ok(answeredMs < 500, `answered after ${answeredMs} ms`);
      assert.ok(ms < withinMs);
    });
  });

  test('what was changed while Redis was away is read when it comes back, without a poll', async () => {
    await withPair(neverMs, async (pair) => {
      const { here, there, relay } = pair;
      const { key, keyPath, tenantId } = await newKey(here);
      assert.equal(await statusBy(there, key), 200);
      await there.registry.api.policyFor(tenantId);
      await relay.set({ isShut: true });
      await elapsed('both know it', () => [here, there].every((p) => !p.shared.health?.isHealthy()));
      assert.equal(
        (await here.plane.open('PUT', '/v1/policy', { key, body: { order: [], allowed: ['scripted'] } }))
          .status,
        200,
      );
      assert.equal((await here.plane.admin('DELETE', keyPath)).status, 200);
      assert.equal(await statusBy(there, key), 200, 'nobody has told it');
      await relay.set({});
      const ms = await elapsed('the key is refused', async () => (await statusBy(there, key)) === 401);
      const target = there.registry.api.snapshot().byId.get('extractive');
      assert.ok(target);
      await elapsed(
        'the policy applies',
        async () => !(await there.registry.api.policyFor(tenantId)).isAllowed(target),
      );
      report('Redis back', 'a revoked key', [ms]);
      for (const change of Object.values(changes)) assert.ok((await change(pair)) < withinMs);
    });
  });

  test('a look-up that read the key before its revocation does not outlive it', async () => {
    const relay = await createFaultProxy(redis.url);
    const here = await openProcess(relay.urlOf(redis.url), neverMs);
    const { key, keyPath } = await newKey(here);
    // Its look-up reads the row, and its answer is held until after the revocation and the push.
    const held = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    let isHeld = false;
    const slow: typeof database.db = {
      ...database.db,
      withSystem: async (job, fn, options) => {
        const answer = await database.db.withSystem(job, fn, options);
        const isLookUp =
          Array.isArray(answer) && answer.some((row) => typeof row === 'object' && 'hash' in row);
        if (isLookUp && isHeld) {
          isHeld = false;
          reached.resolve();
          await held.promise;
        }
        return answer;
      },
    };
    const shared = createCache(
      { clock: systemClock, logger: silentLogger, metrics, random: Math.random },
      { redisUrl: relay.urlOf(redis.url), prefix: redis.prefix },
    );
    let heard = 0;
    shared.broadcast.subscribe('access.key', { onMessage: () => (heard += 1), onMissed: () => undefined });
    await shared.lifecycle.start();
    const access = createAccess(
      {
        db: slow,
        clock: systemClock,
        logger: silentLogger,
        metrics,
        sealer: createSealer(masterKey),
        broadcast: shared.broadcast,
      },
      { pollIntervalMs: neverMs },
    );
    await access.lifecycle.start();
    await access.api.readChanges();
    isHeld = true;
    const first = Promise.allSettled([access.authenticator.tenant(`Bearer ${key}`, null)]);
    await reached.promise;
    assert.equal((await here.plane.admin('DELETE', keyPath)).status, 200);
    await elapsed('the message arrived', () => heard > 0);
    held.resolve();
    assert.deepEqual(
      (await first).map(({ status }) => status),
      ['rejected'],
    );
    await access.lifecycle.stop();
    await shared.lifecycle.stop();
    await here.close();
    await relay.close();
  });
}

if (hasTestRedis()) {
  describe('changes pushed by Redis', describePush);
} else {
  describe('changes pushed by Redis', { skip: 'needs Redis: npm run test:services' }, () => {});
}
