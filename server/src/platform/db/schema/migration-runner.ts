/**
 * Forward-only migrations. Each file runs in one transaction together with the row that remembers it, as the role
 * `stoa_migration`, which thereby owns everything. Of several processes that migrate at once one has the turn, by an advisory
 * lock on PostgreSQL; a PGlite belongs to one process (its advisory locks exclude nobody).
 *
 * An expand migration applies at once. A contract migration takes away what older versions use, so it waits for the processes
 * that don't know it (serving-processes.ts); until then the expand migrations after it pass it, and contract migrations
 * keep their order among themselves.
 *
 * A statement that waits for a table's lock lets everybody who comes later wait behind it. So it waits for two seconds,
 * gives up with its whole transaction, and tries again after a while.
 */

import { AppError } from '#kernel';
import type { Session, SessionSource } from '../session.ts';
import { SqlError } from '../sql-error.ts';
import type { MigrateOptions, Migration, MigrationReport, MigrationSet, PendingMigration } from '../types.ts';
import { type MigrationFile, migrationLabel, readMigrationFiles } from './migration-files.ts';
import { buildConcurrently, type IndexPlan, isConcurrent, planOf } from './concurrent-index.ts';
import { compare, pendingOf, readApplied } from './schema-status.ts';
import { announcementLock, heartbeatMs, readProcesses } from './serving-processes.ts';

/** Another process may be at a long migration. */
const turnWaitMs = 300_000;
const fileDeadlineMs = 600_000;
const shortDeadlineMs = 10_000;
const lockTimeoutMs = 2_000;
/** Together with the pauses between them nearly two minutes. */
const lockAttempts = 15;

/** Any constant: advisory locks are per database, and nothing else in Stoa takes this one. */
const turnNumber = '5571202604';

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function inTransaction<T>(source: SessionSource, session: Session, work: () => Promise<T>): Promise<T> {
  await session.script(
    `${source.begin('migration')}; set local search_path = pg_catalog; set local timezone = 'UTC'`,
    shortDeadlineMs,
  );
  try {
    const result = await work();
    await session.script('commit', shortDeadlineMs);
    return result;
  } catch (error) {
    if (session.isUsable()) await session.script('rollback', shortDeadlineMs);
    throw error;
  }
}

/** One run: its session, which has the turn, and what the caller wants. */
interface Run {
  readonly source: SessionSource;
  readonly session: Session;
  readonly options: MigrateOptions;
}

/** In the transaction: the file's statements and the row that remembers them. */
async function execute({ session }: Run, file: MigrationFile): Promise<void> {
  await session.script(
    `set local lock_timeout = '${lockTimeoutMs}ms'; set local statement_timeout = '${fileDeadlineMs}ms'`,
    shortDeadlineMs,
  );
  await session.script(file.sql, fileDeadlineMs);
  await note(session, file);
}

async function note(session: Session, file: MigrationFile): Promise<void> {
  await session.query(
    'insert into platform.migrations (module, number, name, checksum, is_compatible) values ($1, $2, $3, $4, $5)',
    [file.module, String(file.number), file.name, file.checksum, String(file.phase === 'expand')],
    shortDeadlineMs,
  );
}

function isLockTimeout(error: unknown): boolean {
  return error instanceof SqlError && error.sqlState === '55P03';
}

/** Runs `work`, one transaction, again and again while a lock is not to be had. */
async function insistently<T>({ options }: Run, file: MigrationFile, work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof AppError) throw cause;
      if (!isLockTimeout(cause)) {
        throw new AppError('internal_error', `The migration ${migrationLabel(file)} failed.`, { cause });
      }
      if (attempt === lockAttempts) {
        throw new AppError(
          'migration_waits',
          `The migration ${migrationLabel(file)} waits for a table that a long transaction holds, and gave up after ${lockAttempts} attempts; nothing of it was applied. End that transaction (pg_stat_activity shows it), or try again in a quieter moment.`,
          { cause, retryAfterMs: 60_000 },
        );
      }
      if (attempt === 1) options.onWait?.(`${migrationLabel(file)} waits for a table that is in use`);
      // Longer and longer, so that traffic gets through in between; the jitter keeps it from meeting the same job each time.
      await pause(Math.min(8_000, 500 * 2 ** (attempt - 1)) * (0.75 + Math.random() / 2));
    }
  }
}

/** Null once it has applied; else it waits for processes, and nothing was changed. */
async function applyContract(run: Run, file: MigrationFile): Promise<PendingMigration | null> {
  const { source, session } = run;
  return insistently(run, file, () =>
    inTransaction(source, session, async () => {
      // Announcements in flight are committed before this is granted; those after it wait until the contract has applied.
      await session.query('select pg_advisory_xact_lock($1::int8)', [announcementLock], shortDeadlineMs);
      const pending = pendingOf(file, await servingProcesses(run));
      if (pending.waitsFor.length > 0) return pending;
      await execute(run, file);
      return null;
    }),
  );
}

/** Nobody else is at an embedded database. */
async function servingProcesses({ source, session }: Run): ReturnType<typeof readProcesses> {
  return source.adapter === 'pglite' ? [] : readProcesses(session);
}

/**
 * Takes away the announcements of processes that have ended without a word. One that merely could not reach the database
 * renews its announcement within the pause, or announces itself anew later, and then meets the schema as it is.
 */
async function forgetTheDead(run: Run): Promise<void> {
  const { source, session, options } = run;
  const look = () => inTransaction(source, session, () => servingProcesses(run));
  const silent = (await look()).filter((process) => !process.isAlive);
  if (silent.length === 0) return;
  options.onWait?.(
    'announcements of processes have run out; whether these processes have ended shows in a few seconds',
  );
  await pause(heartbeatMs * 1.5);
  await inTransaction(source, session, () =>
    session.query(
      'delete from platform.processes where process_id = any($1::uuid[]) and alive_until < clock_timestamp()',
      [`{${silent.map((process) => process.processId).join(',')}}`],
      shortDeadlineMs,
    ),
  );
}

interface Outcome {
  readonly applied: readonly Migration[];
  readonly pending: readonly PendingMigration[];
}

async function applyMissing(run: Run, files: readonly MigrationFile[]): Promise<Outcome> {
  const { source, session, options } = run;
  const before = await inTransaction(source, session, () => readApplied(session));
  const { state, missing, unknownContracts } = compare(files, before);
  if (state === 'ahead') {
    throw new AppError(
      'schema_ahead',
      `The database schema is newer than this version of Stoa serves: ${unknownContracts.map(migrationLabel).join(', ')} applied. Use the version that brought it, or a newer one.`,
    );
  }
  const isNew = before.length === 0;
  const mayContract = isNew || options.contracts !== 'leave';
  if (mayContract && !isNew && missing.some((file) => file.phase === 'contract')) await forgetTheDead(run);
  const applied: Migration[] = [];
  const pending: PendingMigration[] = [];
  for (const file of missing) {
    // One after the other: each builds on what the one before it made.
    if (file.phase === 'contract' && !isNew) {
      const left =
        mayContract && pending.length === 0 ? await applyContract(run, file) : await leave(run, file);
      if (left !== null) {
        pending.push(left);
        continue;
      }
    } else {
      await applyExpand(run, file, pending);
    }
    const { module, number, name, phase } = file;
    applied.push({ module, number, name, phase });
  }
  return { applied, pending };
}

async function leave(run: Run, file: MigrationFile): Promise<PendingMigration> {
  const processes = await inTransaction(run.source, run.session, () => servingProcesses(run));
  return pendingOf(file, processes);
}

async function applyExpand(
  run: Run,
  file: MigrationFile,
  passed: readonly PendingMigration[],
): Promise<void> {
  const { source, session } = run;
  const plan = isConcurrent(file) ? planOf(file) : null;
  try {
    if (source.adapter === 'postgres' && plan !== null) await applyConcurrently(run, file, plan);
    else await insistently(run, file, () => inTransaction(source, session, () => execute(run, file)));
  } catch (cause) {
    const [first] = passed;
    if (first === undefined || !(cause instanceof AppError) || cause.code !== 'internal_error') throw cause;
    throw new AppError(
      'internal_error',
      `${cause.publicMessage} It passed ${migrationLabel(first)}, which is pending and may have to come first: \`stoa db migrate --contract\`.`,
      { cause: cause.cause },
    );
  }
}

/** An index of a large table, built while others write to it. */
async function applyConcurrently(run: Run, file: MigrationFile, plan: IndexPlan): Promise<void> {
  const { source, session } = run;
  const shortly = (sql: string) =>
    insistently(run, file, () =>
      inTransaction(source, session, () =>
        session.script(`set local lock_timeout = '${lockTimeoutMs}ms'; ${sql}`, shortDeadlineMs),
      ),
    );
  try {
    await buildConcurrently(session, plan, shortly);
    await inTransaction(source, session, () => note(session, file));
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('internal_error', `The migration ${migrationLabel(file)} failed.`, { cause });
  }
}

/** Waits until no other process migrates. Asks again and again: a wait inside the server would hold its transaction open. */
async function takeTurn({ source, session, options }: Run): Promise<void> {
  if (source.adapter === 'pglite') return;
  const startedAt = performance.now();
  for (let waits = 0; ; waits += 1) {
    const { rows } = await session.query(
      'select 1 where pg_try_advisory_lock($1::int8)',
      [turnNumber],
      shortDeadlineMs,
    );
    if (rows.length > 0) return;
    if (performance.now() - startedAt > turnWaitMs) {
      throw new AppError(
        'migration_waits',
        'Another process has been migrating this database for five minutes. Try again once it has ended.',
        { retryAfterMs: 60_000 },
      );
    }
    if (waits === 0) options.onWait?.('another process migrates this database; this one waits for it');
    await pause(200);
  }
}

/** See `Database.migrate`. */
export async function runMigrations(
  source: SessionSource,
  sets: readonly MigrationSet[],
  options: MigrateOptions = {},
): Promise<MigrationReport> {
  const startedAt = performance.now();
  const files = await readMigrationFiles(sets);
  const session = await source.acquire('migration', turnWaitMs, undefined);
  const run: Run = { source, session, options };
  try {
    await takeTurn(run);
    const outcome = await applyMissing(run, files);
    return { ...outcome, durationMs: performance.now() - startedAt };
  } finally {
    session.release(await unlock(source, session));
  }
}

/** Lets the next one in. False where the session's state is unknown: it is then ended, and its lock with it. */
async function unlock(source: SessionSource, session: Session): Promise<boolean> {
  if (!session.isUsable()) return false;
  try {
    if (source.adapter === 'postgres')
      await session.script('select pg_advisory_unlock_all()', shortDeadlineMs);
    return true;
  } catch {
    return false;
  }
}
