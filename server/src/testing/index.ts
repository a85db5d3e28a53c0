/**
 * Databases for tests: each call gets one of its own with the schema migrated, quickly. Test support only; production
 * code never imports this folder.
 */

import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { AllUrls, Database, MigrationSet } from '#db';
import { migrationSets } from '../app/migrations.ts';
import { openPgliteCopy } from './pglite-snapshot.ts';
import { openPostgresCopy } from './postgres-template.ts';

export { createFaultProxy, type FaultProxy, type Faults } from './fault-proxy.ts';
export {
  type Answer,
  type ControlPlane,
  type ControlPlaneOptions,
  errorIn,
  openControlPlane,
} from './control-plane.ts';

export type TestAdapter = 'pglite' | 'postgres';

export interface TestDatabaseOptions {
  /** Default: `postgres` where STOA_TEST_SERVICES is 1, else `pglite`. */
  readonly adapter?: TestAdapter;
  /** Default: those of every module. The database port's own are always in front. */
  readonly migrations?: readonly MigrationSet[];
  /** Applied behind those: a test's own tables. */
  readonly furtherMigrations?: readonly MigrationSet[];
}

export interface TestDatabase {
  readonly db: Database;
  readonly adapter: TestAdapter;
  /** The logins' URLs; on PostgreSQL only. */
  readonly urls?: AllUrls;
  /** Ends the database and takes away what the call made. */
  close(): Promise<void>;
  /** Inserts a tenant and answers its id, as UUID text. Needs the migrations of control/tenants. */
  newTenant(): Promise<string>;
}

/** A database as a test gets it from one adapter, before the conveniences. */
export interface OpenedCopy {
  readonly db: Database;
  readonly urls?: AllUrls;
  close(): Promise<void>;
}

/** The adapter that this run of the tests is for. */
export function defaultTestAdapter(): TestAdapter {
  return process.env['STOA_TEST_SERVICES'] === '1' ? 'postgres' : 'pglite';
}

/** The adapters that this run can test: PGlite always, PostgreSQL beside it where STOA_TEST_SERVICES is 1. */
export function testedAdapters(): readonly TestAdapter[] {
  return defaultTestAdapter() === 'postgres' ? ['pglite', 'postgres'] : ['pglite'];
}

/**
 * Opens a database of the caller's own, with all migrations applied, empty otherwise. The first call after a change of
 * the migrations makes a template (PGlite 4 s, PostgreSQL 1 s); later ones copy it (under 1 s, under 0.2 s).
 * PostgreSQL is reached at STOA_TEST_DATABASE_ADMIN_URL, default postgres://root@127.0.0.1:5432/postgres.
 */
export async function openTestDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const adapter = options.adapter ?? defaultTestAdapter();
  const migrations = [...(options.migrations ?? migrationSets), ...(options.furtherMigrations ?? [])];
  const copy = adapter === 'postgres' ? await openPostgresCopy(migrations) : await openPgliteCopy(migrations);
  const { db } = copy;
  return {
    ...copy,
    adapter,
    async newTenant() {
      const tenantId = randomUUID();
      await db.withOperator({ operator: 'system:test', tenantId }, 'a tenant for a test', async (tx) => {
        await sql`insert into tenant.tenants (tenant_id, name) values (${tenantId}, ${`tenant ${tenantId}`})`.execute(
          tx,
        );
      });
      return tenantId;
    },
  };
}

export {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
  type UpstreamMode,
  upstreamModes,
  type UpstreamRequest,
  upstreamSecrets,
} from './misbehaving-upstream.ts';
export { hasTestRedis, openTestRedis, type TestRedis } from './redis.ts';

export {
  callsContract,
  type CallMode,
  type CallsContract,
  openService,
  testCall,
  testPrincipal,
} from './calls/calls-contract.ts';
export { createFixtureService, fixtureApi, type FixtureState } from './calls/fixture-service.ts';
export { startListener, startReceiver, type TestListener, testSecrets } from './calls/test-listener.ts';
export { type SelfSigned, selfSigned } from './self-signed.ts';
