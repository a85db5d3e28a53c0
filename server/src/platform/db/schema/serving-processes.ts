/**
 * Which processes serve the database, and what each of them knows of its schema.
 *
 * A process announces itself before it looks whether it can serve the schema, and a contract migration looks at the
 * announcements inside its own transaction. Both take one advisory lock, the announcements shared and the migration alone,
 * for as long as their transactions last. So either the announcement is committed first, and the migration waits for the
 * process; or the migration is, and the process finds a schema that it can't serve. (On PGlite, where advisory locks exclude
 * nobody, there is one process, and nobody announces anything.)
 *
 * An announcement that its process doesn't renew runs out. Whoever migrates doesn't take that for its end at once: after an
 * outage of the database all announcements have run out, and their processes are about to renew them.
 */

import { sql } from 'kysely';
import { z } from 'zod';
import type { TimerTask } from '#jobs';
import { AppError, type Lifecycle, type Logger, newUuid } from '#kernel';
import type { Database, Migration, MigrationSet, ServingProcess } from '../types.ts';
import type { Session } from '../session.ts';
import { readMigrationFiles } from './migration-files.ts';

/** Any constant: held shared while a process announces itself, alone while a contract migration runs. */
export const announcementLock = '5571202607';

export const heartbeatMs = 5_000;
/** Three heartbeats may get lost. */
const aliveMs = 20_000;

const shortDeadlineMs = 10_000;

const processRow = z.object({
  process_id: z.string(),
  roles: z.array(z.string()),
  host: z.string(),
  pid: z.number(),
  version: z.string(),
  known: z.record(z.string(), z.number()),
  seen_at: z.date(),
  silent_ms: z.number(),
  is_alive: z.boolean(),
});

function processOf(row: unknown): ServingProcess {
  const read = processRow.safeParse(row);
  if (!read.success) {
    throw new AppError('internal_error', 'platform.processes has an unexpected shape.', {
      cause: read.error,
    });
  }
  const { data } = read;
  return {
    processId: data.process_id,
    roles: data.roles,
    host: data.host,
    pid: data.pid,
    version: data.version,
    known: data.known,
    seenAt: data.seen_at,
    silentMs: data.silent_ms,
    isAlive: data.is_alive,
  };
}

/** Every announcement, the oldest process first; none where the table is still to be made. */
export async function readProcesses(session: Session): Promise<ServingProcess[]> {
  const exists = await session.query(
    `select 1 where to_regclass('platform.processes') is not null`,
    [],
    shortDeadlineMs,
  );
  if (exists.rows.length === 0) return [];
  const result = await session.query(
    `select process_id, roles, host, pid, version, known, seen_at,
       greatest(0, extract(epoch from clock_timestamp() - seen_at) * 1000)::float8 as silent_ms,
       alive_until > clock_timestamp() as is_alive
     from platform.processes order by started_at, process_id`,
    [],
    shortDeadlineMs,
  );
  return result.rows.map(processOf);
}

/** Whether the process can serve once the contract has applied: its code knows of it. */
export function doesKnow(process: ServingProcess, contract: Migration): boolean {
  return (process.known[contract.module] ?? 0) >= contract.number;
}

export interface ProcessFacts {
  readonly roles: readonly string[];
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly sets: readonly MigrationSet[];
}

export interface AnnouncementDeps {
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
}

/**
 * A process's own announcement. `start` resolves once it is committed, which waits for a contract migration that runs;
 * only after that may the process look at the schema. Renewed every 5 s; `stop` takes it back.
 */
export function announceProcess(
  { db, logger }: AnnouncementDeps,
  facts: ProcessFacts,
  timing: { readonly everyMs: number; readonly aliveMs: number } = { everyMs: heartbeatMs, aliveMs },
): Lifecycle {
  const processId = newUuid();
  let known = '{}';
  let timer: NodeJS.Timeout | undefined;
  let beating: Promise<void> = Promise.resolve();
  let isStopped = false;
  const announce = () => insertAnnouncement(db, { ...facts, processId, known, aliveMs: timing.aliveMs });

  const beat = async (): Promise<void> => {
    try {
      if (!(await renewAnnouncement(db, processId, timing.aliveMs))) await announce();
    } catch (error) {
      logger.warn({ err: error }, 'the announcement of this process could not be renewed');
    }
    plan();
  };
  const plan = (): void => {
    if (isStopped) return;
    timer = setTimeout(() => {
      beating = beat();
    }, timing.everyMs);
    timer.unref();
  };

  return {
    async start() {
      known = JSON.stringify(await newestNumbers(facts.sets));
      await untilAnnounced(announce, logger);
      plan();
    },
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await beating;
      try {
        await db.withSystem('schema', (tx) =>
          sql`delete from platform.processes where process_id = ${processId}`.execute(tx),
        );
      } catch (error) {
        // It runs out by itself.
        logger.warn({ err: error }, 'the announcement of this process could not be taken back');
      }
    },
  };
}

interface Announced extends ProcessFacts {
  readonly processId: string;
  readonly known: string;
  readonly aliveMs: number;
}

async function insertAnnouncement(
  db: AnnouncementDeps['db'],
  { processId, roles, host, pid, version, known, aliveMs: forMs }: Announced,
): Promise<void> {
  await db.withSystem('schema', async (tx) => {
    await sql`select pg_advisory_xact_lock_shared(${announcementLock}::int8)`.execute(tx);
    await sql`
      insert into platform.processes (process_id, roles, host, pid, version, known, alive_until)
      values (${processId}, ${roles}::text[], ${host}, ${pid}, ${version}, ${known}::jsonb,
        clock_timestamp() + ${forMs} * interval '1 millisecond')
      on conflict (process_id) do update set seen_at = clock_timestamp(), alive_until = excluded.alive_until
    `.execute(tx);
  });
}

/** False where the announcement has run out: what was migrated meanwhile did not wait for this process. */
async function renewAnnouncement(
  db: AnnouncementDeps['db'],
  processId: string,
  forMs: number,
): Promise<boolean> {
  return db.withSystem('schema', async (tx) => {
    const result = await sql`
      update platform.processes
      set seen_at = clock_timestamp(), alive_until = clock_timestamp() + ${forMs} * interval '1 millisecond'
      where process_id = ${processId} and alive_until > clock_timestamp()
    `.execute(tx);
    return result.numAffectedRows === 1n;
  });
}

/** How long a process that ended without a word is still shown to people, in hours; none that lives is silent for so long. */
const shownForHours = 24;

/**
 * Once an hour: forgets the announcements that ran out a day ago. Whoever migrates forgets the dead at once; but months may
 * pass without a migration, and each process that was killed leaves a row.
 */
export function processRetention(): TimerTask {
  return {
    name: 'process-announcements',
    everyMs: 3_600_000,
    async run({ withSystem }) {
      await withSystem('schema', (tx) =>
        sql`
          delete from platform.processes
          where alive_until < clock_timestamp() - ${shownForHours} * interval '1 hour'
        `.execute(tx),
      );
    },
  };
}

/** A contract migration may run for longer than a statement has: then the start waits on. */
async function untilAnnounced(announce: () => Promise<void>, logger: Logger): Promise<void> {
  for (let waits = 0; ; waits += 1) {
    try {
      return await announce();
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'deadline_exceeded') throw error;
      if (waits === 0) logger.warn({}, 'a contract migration runs; the start waits for its end');
    }
  }
}

async function newestNumbers(sets: readonly MigrationSet[]): Promise<Record<string, number>> {
  const newest: Record<string, number> = {};
  for (const { module, number } of await readMigrationFiles(sets))
    newest[module] = Math.max(newest[module] ?? 0, number);
  return newest;
}

/** As people read it: `gateway on web-1 (process 4711, version 0.1.0, seen 3 s ago)`. */
export function describeProcess(process: ServingProcess): string {
  const seconds = Math.round(process.silentMs / 1000);
  const silence = process.isAlive ? `seen ${seconds} s ago` : `silent for ${seconds} s`;
  return `${process.roles.join(' and ')} on ${process.host} (process ${process.pid}, version ${process.version}, ${silence})`;
}
