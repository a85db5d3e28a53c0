/**
 * pg-boss over the doors. It is never started: no timer, no pool, no listener of its own; each of its methods that we
 * call sends its statements through the system job `jobs`. Statements that it frames with `begin` and `commit` run
 * inside the door's transaction instead, whose deadlines take the place of the frame's. Its advisory locks exclude
 * other processes on PostgreSQL; on PGlite they exclude nobody, and there is one session anyway.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { CompiledQuery } from 'kysely';
import { PgBoss } from 'pg-boss';
import type { Database, SystemHandle } from '#db';
import type { Logger } from '#kernel';

export interface BossSettings {
  /** How long a queue is left alone after a look for workers that were lost; in seconds, 1 and up. */
  readonly monitorSeconds: number;
}

export interface SqlExecutor {
  executeSql(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
}

const frame =
  /^\s*BEGIN;\s*SET LOCAL lock_timeout = \d+;\s*SET LOCAL idle_in_transaction_session_timeout = \d+;([\s\S]*);\s*COMMIT;\s*$/;
/** pg-boss joins the statements of a frame with exactly this. */
const between = /;\n/;
/** Sweeps delete up to some thousand rows in a statement. */
const deadlineMs = 30_000;
const keptForSeconds = { done: 7 * 86_400, waiting: 365 * 86_400 };

/** Statements in the transaction of `tx`. */
export function executorOn(tx: SystemHandle): SqlExecutor {
  return {
    async executeSql(text, values = []) {
      const framed = frame.exec(text)?.[1];
      const statements = framed === undefined ? [text] : framed.split(between);
      const rows: Record<string, unknown>[] = [];
      for (const statement of statements) {
        if (statement.trim() === '') continue;
        const result = await tx.executeQuery<Record<string, unknown>>(CompiledQuery.raw(statement, values));
        rows.push(...result.rows.map(asPgWould));
      }
      return { rows };
    },
  };
}

/** The driver that pg-boss knows answers int8 as text. */
function asPgWould(row: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(row).map(([key, value]) => [key, typeof value === 'bigint' ? String(value) : value]),
  );
}

type SystemDoor = Pick<Database, 'withSystem'>;

export interface Boss extends PgBoss {
  /** `supervise`, whose every statement goes through the given door: that of a leader, which checks its fence. */
  superviseThrough(door: SystemDoor): Promise<void>;
}

export function createBoss(
  deps: { readonly db: SystemDoor; readonly logger: Logger },
  settings: BossSettings,
): Boss {
  const leaderDoor = new AsyncLocalStorage<SystemDoor>();
  const boss = new PgBoss({
    db: {
      executeSql: (text, values) =>
        (leaderDoor.getStore() ?? deps.db).withSystem(
          'jobs',
          (tx) => executorOn(tx).executeSql(text, values),
          { deadlineMs },
        ),
    },
    schema: 'jobs',
    migrate: false,
    supervise: false,
    schedule: false,
    registerInstance: false,
    reindex: false,
    monitorVacuum: false,
    persistWarnings: false,
    openTelemetry: { enabled: false },
    monitorIntervalSeconds: settings.monitorSeconds,
    maintenanceIntervalSeconds: 3600,
  });
  boss.on('error', (error) => deps.logger.warn({ err: error }, 'pg-boss reports an error'));
  return Object.assign(boss, {
    superviseThrough: (door: SystemDoor) => leaderDoor.run(door, () => boss.supervise()),
  });
}

/** How pg-boss keeps a job's queue. `deadlineMs` gets half a minute on top: our own signal comes first. */
export function queueOptions(
  job: {
    readonly deadlineMs: number;
    readonly retry: { readonly limit: number; readonly delayMs: number; readonly backoff: boolean };
  },
  heartbeatSeconds: number,
) {
  const { limit, delayMs, backoff } = job.retry;
  return {
    retryLimit: limit,
    retryDelay: Math.ceil(delayMs / 1000),
    retryBackoff: backoff,
    ...(backoff ? { retryDelayMax: Math.max(3600, Math.ceil(delayMs / 1000)) } : {}),
    expireInSeconds: Math.ceil(job.deadlineMs / 1000) + 30,
    heartbeatSeconds,
    deleteAfterSeconds: keptForSeconds.done,
    retentionSeconds: keptForSeconds.waiting,
  };
}
