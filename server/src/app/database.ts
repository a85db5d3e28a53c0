import type { Settings } from '@stoa/contracts';
import { type AllUrls, type Database, openDatabase, selfSetUp } from '#db';
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
 * Brings the schema to what this code serves. Development migrates by itself; production is told to run
 * `stoa db migrate`, so that no process changes a schema that others serve by merely starting.
 * @returns `ahead` where the schema is newer than this code serves; the process then stays unready
 */
export async function prepareSchema(
  db: Database,
  settings: Settings,
  logger: Logger,
): Promise<'current' | 'ahead'> {
  const state = await db.schemaState(migrationSets);
  if (state === 'behind' && settings.profile === 'production') {
    throw new AppError(
      'invalid_configuration',
      'The database schema is older than this version needs: run `stoa db migrate` first.',
    );
  }
  if (state !== 'behind') return state;
  const report = await db.migrate(migrationSets);
  logger.info(
    { applied: report.applied.length, duration_ms: Math.round(report.durationMs) },
    'the schema was migrated',
  );
  return 'current';
}
