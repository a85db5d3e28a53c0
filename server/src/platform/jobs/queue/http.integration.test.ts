import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { jobRun, listOf, namedJob } from '@stoa/contracts';
import { sql } from 'kysely';
import { AppError, toTypeId } from '#kernel';
import { type ControlPlane, errorIn, openControlPlane, openTestDatabase, type TestDatabase } from '#testing';
import { z } from 'zod';
import { defineJob, type JobsModule } from '../index.ts';
import { jobsOver, passTime, rowOf, until } from './testing/jobs-over.ts';

const gate = Promise.withResolvers<void>();
const failing = defineJob({
  name: 'document-index',
  scope: 'tenant',
  data: z.strictObject({ document: z.string() }),
  deadlineMs: 30_000,
  retry: { limit: 1, delayMs: 90_000, backoff: false },
  run: async ({ data, progress, tenantId }) => {
    if (data.document === 'slow') {
      progress(0.4, 'embedding');
      await gate.promise;
      return;
    }
    throw new AppError('provider_unreachable', `no ${data.document} of ${String(tenantId)}`);
  },
});
const nightly = defineJob({
  name: 'nightly',
  scope: 'system',
  data: z.object({}),
  schedule: '30 3 * * *',
  deadlineMs: 60_000,
  retry: { limit: 0, delayMs: 0, backoff: false },
  run: async () => undefined,
});

let database: TestDatabase;
let plane: ControlPlane;
let module: JobsModule;
let tenantId: string;
let tenant: string;

before(async () => {
  database = await openTestDatabase();
  tenantId = await database.newTenant();
  tenant = toTypeId('ten', tenantId);
  module = jobsOver(database, [failing, nightly], {}, async (_by, id) => {
    if (id !== tenantId) throw new AppError('not_found', 'There is no such tenant.');
  });
  plane = await openControlPlane(database.db, { routes: () => module.routes });
  await module.lifecycle.start();
});

after(async () => {
  gate.resolve();
  await module.lifecycle.stop();
  await plane.close();
  await database.close();
});

const jobs = listOf(namedJob.strict()).strict();
const runs = listOf(jobRun.strict()).strict();

const runOf = (name: string, body: unknown, headers = {}) =>
  plane.admin('POST', `/control/v1/jobs/${name}/run`, { body, headers });

test('a run is enqueued with 202, found at its location, and in the audit with its tenant', async () => {
  const answer = await runOf('document-index', { tenant_id: tenant, data: { document: 'a' } });
  assert.equal(answer.status, 202);
  const run = jobRun.strict().parse(answer.body);
  const location = `/control/v1/jobs/document-index/runs/${run.id}`;
  assert.equal(run.tenant_id, tenant);
  assert.equal(answer.headers['location'], location);
  await until(async () => {
    const shown = await plane.admin('GET', location);
    return jobRun.parse(shown.body).error !== null;
  });
  const shown = jobRun.parse((await plane.admin('GET', location)).body);
  assert.equal(shown.state, 'waiting');
  assert.equal(shown.attempts, 1);
  assert.equal(shown.error?.code, 'provider_unreachable');
  const entries = await plane.admin('GET', `/control/v1/audit?tenant_id=${tenant}`);
  assert.match(entries.text, /jobs\.run document-index/);
});

test('jobs are listed by name with their counts, schedule, next and last run', async () => {
  const answer = await plane.admin('GET', '/control/v1/jobs');
  assert.equal(answer.status, 200);
  const { data } = jobs.parse(answer.body);
  assert.deepEqual(
    data.map(({ name }) => name),
    ['document-index', 'nightly'],
  );
  const [, night] = data;
  assert.equal(night?.schedule, '30 3 * * *');
  assert.match(night?.next_run ?? '', /T03:30:00\.000Z$/);
  assert.ok(Date.parse(night?.next_run ?? '') > Date.now());
  assert.equal(night?.last_run, null);
  const { body } = await runOf('nightly', {});
  const { id } = jobRun.parse(body);
  await until(
    async () => jobs.parse((await plane.admin('GET', '/control/v1/jobs')).body).data[1]?.last_run !== null,
  );
  const again = jobs.parse((await plane.admin('GET', '/control/v1/jobs?after=document-index')).body);
  assert.equal(again.data[0]?.last_run?.id, id);
  assert.equal(again.data[0]?.last_run?.outcome, 'completed');
  await database.db.withSystem('jobs', (tx) =>
    sql`delete from jobs.job_common where name = 'nightly'`.execute(tx),
  );
  const later = jobs.parse((await plane.admin('GET', '/control/v1/jobs?after=document-index')).body);
  assert.equal(later.data[0]?.last_run?.id, id, 'the last run is known when its row is gone');
});

test('progress, failures for good and lost workers are told in the runs, which filters narrow and pages divide', async () => {
  const slow = await database.db.withTenant({ tenantId }, (tx) =>
    module.api.enqueue(tx, failing, { document: 'slow' }),
  );
  const path = `/control/v1/jobs/document-index/runs/${toTypeId('job', slow)}`;
  await until(async () => jobRun.parse((await plane.admin('GET', path)).body).progress !== null);
  const running = jobRun.parse((await plane.admin('GET', path)).body);
  assert.equal(running.state, 'running');
  assert.deepEqual(running.progress, { value: 0.4, note: 'embedding' });

  const failed = await database.db.withTenant({ tenantId }, (tx) =>
    module.api.enqueue(tx, failing, { document: 'b' }),
  );
  await until(async () => (await rowOf(database, failed))?.state === 'retry');
  await passTime(database, failed);
  await until(async () => (await rowOf(database, failed))?.state === 'failed');

  const list = async (query: string) =>
    runs.parse((await plane.admin('GET', `/control/v1/jobs/document-index/runs${query}`)).body);
  assert.deepEqual(
    (await list('?state=failed')).data.map(({ id, attempts }) => [id, attempts]),
    [[toTypeId('job', failed), 2]],
  );
  assert.deepEqual(
    (await list('?state=running')).data.map(({ id }) => id),
    [toTypeId('job', slow)],
  );
  assert.equal((await list(`?tenant_id=${toTypeId('ten', randomUUID())}`)).data.length, 0);
  const all = (await list(`?tenant_id=${tenant}`)).data.map(({ id }) => id);
  const paged: string[] = [];
  for (let page = await list('?limit=1'); ; page = await list(`?limit=1&after=${String(page.last_id)}`)) {
    paged.push(...page.data.map(({ id }) => id));
    if (!page.has_more) break;
  }
  assert.deepEqual(paged, all);
  assert.deepEqual(paged, [...paged].sort().reverse());
});

test('what cannot be run is refused with the field at fault', async () => {
  const refusal = async (name: string, body: unknown) => {
    const { code, param, status } = errorIn(await runOf(name, body));
    return [status, code, param];
  };
  assert.deepEqual(await refusal('unknown', {}), [404, 'not_found', 'name']);
  assert.deepEqual(await refusal('document-index', { data: { document: 'a' } }), [
    400,
    'invalid_request',
    'tenant_id',
  ]);
  assert.deepEqual(await refusal('nightly', { tenant_id: tenant }), [400, 'invalid_request', 'tenant_id']);
  assert.deepEqual(await refusal('document-index', { tenant_id: tenant, data: {} }), [
    400,
    'invalid_request',
    'data.document',
  ]);
  assert.deepEqual(
    await refusal('document-index', { tenant_id: toTypeId('ten', randomUUID()), data: { document: 'a' } }),
    [404, 'not_found', null],
  );
  for (const path of ['unknown/runs', `document-index/runs/${toTypeId('job', randomUUID())}`]) {
    assert.equal(errorIn(await plane.admin('GET', `/control/v1/jobs/${path}`)).code, 'not_found');
  }
  assert.equal(errorIn(await plane.admin('GET', '/control/v1/jobs/nightly/runs?after=x')).param, 'after');
});

test('a repeated call with an idempotency key enqueues once', async () => {
  const headers = { 'idempotency-key': 'only-once' };
  const first = jobRun.parse((await runOf('nightly', {}, headers)).body);
  const second = jobRun.parse((await runOf('nightly', {}, headers)).body);
  assert.equal(second.id, first.id);
});

test('a tenant’s key does not see jobs', async () => {
  const { status } = await plane.admin('GET', '/control/v1/jobs', { key: 'stoa_sk_000000000000_x' });
  assert.equal(status, 401);
});
