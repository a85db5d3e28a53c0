import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import * as contracts from '@stoa/contracts';
import { sql } from 'kysely';
import type { Database } from '#db';
import { createEvents, type EventConsumer } from '#events';
import { creatingOperatorRoute, operatorRoute, tenantRoute } from '#http';
import { createJobs, defineJob } from '#jobs';
import { createSealer, type ManualClock, manualClock, newUuid, silentLogger, systemClock } from '#kernel';
import { createPrices } from '#prices';
import { createRegistry } from '#registry';
import {
  type Answer,
  type ControlPlane,
  type ControlPlaneOptions,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
  testedAdapters,
} from '#testing';
import { createWebhooks } from '#webhooks';
import { z } from 'zod';
import { mortalDatabase } from './mortal-database.harness.ts';

/**
 * Every endpoint that honours Idempotency-Key, over HTTP: a process is lost right before or right after the commit of its
 * change, and another gets the repeat. A new creating POST has to be entered in `casesOf`, or the first test fails.
 */
const keyed: readonly contracts.Endpoint[] = Object.values<unknown>(contracts).filter(
  (value): value is contracts.Endpoint =>
    typeof value === 'object' && value !== null && 'idempotent' in value && value.idempotent === 'key',
);

interface Case {
  readonly path: string;
  /** Another body with each call. */
  body(): Record<string, unknown>;
  /** Where the change shows, one row for each. */
  readonly table: string;
  readonly key: string;
  /** Where there is no other body to send. */
  readonly hasOneBody?: true;
}

interface Stage {
  readonly database: TestDatabase;
  readonly clock: ManualClock;
  readonly living: ControlPlane;
  readonly cases: ReadonlyMap<string, Case>;
  /** A process of its own on this database, or on what a test makes of it. */
  open(db: Database): Promise<ControlPlane>;
  close(): Promise<void>;
}

const created = z.object({ id: z.string() });
const createdKey = z.object({ key: z.string() });
const noMetric = { add: () => undefined, set: () => undefined, observe: () => undefined };
const noMetrics = {
  counter: () => noMetric,
  gauge: () => noMetric,
  histogram: () => noMetric,
  observedGauge: () => undefined,
};
const span = { traceId: '', traceparent: '', setAttribute: () => undefined, end: () => undefined };
const noTraces = { isEnabled: false, startRequest: () => span, startChild: () => span };
const replayed: EventConsumer = {
  name: 'test.replayed',
  types: ['control.changed.v1'],
  door: 'tenant',
  isReplayable: true,
  handle: () => Promise.resolve(),
};
const asked = defineJob({
  name: 'test-asked',
  scope: 'system',
  data: z.strictObject({ number: z.string() }),
  deadlineMs: 1_000,
  retry: { limit: 0, delayMs: 1_000, backoff: false },
  run: () => Promise.resolve(),
});

/** Lets every address pass and calls none. */
const noOutbound: NonNullable<ControlPlaneOptions['outbound']> = {
  check: () => null,
  call: () => Promise.reject(new Error('nothing is called here')),
};

/** Jobs and events as every process has them, but that nothing runs. */
function furtherParts(db: Database, clock: ManualClock) {
  const jobs = createJobs(
    {
      db,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      operatorRoute,
      creatingOperatorRoute,
      requireTenant: () => Promise.resolve(),
    },
    { isWorker: false },
  );
  jobs.register([asked]);
  const events = createEvents(
    {
      db,
      clock,
      logger: silentLogger,
      metrics: noMetrics,
      tracer: noTraces,
      http: { operatorRoute, tenantRoute, creatingOperatorRoute },
      consumers: [replayed],
      carrier: null,
    },
    { eventDays: 7, isAlone: true },
  );
  return { jobs, routes: [...jobs.routes, ...events.routes] };
}

async function openStage(adapter: TestDatabase['adapter']): Promise<Stage> {
  const database = await openTestDatabase({ adapter });
  const clock = manualClock(Date.now());
  const masterKey = randomBytes(32);
  const opened: { close(): Promise<void> }[] = [];
  const open = async (db: Database): Promise<ControlPlane> => {
    const prices = createPrices({ db, clock: systemClock, logger: silentLogger }, { pollEveryMs: 3_600_000 });
    const registry = createRegistry(
      {
        db,
        providers: new Map(),
        sealer: createSealer(masterKey),
        clock,
        logger: silentLogger,
        metrics: noMetrics,
        priceOf: () => null,
        readEnvironment: () => undefined,
      },
      { openai: null, builtIn: [], pollEveryMs: 3_600_000 },
    );
    const further = furtherParts(db, clock);
    await prices.lifecycle.start();
    await registry.lifecycle.start();
    const webhooks = createWebhooks({
      db,
      guarded: noOutbound,
      jobs: () => further.jobs.api,
      sealer: createSealer(masterKey),
      clock,
      logger: silentLogger,
      metrics: noMetrics,
      random: Math.random,
    });
    further.jobs.register(webhooks.jobs);
    await further.jobs.lifecycle.start();
    const plane = await openControlPlane(db, {
      clock,
      masterKey,
      outbound: noOutbound,
      // The clock is moved by a minute for each endpoint, and nothing polls here.
      access: { maximumAgeMs: 86_400_000 },
      routes: () => [...registry.routes, ...prices.routes, ...further.routes, ...webhooks.routes],
    });
    opened.push({
      async close() {
        await plane.close();
        await further.jobs.lifecycle.stop();
        await registry.lifecycle.stop();
        await prices.lifecycle.stop();
      },
    });
    return plane;
  };
  const living = await open(database.db);
  return {
    database,
    clock,
    living,
    cases: await casesOf(living),
    open,
    async close() {
      for (const one of opened) await one.close();
      await database.close();
    },
  };
}

async function casesOf(plane: ControlPlane): Promise<ReadonlyMap<string, Case>> {
  const key = plane.operatorKey;
  const make = async (path: string, body: object): Promise<unknown> =>
    (await plane.admin('POST', path, { body })).body;
  const { id: tenantId } = created.parse(await make('/control/v1/tenants', { name: 'T' }));
  const tenantPath = `/control/v1/tenants/${tenantId}`;
  const keysPath = `${tenantPath}/keys`;
  const membersPath = `${tenantPath}/members`;
  const admin = createdKey.parse(await make(keysPath, { name: 'admin', role: 'admin' }));
  const connection = { kind: 'openai-compatible', base_url: 'http://127.0.0.1:9/v1', discover: false };
  const provider = created.parse(await make('/control/v1/providers', { name: 'first', ...connection }));
  let made = 0;
  const next = (): string => `n${(made += 1)}`;
  const named = () => ({ name: next() });
  const newKey = () => ({ ...named(), role: 'viewer' });
  const seconds = () => ({ overlap_seconds: (made += 1) });
  const own = async (path: string, body: object): Promise<string> =>
    created.parse((await plane.open('POST', path, { key: admin.key, body })).body).id;
  const keyId = await own('/v1/keys', newKey());
  const hook = () => ({ url: 'https://hooks.example.com/', event_types: ['*'], description: next() });
  const webhookPath = `/v1/webhooks/${await own('/v1/webhooks', hook())}`;
  const deliveryId = await own(`${webhookPath}/test`, {});
  const operatorKeyId = created.parse(await make('/control/v1/operator-keys', named())).id;
  const issuer = () => ({
    ...named(),
    issuer: 'https://id.example.test',
    jwks_url: 'https://id.example.test/jwks.json',
    audience: `${tenantId}/${next()}`,
    claims: { default_role: 'viewer' },
  });
  const audited = 'tenant.audit_entries';
  const rotations =
    "(select 1 from platform.operator_audit_entries where action = 'operator_keys.rotate') made";
  return new Map<string, Case>([
    ['keys.rotate', { path: `/v1/keys/${keyId}/rotate`, body: seconds, table: audited, key: admin.key }],
    ['tenant_keys.rotate', { path: `${keysPath}/${keyId}/rotate`, body: seconds, table: audited, key }],
    [
      'webhooks.create',
      { path: '/v1/webhooks', body: hook, table: 'tenant.webhook_endpoints', key: admin.key },
    ],
    [
      'webhooks.rotate-secret',
      { path: `${webhookPath}/rotate-secret`, body: seconds, table: audited, key: admin.key },
    ],
    [
      'webhooks.test',
      {
        path: `${webhookPath}/test`,
        body: () => ({}),
        hasOneBody: true,
        table: 'tenant.webhook_deliveries',
        key: admin.key,
      },
    ],
    [
      'webhooks.deliveries.redeliver',
      {
        path: `${webhookPath}/deliveries/${deliveryId}/redeliver`,
        body: () => ({}),
        hasOneBody: true,
        table: audited,
        key: admin.key,
      },
    ],
    ['tenants.create', { path: '/control/v1/tenants', body: named, table: 'tenant.tenants', key }],
    ['tenant_keys.create', { path: keysPath, body: newKey, table: 'tenant.api_keys', key }],
    [
      'operator_keys.create',
      {
        path: '/control/v1/operator-keys',
        body: named,
        // Each process that is opened here makes one of its own.
        table: "(select 1 from platform.operator_keys where name <> 'test') made",
        key,
      },
    ],
    ['tenant_members.create', { path: membersPath, body: newKey, table: 'tenant.members', key }],
    ['members.create', { path: '/v1/members', body: newKey, table: 'tenant.members', key: admin.key }],
    ['issuers.create', { path: '/v1/issuers', body: issuer, table: 'tenant.issuers', key: admin.key }],
    ['tenant_issuers.create', { path: `${tenantPath}/issuers`, body: issuer, table: 'tenant.issuers', key }],
    [
      'operator_keys.rotate',
      {
        path: `/control/v1/operator-keys/${operatorKeyId}/rotate`,
        body: seconds,
        table: rotations,
        key,
      },
    ],
    ['keys.create', { path: '/v1/keys', body: newKey, table: 'tenant.api_keys', key: admin.key }],
    [
      'providers.create',
      {
        path: '/control/v1/providers',
        body: () => ({ ...named(), ...connection }),
        table: 'platform.providers',
        key,
      },
    ],
    [
      'control_models.create',
      {
        path: '/control/v1/models',
        body: () => ({ target: next(), provider_id: provider.id }),
        table: 'platform.models',
        key,
      },
    ],
    [
      'prices.import',
      {
        path: '/control/v1/prices/import',
        body: () => ({ entries: [{ target: next(), rates: { input: '1' } }] }),
        table: 'platform.price_revisions',
        key,
      },
    ],
    [
      'jobs.run',
      {
        path: `/control/v1/jobs/${asked.name}/run`,
        body: () => ({ data: { number: next() } }),
        table: 'jobs.job_common',
        key,
      },
    ],
    [
      'event-replays.create',
      {
        path: '/control/v1/event-replays',
        body: () => ({
          tenant_id: tenantId,
          consumer: replayed.name,
          from: new Date(Date.now() - 1_000 * (made += 1)).toISOString(),
        }),
        table: 'tenant.event_replays',
        key,
      },
    ],
  ]);
}

test('a creating POST cannot be wired without keeping its answer, and none is left out here', () => {
  assert.deepEqual(
    keyed.map(({ id }) => id).sort(),
    [
      'control_models.create',
      'event-replays.create',
      'issuers.create',
      'jobs.run',
      'keys.create',
      'keys.rotate',
      'members.create',
      'operator_keys.create',
      'operator_keys.rotate',
      'prices.import',
      'providers.create',
      'tenant_issuers.create',
      'tenant_keys.create',
      'tenant_keys.rotate',
      'tenant_members.create',
      'tenants.create',
      'webhooks.create',
      'webhooks.deliveries.redeliver',
      'webhooks.rotate-secret',
      'webhooks.test',
    ],
    'enter the endpoint in casesOf',
  );
  for (const endpoint of keyed) {
    assert.throws(() => operatorRoute(endpoint, async () => ({ status: 201 })), /creating/);
    assert.throws(() => tenantRoute(endpoint, async () => ({ status: 201 })), /creating/);
  }
});

for (const adapter of testedAdapters()) {
  let stage: Stage;
  before(async () => {
    stage = await openStage(adapter);
  });
  after(async () => {
    await stage.close();
  });

  const send = (plane: ControlPlane, endpoint: contracts.Endpoint, body: unknown, idempotencyKey: string) => {
    const { path, key } = caseOf(endpoint);
    const call = { key, body, headers: { 'idempotency-key': idempotencyKey } };
    return endpoint.listener === 'admin' ? plane.admin('POST', path, call) : plane.open('POST', path, call);
  };
  const caseOf = ({ id }: contracts.Endpoint): Case => {
    const found = stage.cases.get(id);
    assert.ok(found, `${id} is not in casesOf`);
    return found;
  };
  const rowsIn = async (table: string): Promise<number> => {
    const { rows } = await stage.database.db.withOperator({ operator: 'system:test' }, 'count', (tx) =>
      sql<{ count: bigint }>`select count(*) from ${sql.raw(table)}`.execute(tx),
    );
    return Number(rows[0]?.count);
  };
  /** How the head and the body of an answer read, apart from what every answer has of its own. */
  const told = ({ status, headers, text }: Answer) => [status, headers['location'], headers['etag'], text];
  const isAnswerOf = (endpoint: contracts.Endpoint, answer: Answer): void => {
    const schema = endpoint.responses[answer.status]?.schema;
    assert.ok(schema, `${endpoint.id}: ${answer.status} ${answer.text}`);
    schema.parse(answer.body);
  };

  for (const endpoint of keyed) {
    const named = (text: string): string => `${endpoint.id}: ${text} (${adapter})`;

    test(
      named('of a process that is lost after its commit the next one gives the answer, at once'),
      async () => {
        const { body, table } = caseOf(endpoint);
        const [sent, idempotencyKey, rowsBefore] = [body(), newUuid(), await rowsIn(table)];
        const process = mortalDatabase(stage.database.db, idempotencyKey, 'after');
        const lost = await send(await stage.open(process.db), endpoint, sent, idempotencyKey);
        assert.equal(lost.status, 503, lost.text);
        assert.ok(process.isDead(), 'the change did not keep its answer in its transaction');
        const repeats = [
          await send(stage.living, endpoint, sent, idempotencyKey),
          await send(stage.living, endpoint, sent, idempotencyKey),
        ];
        for (const repeat of repeats) isAnswerOf(endpoint, repeat);
        assert.deepEqual(repeats.map(told)[1], repeats.map(told)[0]);
        assert.equal(await rowsIn(table), rowsBefore + 1);
      },
    );

    test(
      named('of a process that is lost before its commit nothing is left; the repeat runs after 60 s'),
      async () => {
        const { body, table } = caseOf(endpoint);
        const [sent, idempotencyKey, rowsBefore] = [body(), newUuid(), await rowsIn(table)];
        const process = mortalDatabase(stage.database.db, idempotencyKey, 'before');
        await send(await stage.open(process.db), endpoint, sent, idempotencyKey);
        assert.ok(process.isDead());
        assert.equal(await rowsIn(table), rowsBefore);
        const early = errorIn(await send(stage.living, endpoint, sent, idempotencyKey));
        assert.equal(early.code, 'idempotency_in_progress');
        stage.clock.advance(60_000);
        isAnswerOf(endpoint, await send(stage.living, endpoint, sent, idempotencyKey));
        assert.equal(await rowsIn(table), rowsBefore + 1);
      },
    );

    test(
      named('two at once make one change, a repeat gets the first answer, another body is refused'),
      async () => {
        const { body, table, hasOneBody } = caseOf(endpoint);
        const [sent, idempotencyKey, rowsBefore] = [body(), newUuid(), await rowsIn(table)];
        const other = await stage.open(stage.database.db);
        const both = await Promise.all([
          send(stage.living, endpoint, sent, idempotencyKey),
          send(other, endpoint, sent, idempotencyKey),
        ]);
        const answered = both.filter(({ status }) => status < 300);
        for (const refused of both.filter(({ status }) => status >= 300))
          assert.equal(errorIn(refused).code, 'idempotency_in_progress');
        const repeat = await send(other, endpoint, sent, idempotencyKey);
        assert.ok(answered.length > 0);
        for (const answer of answered) assert.deepEqual(told(answer), told(repeat));
        isAnswerOf(endpoint, repeat);
        if (hasOneBody !== true) {
          const conflict = errorIn(await send(stage.living, endpoint, body(), idempotencyKey));
          assert.deepEqual([conflict.status, conflict.code], [409, 'idempotency_conflict']);
        }
        assert.equal(await rowsIn(table), rowsBefore + 1);
      },
    );
  }
}
