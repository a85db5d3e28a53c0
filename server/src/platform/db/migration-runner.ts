/**
 * Forward-only migrations. Each file runs in one transaction together with the row that remembers it, as the role
 * `stoa_migration`, which thereby owns everything. Two processes that migrate at once take turns by an advisory lock on
 * PostgreSQL; PGlite has one session, so they take turns anyway (its advisory locks exclude nobody).
 */

import { AppError } from '#kernel';
import { type MigrationFile, readMigrationFiles } from './migration-files.ts';
import type { Session, SessionSource } from './session.ts';
import type { MigrationReport, MigrationSet, SchemaState } from './types.ts';

/** Another process may be at a long migration. */
const lockWaitMs = 300_000;
const fileDeadlineMs = 600_000;
const shortDeadlineMs = 10_000;

/** Any constant: advisory locks are per database, and nothing else in Stoa takes this one. */
const lockNumber = '5571202604';

export interface AppliedRow {
  readonly module: string;
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
  readonly isCompatible: boolean;
}

function appliedRow(row: unknown): AppliedRow {
  const raw: Record<string, unknown> = typeof row === 'object' && row !== null ? { ...row } : {};
  const { module, number, name, checksum, is_compatible: isCompatible } = raw;
  if (
    typeof module !== 'string' ||
    typeof number !== 'number' ||
    typeof name !== 'string' ||
    typeof checksum !== 'string' ||
    typeof isCompatible !== 'boolean'
  ) {
    throw new AppError('internal_error', 'platform.migrations has an unexpected shape.');
  }
  return { module, number, name, checksum, isCompatible };
}

const label = (migration: { module: string; number: number; name: string }): string =>
  `${migration.module}/${String(migration.number).padStart(4, '0')}-${migration.name}`;

const keyOf = (migration: { module: string; number: number }): string =>
  `${migration.module} ${migration.number}`;

/** What has been applied, read in a transaction under the door's role; empty where there is no schema yet. */
async function readApplied(session: Session): Promise<AppliedRow[]> {
  const exists = await session.query(
    `select to_regclass('platform.migrations') is not null as it_does`,
    [],
    shortDeadlineMs,
  );
  const [first] = exists.rows;
  if (typeof first !== 'object' || first === null || !('it_does' in first) || first.it_does !== true)
    return [];
  const result = await session.query(
    'select module, number, name, checksum, is_compatible from platform.migrations',
    [],
    shortDeadlineMs,
  );
  return result.rows.map(appliedRow);
}

function compare(files: readonly MigrationFile[], applied: readonly AppliedRow[]): SchemaState {
  const known = new Map(files.map((file) => [keyOf(file), file]));
  for (const row of applied) {
    const file = known.get(keyOf(row));
    if (file !== undefined && file.checksum !== row.checksum) {
      throw new AppError(
        'migration_changed',
        `The migration ${label(row)} was applied and has been changed since. Restore the file, and write a new one for the new change.`,
      );
    }
  }
  if (applied.some((row) => !known.has(keyOf(row)) && !row.isCompatible)) return 'ahead';
  const done = new Set(applied.map(keyOf));
  return files.every((file) => done.has(keyOf(file))) ? 'current' : 'behind';
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

async function apply(source: SessionSource, session: Session, file: MigrationFile): Promise<void> {
  try {
    await inTransaction(source, session, async () => {
      // Rather fail than stand in front of a busy table with everybody queueing behind.
      await session.script(`set local lock_timeout = '10s'`, shortDeadlineMs);
      await session.script(file.sql, fileDeadlineMs);
      await session.query(
        'insert into platform.migrations (module, number, name, checksum, is_compatible) values ($1, $2, $3, $4, $5)',
        [file.module, String(file.number), file.name, file.checksum, String(file.isCompatible)],
        shortDeadlineMs,
      );
    });
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('internal_error', `The migration ${label(file)} failed.`, { cause });
  }
}

async function applyMissing(
  source: SessionSource,
  session: Session,
  files: readonly MigrationFile[],
): Promise<MigrationFile[]> {
  const before = await inTransaction(source, session, async () => readApplied(session));
  if (compare(files, before) === 'ahead') {
    throw new AppError('schema_ahead', 'The database schema is newer than this version of Stoa serves.');
  }
  const done = new Set(before.map(keyOf));
  const missing = files.filter((file) => !done.has(keyOf(file)));
  for (const file of missing) {
    // One after the other: each builds on what the one before it made.
    await apply(source, session, file);
  }
  return missing;
}

/** See `Database.migrate`. */
export async function runMigrations(
  source: SessionSource,
  sets: readonly MigrationSet[],
): Promise<MigrationReport> {
  const startedAt = performance.now();
  const files = await readMigrationFiles(sets);
  const session = await source.acquire('migration', lockWaitMs, undefined);
  try {
    if (source.adapter === 'postgres') {
      await session.query('select pg_advisory_lock($1::int8)', [lockNumber], lockWaitMs);
    }
    const applied = await applyMissing(source, session, files);
    return {
      applied: applied.map(({ module, number, name }) => ({ module, number, name })),
      durationMs: performance.now() - startedAt,
    };
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

/** See `Database.schemaState`. Reads as the system login, so that a serving process needs no migration login. */
export async function readSchemaState(
  source: SessionSource,
  sets: readonly MigrationSet[],
): Promise<SchemaState> {
  const files = await readMigrationFiles(sets);
  const session = await source.acquire('system', shortDeadlineMs, undefined);
  let isClean = false;
  try {
    await session.script(source.begin('system'), shortDeadlineMs);
    const applied = await readApplied(session);
    await session.script('rollback', shortDeadlineMs);
    isClean = true;
    return compare(files, applied);
  } finally {
    session.release(isClean);
  }
}
