import { databaseMigrations, type MigrationSet } from '#db';

function migrationsOf(module: string): MigrationSet {
  return { module, directory: new URL(`../${module}/migrations/`, import.meta.url) };
}

/** Every module's migrations, in the order in which they apply: a table's owner stands before those that refer to it. */
export const migrationSets: readonly MigrationSet[] = [
  databaseMigrations,
  migrationsOf('control/tenants'),
  migrationsOf('control/access'),
  migrationsOf('control/quotas'),
  migrationsOf('control/registry'),
  migrationsOf('control/prices'),
  migrationsOf('platform/events'),
  migrationsOf('platform/jobs'),
  migrationsOf('control/webhooks'),
  migrationsOf('services/gateway'),
];
