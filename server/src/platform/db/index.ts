export { storableText } from './audit/storable-text.ts';
export type { AuditedAct, TenantActor } from './audit/types.ts';
export { databaseMetrics, observeDatabase } from './metrics.ts';
export { type DataDirectoryLock, lockDataDirectory } from './data-directory-lock.ts';
export { type JobGrants, systemGrants, type Verb } from './grants.ts';
export {
  databaseMigrations,
  migrationLabel,
  migrationsChecksum,
  readMigrationFiles,
} from './schema/migration-files.ts';
export {
  announceProcess,
  describeProcess,
  processRetention,
  type ProcessFacts,
} from './schema/serving-processes.ts';
export { openDatabase, openDumpableDatabase } from './open.ts';
export {
  isCheckViolation,
  isDataFault,
  isForeignKeyViolation,
  isPermissionDenied,
  isTransientConflict,
  isUniqueViolation,
  SqlError,
} from './sql-error.ts';
export type {
  Database,
  DatabaseSettings,
  DoorCounts,
  DoorOptions,
  MigrateOptions,
  Migration,
  MigrationPhase,
  MigrationReport,
  MigrationSet,
  OperatorContext,
  OperatorHandle,
  PendingMigration,
  PgliteSettings,
  PoolSizes,
  PostgresSettings,
  PostgresUrls,
  SchemaState,
  SchemaStatus,
  ServingProcess,
  SystemHandle,
  SystemJob,
  TenantContext,
  TenantHandle,
} from './types.ts';
export { Utf8Text } from './value-encoder.ts';
export { type RoleSetUp, setUpRoles } from './postgres/roles.ts';
export { selfSetUp } from './postgres/self-set-up.ts';
export { type AllUrls, writeUrlsFile } from './postgres/urls.ts';
