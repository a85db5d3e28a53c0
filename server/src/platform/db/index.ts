export { databaseMetrics, observeDatabase } from './metrics.ts';
export { type DataDirectoryLock, lockDataDirectory } from './data-directory-lock.ts';
export { type JobGrants, systemGrants, type Verb } from './grants.ts';
export { databaseMigrations, migrationsChecksum } from './migration-files.ts';
export { openDatabase, openDumpableDatabase } from './open.ts';
export {
  isCheckViolation,
  isForeignKeyViolation,
  isPermissionDenied,
  isTransientConflict,
  isUniqueViolation,
  SqlError,
} from './sql-error.ts';
export type {
  AppliedMigration,
  Database,
  DatabaseSettings,
  DoorCounts,
  DoorOptions,
  MigrationReport,
  MigrationSet,
  OperatorContext,
  OperatorHandle,
  PgliteSettings,
  PoolSizes,
  PostgresSettings,
  PostgresUrls,
  SchemaState,
  SystemHandle,
  SystemJob,
  TenantContext,
  TenantHandle,
} from './types.ts';
export { type RoleSetUp, setUpRoles } from './postgres/roles.ts';
export { selfSetUp } from './postgres/self-set-up.ts';
export { type AllUrls, writeUrlsFile } from './postgres/urls.ts';
