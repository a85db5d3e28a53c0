/** What the tests of the queue share: a worker over a test's database, and a look at rows. Test support only. */

import { setTimeout as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import { creatingOperatorRoute, operatorRoute } from '#http';
import { silentLogger, systemClock } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import type { TestDatabase } from '#testing';
import {
  createJobs,
  type JobsDependencies,
  type JobsModule,
  type JobsSettings,
  type NamedJob,
} from '../../index.ts';

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  observedGauge: () => undefined,
  histogram: () => nothing,
};

export function jobsOver(
  { db }: Pick<TestDatabase, 'db'>,
  jobs: readonly NamedJob[],
  settings: Partial<JobsSettings> = {},
  requireTenant: JobsDependencies['requireTenant'] = () => Promise.resolve(),
): JobsModule {
  const module = createJobs(
    {
      db,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      operatorRoute,
      creatingOperatorRoute,
      requireTenant,
    },
    { isWorker: true, pollMs: 50, upkeepMs: 600_000, ...settings },
  );
  module.register(jobs);
  return module;
}

/** Waits for a condition, looking every few milliseconds; fails after `withinMs`. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  withinMs = 20_000,
  what = 'the condition',
): Promise<void> {
  const endsAt = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > endsAt) throw new Error(`${what} did not come true within ${withinMs} ms`);
    await pause(5);
  }
}

export interface JobRow {
  readonly state: string;
  readonly retry_count: number;
  readonly output: unknown;
  readonly start_after: Date;
  readonly completed_on: Date | null;
}

export async function rowOf({ db }: Pick<TestDatabase, 'db'>, id: string): Promise<JobRow | undefined> {
  return db.withSystem('jobs', async (tx) => {
    const { rows } = await sql<JobRow>`
      select state::text as state, retry_count, output, start_after, completed_on
      from jobs.job_common where id = ${id}::uuid
    `.execute(tx);
    return rows[0];
  });
}

/** Lets the time pass that a waiting job waits for, or that a running one may be silent. */
export async function passTime({ db }: Pick<TestDatabase, 'db'>, id: string): Promise<void> {
  await db.withSystem('jobs', (tx) =>
    sql`
      update jobs.job_common
      set start_after = start_after - interval '1 day', heartbeat_on = heartbeat_on - interval '1 day'
      where id = ${id}::uuid
    `.execute(tx),
  );
}
