import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, afterEach, before, describe, test } from 'node:test';
import { type RawBuilder, sql } from 'kysely';
import { AppError, silentLogger, systemClock } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { z } from 'zod';
import {
  createTimers,
  defineJob,
  type Job,
  type JobContext,
  type JobDeclaration,
  type JobsModule,
} from '../index.ts';
import { jobsOver, passTime, rowOf, until } from './testing/jobs-over.ts';

const pointer = z.object({ row: z.string() });
type Pointer = z.infer<typeof pointer>;

const trace = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

/** Arguments of the right types, so that only the right to call is missing. */
const callOf: Readonly<Record<string, string>> = {
  enqueue: `gen_random_uuid(), 'x', gen_random_uuid(), '{}'::jsonb, null, null, null`,
  put_job: `gen_random_uuid(), 'x', 'system', '{}'::jsonb, null, null, null`,
  take_job: `array['x'], ''`,
  create_queue: `'x', '{}'::jsonb`,
};

let named = 0;

/** A job under a name of its own, so that tests on one database don't meet. */
function jobOf(
  run: (context: JobContext<Pointer>) => Promise<void>,
  changes: Partial<Omit<JobDeclaration<typeof pointer>, 'run' | 'data'>> = {},
): Job<Pointer> {
  named += 1;
  return defineJob({
    name: `job-${named}`,
    scope: 'tenant',
    data: pointer,
    deadlineMs: 30_000,
    retry: { limit: 2, delayMs: 0, backoff: false },
    run,
    ...changes,
  });
}

for (const adapter of testedAdapters()) {
  describe(`jobs, on ${adapter}`, () => {
    let database: TestDatabase;
    let tenantId: string;
    const open: JobsModule[] = [];

    before(async () => {
      database = await openTestDatabase({ adapter });
      tenantId = await database.newTenant();
    });
    after(() => database.close());
    afterEach(async () => {
      await Promise.all(open.splice(0).map(({ lifecycle }) => lifecycle.stop()));
    });

    async function started(
      jobs: readonly Job<Pointer>[],
      settings: Parameters<typeof jobsOver>[2] = {},
    ): Promise<JobsModule> {
      const module = jobsOver(database, jobs, settings);
      open.push(module);
      await module.lifecycle.start();
      return module;
    }

    const enqueue = (
      { api }: JobsModule,
      job: Job<Pointer>,
      row: string,
      options: Parameters<JobsModule['api']['enqueue']>[3] = {},
    ): Promise<string> =>
      database.db.withTenant({ tenantId }, (tx) => api.enqueue(tx, job, { row }, options));

    const stateIs = (id: string, state: string) => async (): Promise<boolean> =>
      (await rowOf(database, id))?.state === state;

    test('a job of a committed transaction runs with its tenant, data, trace and id; of a rolled back one never', async () => {
      const seen: JobContext<Pointer>[] = [];
      const job = jobOf(async (context) => {
        seen.push(context);
      });
      const module = await started([job]);
      await assert.rejects(
        database.db.withTenant({ tenantId }, async (tx) => {
          await module.api.enqueue(tx, job, { row: 'never' });
          throw new Error('planted');
        }),
        /planted/,
      );
      const id = await enqueue(module, job, 'a', { traceparent: trace });
      await until(stateIs(id, 'completed'));
      assert.equal(seen.length, 1);
      const [context] = seen;
      assert.equal(context?.tenantId, tenantId);
      assert.deepEqual(context?.data, { row: 'a' });
      assert.equal(context?.jobId, id);
      assert.equal(context?.traceparent, trace);
      assert.equal(context?.attempt, 1);
    });

    test('a tenant enqueues for itself only, jobs of tenants only, and declared names only', async () => {
      const own = jobOf(async () => undefined);
      const platform = jobOf(async () => undefined, { scope: 'system' });
      const unknown = jobOf(async () => undefined);
      const module = await started([own, platform], { isWorker: false });
      await assert.rejects(enqueue(module, platform, 'x'), /no job of tenants named/);
      await assert.rejects(enqueue(module, unknown, 'x'), /no job of tenants named/);
      for (const name of ['enqueue', 'put_job', 'take_job', 'create_queue']) {
        await assert.rejects(
          database.db.withTenant({ tenantId }, (tx) =>
            sql`select * from ${sql.raw(`jobs.${name}`)}(${sql.raw(callOf[name] ?? '')})`.execute(tx),
          ),
          /permission denied for function/,
          name,
        );
      }
      for (const table of ['job', 'job_common', 'named_jobs', 'queue']) {
        await assert.rejects(
          database.db.withTenant({ tenantId }, (tx) =>
            sql`select 1 from ${sql.raw(`jobs.${table}`)}`.execute(tx),
          ),
          /permission denied/,
        );
      }
    });

    test('the same key is the same job, for each tenant by itself', async () => {
      const job = jobOf(async () => undefined);
      const module = await started([job], { isWorker: false });
      const first = await enqueue(module, job, 'a', { key: 'once' });
      assert.equal(await enqueue(module, job, 'b', { key: 'once' }), first);
      assert.notEqual(await enqueue(module, job, 'b', { key: 'twice' }), first);
      const other = await database.newTenant();
      const others = await database.db.withTenant({ tenantId: other }, (tx) =>
        module.api.enqueue(tx, job, { row: 'c' }, { key: 'once' }),
      );
      assert.notEqual(others, first);
    });

    test('a failed attempt runs again after its delay, up to the limit, and its error is kept', async () => {
      let attempts = 0;
      const job = jobOf(
        async () => {
          attempts += 1;
          throw new AppError('provider_unreachable', `attempt ${attempts}`);
        },
        { retry: { limit: 1, delayMs: 60_000, backoff: false } },
      );
      const module = await started([job]);
      const before = Date.now();
      const id = await enqueue(module, job, 'a');
      await until(stateIs(id, 'retry'));
      const waiting = await rowOf(database, id);
      assert.ok((waiting?.start_after.getTime() ?? 0) >= before + 59_000);
      await passTime(database, id);
      await until(stateIs(id, 'failed'));
      assert.equal(attempts, 2);
      assert.deepEqual((await rowOf(database, id))?.output, {
        code: 'provider_unreachable',
        message: 'attempt 2',
      });
    });

    test('what cannot even be asked what it is fails the attempt, and the worker goes on', async () => {
      const { proxy, revoke } = Proxy.revocable({}, {});
      revoke();
      const strange: unknown = proxy;
      const job = jobOf(
        async ({ attempt }) => {
          if (attempt === 1) throw strange;
        },
        { retry: { limit: 1, delayMs: 60_000, backoff: false } },
      );
      const module = await started([job]);
      const id = await enqueue(module, job, 'a');
      await until(stateIs(id, 'retry'));
      await passTime(database, id);
      await until(stateIs(id, 'completed'));
    });

    test('the deadline aborts the signal, and the attempt has failed', async () => {
      const job = jobOf(
        ({ signal }) =>
          new Promise((resolve) => {
            signal.addEventListener('abort', () => resolve());
          }),
        { deadlineMs: 1000, retry: { limit: 0, delayMs: 0, backoff: false } },
      );
      const module = await started([job]);
      const id = await enqueue(module, job, 'a');
      await until(stateIs(id, 'failed'));
      const { output } = (await rowOf(database, id)) ?? {};
      assert.match(JSON.stringify(output), /deadline_exceeded/);
    });

    test('data that the schema refuses is refused when it is enqueued, and fails the job if it is there', async () => {
      const job = jobOf(async () => undefined, { retry: { limit: 0, delayMs: 0, backoff: false } });
      const module = await started([job]);
      await assert.rejects(
        database.db.withTenant({ tenantId }, (tx) =>
          // As callers do whose data the compiler has not seen.
          module.api.enqueue(tx, { ...job, encode: job.encodeUnknown }, { row: 7 }),
        ),
        (error) =>
          error instanceof AppError && error.code === 'invalid_request' && error.param === 'data.row',
      );
      await assert.rejects(
        enqueue(module, job, 'nul \0'),
        (error) => error instanceof AppError && error.code === 'invalid_text',
      );
      await assert.rejects(enqueue(module, job, 'x'.repeat(5000)), /at most 4096 bytes/);
      const id = randomUUID();
      await database.db.withTenant({ tenantId }, (tx) =>
        sql`select jobs.enqueue_own(${id}::uuid, ${job.name}, '{"row":7}'::jsonb, null, null, null)`.execute(
          tx,
        ),
      );
      module.lifecycle.start().catch(() => undefined);
      await until(stateIs(id, 'failed'));
    });

    test('a job whose worker was lost runs again, once, and nothing that the lost one writes late counts', async () => {
      const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const runs: number[] = [];
      const aborted: boolean[] = [];
      const job = jobOf(async ({ attempt, signal }) => {
        runs.push(attempt);
        await gates[attempt - 1]?.promise;
        aborted[attempt - 1] = signal.aborted;
      });
      const frozen = await started([job], { places: 1 });
      const id = await enqueue(frozen, job, 'a');
      await until(() => runs.length === 1);
      await passTime(database, id);
      const other = await started([job]);
      await other.upkeep();
      await until(() => runs.length === 2);
      gates[0]?.resolve();
      await until(() => aborted.length === 1);
      await frozen.lifecycle.stop();
      assert.equal(
        (await rowOf(database, id))?.state,
        'active',
        'the first attempt ended late and changed nothing',
      );
      gates[1]?.resolve();
      await until(stateIs(id, 'completed'));
      assert.deepEqual(runs, [1, 2]);
      assert.equal((await rowOf(database, id))?.retry_count, 1);
    });

    test('an upkeep whose lease another process took fails no job and removes nothing', async () => {
      const gate = Promise.withResolvers<void>();
      let runs = 0;
      const job = jobOf(async () => {
        runs += 1;
        if (runs === 1) await gate.promise;
      });
      const worker = await started([job], { places: 1 });
      const id = await enqueue(worker, job, 'a');
      await until(() => runs === 1);
      await passTime(database, id);
      const lease = `upkeep-${job.name}`;
      const upkeepAfter = async (whenLeading: () => Promise<unknown>): Promise<string> => {
        const timers = createTimers({ db: database.db, clock: systemClock, logger: silentLogger }, [
          {
            name: lease,
            everyMs: 60_000,
            async run(leader) {
              await whenLeading();
              await worker.upkeep(leader);
            },
          },
        ]);
        const outcome = await timers.runNow(lease);
        await timers.stop();
        return outcome;
      };
      const setLease = (values: RawBuilder<unknown>) =>
        database.db.withSystem('leases', (tx) =>
          sql`update platform.leases set ${values} where name = ${lease}`.execute(tx),
        );
      const takenOver = await upkeepAfter(() => setLease(sql`fence = fence + 1, holder = gen_random_uuid()`));
      assert.equal(takenOver, 'failed');
      assert.equal((await rowOf(database, id))?.state, 'active', 'the lost attempt was not failed');
      await setLease(sql`expires_at = clock_timestamp()`);
      assert.equal(await upkeepAfter(() => Promise.resolve()), 'done');
      assert.equal((await rowOf(database, id))?.state, 'retry');
      gate.resolve();
    });

    test('a stopping process tells its jobs and hands back what did not end, with its attempts', async () => {
      const began = Promise.withResolvers<void>();
      const job = jobOf(
        ({ signal }) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => reject(new Error('told to stop')));
            began.resolve();
          }),
        { retry: { limit: 0, delayMs: 0, backoff: false } },
      );
      const module = await started([job]);
      const id = await enqueue(module, job, 'a');
      await began.promise;
      await module.lifecycle.stop();
      const row = await rowOf(database, id);
      assert.equal(row?.state, 'retry');
      assert.equal(row?.retry_count, 0);
    });

    test('many places of several workers run each job once', async () => {
      const runs = new Map<string, number>();
      const job = jobOf(async ({ jobId }) => {
        runs.set(jobId, (runs.get(jobId) ?? 0) + 1);
      });
      const modules = [
        await started([job], { places: 8 }),
        await started([job], { places: 8 }),
        await started([job], { places: 8 }),
      ];
      const [first] = modules;
      assert.ok(first !== undefined);
      const ids = await database.db.withTenant({ tenantId }, async (tx) => {
        const made: string[] = [];
        for (let index = 0; index < 100; index += 1)
          made.push(await first.api.enqueue(tx, job, { row: String(index) }));
        return made;
      });
      await until(() => runs.size === ids.length);
      await Promise.all(open.splice(0).map(({ lifecycle }) => lifecycle.stop()));
      assert.ok([...runs.values()].every((count) => count === 1));
    });

    test('a schedule makes one job for each occurrence, whoever looks, and one for all that were missed', async () => {
      let runs = 0;
      const job = defineJob({
        name: `scheduled-${adapter}`,
        scope: 'system',
        data: z.object({}),
        schedule: '0 * * * *',
        deadlineMs: 5000,
        retry: { limit: 0, delayMs: 0, backoff: false },
        run: async () => {
          runs += 1;
        },
      });
      const declaring = jobsOver(database, [job], { isWorker: false });
      await declaring.lifecycle.start();
      await database.db.withSystem('jobs', (tx) =>
        sql`update jobs.named_jobs set scheduled_until = now() - interval '30 hours' where name = ${job.name}`.execute(
          tx,
        ),
      );
      const workers = [jobsOver(database, [job]), jobsOver(database, [job])];
      open.push(...workers);
      await Promise.all(workers.map(({ lifecycle }) => lifecycle.start()));
      await until(() => runs > 0);
      const again = jobsOver(database, [job]);
      open.push(again);
      await again.lifecycle.start();
      await Promise.all(open.splice(0).map(({ lifecycle }) => lifecycle.stop()));
      assert.equal(runs, 1);
    });

    test('a name that is doubled and a schedule that is none are refused', () => {
      const job = jobOf(async () => undefined);
      assert.throws(() => jobsOver(database, [job, job]), /two jobs/);
      const wrong = defineJob({
        name: 'wrong',
        scope: 'system',
        data: z.object({}),
        schedule: '61 * * * *',
        deadlineMs: 5000,
        retry: { limit: 0, delayMs: 0, backoff: false },
        run: async () => undefined,
      });
      assert.throws(() => jobsOver(database, [wrong]));
    });
  });
}
