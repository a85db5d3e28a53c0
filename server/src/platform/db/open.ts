import { createDoors } from './doors.ts';
import { openPglite, type PgliteSource } from './pglite/source.ts';
import { openPostgres } from './postgres/source.ts';
import { runMigrations } from './schema/migration-runner.ts';
import { readSchemaStatus } from './schema/schema-status.ts';
import type { SessionSource } from './session.ts';
import type { Database, DatabaseSettings, PgliteSettings } from './types.ts';

const pingDeadlineMs = 1000;

async function ping(source: SessionSource, deadlineMs: number): Promise<void> {
  const session = await source.acquire('system', deadlineMs, undefined);
  let isClean = false;
  try {
    await session.query('select 1', [], deadlineMs);
    isClean = true;
  } finally {
    session.release(isClean);
  }
}

function databaseOver(source: SessionSource): Database {
  return {
    ...createDoors(source),
    migrate: async (sets, options) => runMigrations(source, sets, options),
    schemaState: async (sets) => (await readSchemaStatus(source, sets)).state,
    schemaStatus: async (sets) => readSchemaStatus(source, sets),
    ping: async (deadlineMs = pingDeadlineMs) => ping(source, deadlineMs),
    adapter: source.adapter,
    close: async () => source.close(),
  };
}

/**
 * Opens the database that the settings name. PGlite is open when this resolves (3 s at first, 0.3 s later), or it
 * rejects with `database_unavailable`; PostgreSQL connects at the first use, so this never waits for a server.
 * Migrations are not applied: that is `migrate`.
 */
export async function openDatabase(settings: DatabaseSettings): Promise<Database> {
  if (settings.adapter === 'postgres') return databaseOver(openPostgres(settings));
  return databaseOver(await openPglite(settings));
}

/** A PGlite database whose data directory can be dumped, for tests that start from a snapshot. */
export async function openDumpableDatabase(
  settings: PgliteSettings,
): Promise<{ readonly db: Database; dump(): Promise<Uint8Array> }> {
  const source: PgliteSource = await openPglite(settings);
  return { db: databaseOver(source), dump: async () => source.dump() };
}
