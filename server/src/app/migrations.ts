import { databaseMigrations, type MigrationSet } from '#db';

/** Every module's migrations, in the order in which they apply: a table's owner stands before those that refer to it. */
export const migrationSets: readonly MigrationSet[] = [databaseMigrations];
