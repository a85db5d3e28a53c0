import type { Settings } from '@stoa/contracts';
import {
  type AllUrls,
  type Database,
  describeProcess,
  migrationLabel,
  type MigrationSet,
  openDatabase,
  type SchemaState,
  selfSetUp,
} from '#db';
import { AppError, type Logger } from '#kernel';
import type { DataDirectory } from './data-directory.ts';
import { migrationSets } from './migrations.ts';

/**
 * Opens the database that the settings name: PGlite in the data directory, or PostgreSQL. In development with
 * STOA_DATABASE_URL alone, the logins are made first, where that login may create roles.
 */
export async function openConfiguredDatabase(
  settings: Settings,
  directory: DataDirectory,
  logger: Logger,
): Promise<Database> {
  const urls = await databaseUrls(settings, directory, logger);
  if (urls === null) return openDatabase({ adapter: 'pglite', directory: directory.pglitePath });
  return openDatabase({
    adapter: 'postgres',
    urls,
    pools: {
      tenant: settings.databasePoolSize,
      operator: settings.operatorDatabasePoolSize,
      system: settings.systemDatabasePoolSize,
    },
  });
}

type ServingUrls = Omit<AllUrls, 'migration'> & { readonly migration?: string };

async function databaseUrls(
  settings: Settings,
  directory: DataDirectory,
  logger: Logger,
): Promise<ServingUrls | null> {
  const { databaseUrl, operatorDatabaseUrl, systemDatabaseUrl, migrationDatabaseUrl } = settings;
  if (databaseUrl === null) return null;
  if (operatorDatabaseUrl !== null && systemDatabaseUrl !== null) {
    return {
      tenant: databaseUrl,
      operator: operatorDatabaseUrl,
      system: systemDatabaseUrl,
      ...(migrationDatabaseUrl === null ? {} : { migration: migrationDatabaseUrl }),
    };
  }
  if (settings.profile === 'production' || operatorDatabaseUrl !== null || systemDatabaseUrl !== null) {
    throw new AppError(
      'invalid_configuration',
      'STOA_DATABASE_URL needs STOA_OPERATOR_DATABASE_URL and STOA_SYSTEM_DATABASE_URL beside it; `stoa db setup` writes all of them.',
    );
  }
  const { urls, notices } = await selfSetUp(databaseUrl, directory.databaseUrlsPath);
  for (const notice of notices) logger.warn({}, notice);
  return urls;
}

/**
 * Brings the schema to what this code serves, where this process may: in development, with the login that owns the
 * schema. In production only `stoa db migrate` does, so that no process changes a schema that others serve by merely
 * starting.
 * @returns `behind` where another process has to migrate it first; `ahead` where it is newer than this code serves, and
 *   the process stays unready
 */
export async function prepareSchema(
  db: SchemaDatabase,
  settings: Settings,
  logger: Logger,
  sets: readonly MigrationSet[] = migrationSets,
): Promise<SchemaState> {
  const { state, pending } = await db.schemaStatus(sets);
  if (state === 'ahead' || pending.length === 0 || !migratesItself(settings)) return state;
  await migrateAndTell(db, logger, sets);
  return 'current';
}

export type SchemaDatabase = Pick<Database, 'schemaStatus' | 'migrate'>;

/** Applies what may apply now; the log names what stays pending, and the processes that it waits for. */
export async function migrateAndTell(
  db: SchemaDatabase,
  logger: Logger,
  sets: readonly MigrationSet[] = migrationSets,
): Promise<void> {
  const report = await db.migrate(sets, { onWait: (what) => logger.info({}, what) });
  if (report.applied.length > 0) {
    logger.info(
      { applied: report.applied.length, duration_ms: Math.round(report.durationMs) },
      'the schema was migrated',
    );
  }
  for (const pending of report.pending) {
    logger.info(
      { migration: migrationLabel(pending), waits_for: pending.waitsFor.map(describeProcess) },
      'a contract migration waits for processes of an older version to end',
    );
  }
}

/** Whether this process has the login that owns the schema, and may use it without being told. */
export function migratesItself(settings: Settings): boolean {
  const { profile, databaseUrl, operatorDatabaseUrl, migrationDatabaseUrl } = settings;
  if (profile === 'production') return false;
  // Embedded, or by the logins that a development process makes for itself.
  return databaseUrl === null || operatorDatabaseUrl === null || migrationDatabaseUrl !== null;
}
