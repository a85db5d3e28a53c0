/**
 * However many jobs one tenant has waiting, another's comes after at most one of them in each place. With 100,000 real
 * rows on PostgreSQL; fewer on PGlite, where the same statement meets the same index.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { z } from 'zod';
import { defineJob } from '../index.ts';
import { jobsOver, until } from './testing/jobs-over.ts';

const places = 3;
const rowsOn = { pglite: 5000, postgres: 100_000 };

const plan = z.tuple([
  z.object({
    Plan: z.object({
      'Actual Rows': z.number(),
      'Shared Hit Blocks': z.number(),
      'Shared Read Blocks': z.number(),
    }),
  }),
]);

/** Takes a job and answers how many pages the server looked at for it. */
async function pagesRead({ db }: TestDatabase, names: readonly string[]): Promise<number> {
  return db.withSystem('jobs', async (tx) => {
    const { rows } = await sql<{ 'QUERY PLAN': unknown }>`
      explain (analyze, buffers, format json) select * from jobs.take_job(${names}::text[], '')
    `.execute(tx);
    const [{ Plan }] = plan.parse(rows[0]?.['QUERY PLAN']);
    assert.equal(Plan['Actual Rows'], 1);
    return Plan['Shared Hit Blocks'] + Plan['Shared Read Blocks'];
  });
}

for (const adapter of testedAdapters()) {
  const many = rowsOn[adapter];
  describe(`${many} waiting jobs of one tenant, on ${adapter}`, () => {
    let database: TestDatabase;
    let busy: string;
    let other: string;

    before(async () => {
      database = await openTestDatabase({ adapter });
      const tenants = [await database.newTenant(), await database.newTenant()];
      // The crowd is the first in the order of turns: a search that forgot its turn would find it again and again.
      [busy = '', other = ''] = tenants.sort();
    });
    after(() => database.close());

    async function fill(name: string, tenantId: string, count: number, dueIn = '-1 hour'): Promise<void> {
      await database.db.withSystem(
        'jobs',
        (tx) =>
          sql`
            insert into jobs.job_common
              (name, data, group_id, policy, retry_limit, expire_seconds, heartbeat_seconds, start_after, keep_until)
            select ${name}, '{}', ${tenantId}, 'standard', 2, 60, 30, now() + ${dueIn}::interval, now() + interval '2 days'
            from generate_series(1, ${count}::integer)
          `.execute(tx),
        { deadlineMs: 60_000 },
      );
    }

    test('delay another tenant’s by no more than one job in each place', async () => {
      const order: string[] = [];
      const waiting: (() => void)[] = [];
      const job = defineJob({
        name: 'crowded',
        scope: 'tenant',
        data: z.object({}),
        deadlineMs: 60_000,
        retry: { limit: 2, delayMs: 0, backoff: false },
        run: async ({ tenantId }) => {
          order.push(tenantId === busy ? 'busy' : 'other');
          await new Promise<void>((resolve) => {
            waiting.push(resolve);
          });
        },
      });
      const module = jobsOver(database, [job], { places, isWorker: false });
      await module.lifecycle.start();
      await fill(job.name, busy, many);
      const worker = jobsOver(database, [job], { places });
      await worker.lifecycle.start();
      try {
        await until(() => order.length === places);
        for (const round of [1, 2, 3]) {
          await database.db.withTenant({ tenantId: other }, (tx) => module.api.enqueue(tx, job, {}));
          const begun = order.length;
          while (order.filter((who) => who === 'other').length < round) {
            assert.ok(order.length - begun <= places, `round ${round}: ${order.slice(begun).join(', ')}`);
            const soFar = order.length;
            waiting.shift()?.();
            await until(() => order.length > soFar);
          }
          assert.ok(order.length - begun <= places + 1, `round ${round}: ${order.slice(begun).join(', ')}`);
        }
      } finally {
        const stopped = worker.lifecycle.stop();
        for (const release of waiting) release();
        await stopped;
      }
    });

    test('cost the search for the next job nothing, nor do jobs that are due later or are other workers’', async (context) => {
      const job = defineJob({
        name: 'timed',
        scope: 'tenant',
        data: z.object({}),
        deadlineMs: 60_000,
        retry: { limit: 2, delayMs: 0, backoff: false },
        run: async () => undefined,
      });
      await jobsOver(database, [job], { isWorker: false }).lifecycle.start();
      const later = { ...job, name: 'later' };
      await jobsOver(database, [later], { isWorker: false }).lifecycle.start();
      await fill(later.name, busy, many, '1 day');
      await fill(job.name, other, 100);
      const pages: number[] = [];
      const times: number[] = [];
      for (let index = 0; index < 20; index += 1) {
        const startedAt = performance.now();
        pages.push(await pagesRead(database, ['later', 'timed']));
        times.push(performance.now() - startedAt);
      }
      const [fewest = 0] = pages.sort((a, b) => a - b);
      const [quickest = 0] = times.sort((a, b) => a - b);
      context.diagnostic(`a job taken with ${fewest} pages read, in ${quickest.toFixed(2)} ms at best`);
      assert.ok(fewest > 0 && fewest < 200, `${fewest} pages: more than some look-ups in indexes`);
    });
  });
}
