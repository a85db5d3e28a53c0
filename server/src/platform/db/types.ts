/**
 * The interface of the database port. All access to rows goes through one of three doors; each hands its callback a
 * handle of its own type, so that a query function says by its parameter which door it needs, and a query outside of a
 * door cannot be written: a plain Kysely lacks the brand.
 */

import type { Kysely } from 'kysely';
import type { Audited, TenantActor } from './audit/types.ts';
import type { SystemJob } from './grants.ts';

export type { SystemJob } from './grants.ts';

/** Carried by every handle; the value names the door. Stays inside this module, so nobody else can brand a Kysely. */
export const door: unique symbol = Symbol('stoa.door');

/** Queries are written as SQL (`sql<Row>\`...\`.execute(tx)`), so the handles know of no table types. */
export type NoTables = Record<string, never>;

/** One open transaction as `stoa_tenant`, its tenant set: row security shows that tenant's rows and no others. */
export type TenantHandle = Kysely<NoTables> & Audited & { readonly [door]: 'tenant' };

/** One open transaction as `stoa_operator`: every tenant's rows; its audit entry is part of the transaction. */
export type OperatorHandle = Kysely<NoTables> & Audited & { readonly [door]: 'operator' };

/** One open transaction as `stoa_system`: every tenant's rows, in the tables and verbs that the job's grant lists. */
export type SystemHandle = Kysely<NoTables> & Audited & { readonly [door]: 'system' };

/** From where a request came, for the audit. */
export interface RequestFacts {
  /** `req_...` */
  readonly requestId?: string;
  readonly clientAddress?: string;
  readonly userAgent?: string | null;
}

/** `actingTenant` of the kernel makes one of a request. */
export interface TenantContext extends RequestFacts {
  /** The tenant's id as UUID text in lower case; anything else is refused before a statement is sent. */
  readonly tenantId: string;
  /** Who acts; needed where something is changed, for its entry in the audit. */
  readonly actor?: TenantActor;
}

/** `actingOperator` of the kernel makes one of a request. */
export interface OperatorContext extends RequestFacts {
  /** Who acts: an operator key's id, or `system:` and what runs by itself (`system:set-up`). */
  readonly operator: string;
  /** As whom, where the operator's roles differ. */
  readonly role?: string;
  /** The tenant acted upon, as UUID text, where there is one. */
  readonly tenantId?: string;
}

export interface DoorOptions {
  /**
   * How long each statement, and the wait for a connection, may take. Milliseconds, 1 to 600,000; default 5,000.
   * Past it the caller gets `deadline_exceeded`, and the transaction is rolled back.
   */
  readonly deadlineMs?: number;
  /** Aborting ends the wait and the running statement; the door then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** The SQL files of one module. */
export interface MigrationSet {
  /** The module's name, as in `control/tenants`. Part of the key under which applied files are remembered. */
  readonly module: string;
  /** The folder of the files `NNNN-name.sql`, numbered from 0001 without a gap, never changed once applied. */
  readonly directory: URL;
}

/**
 * `expand` adds, and code of the version before goes on working; it applies before the new version starts. `contract`
 * takes away what only older versions use; it applies when none of those runs any more.
 */
export type MigrationPhase = 'expand' | 'contract';

export interface Migration {
  readonly module: string;
  readonly number: number;
  readonly name: string;
  readonly phase: MigrationPhase;
}

/** A process that announced itself (`announceProcess`). */
export interface ServingProcess {
  readonly processId: string;
  readonly roles: readonly string[];
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** Module -> the newest migration's number that its code knows. */
  readonly known: Readonly<Record<string, number>>;
  readonly seenAt: Date;
  /** Since its last heartbeat, by the database's clock. */
  readonly silentMs: number;
  /** False once its announcement has run out. */
  readonly isAlive: boolean;
}

export interface PendingMigration extends Migration {
  /** The processes whose code doesn't know it; always empty for an expand migration, which waits for nobody. */
  readonly waitsFor: readonly ServingProcess[];
}

export interface MigrateOptions {
  /**
   * What becomes of contract migrations on a database that has a schema already. `apply` (the default): each applies unless a
   * process that doesn't know it is there. `leave`: none applies. On an empty database all of them apply.
   */
  readonly contracts?: 'apply' | 'leave';
  /** Told in a sentence what is waited for: another process that migrates, a lock, announcements that ran out. */
  readonly onWait?: (what: string) => void;
}

export interface MigrationReport {
  /** What this call applied, in order; empty when nothing was missing. */
  readonly applied: readonly Migration[];
  /** Contract migrations that it left. */
  readonly pending: readonly PendingMigration[];
  readonly durationMs: number;
}

/**
 * `current`: one that this code serves: all of its expand migrations have applied, and no contract migration that it doesn't
 * know. Its own contract migrations may still be pending, and expand migrations of newer versions may have applied.
 * `behind`: expand migrations wait to be applied. `ahead`: a contract migration has applied that this code doesn't know.
 */
export type SchemaState = 'current' | 'behind' | 'ahead';

export interface SchemaStatus {
  readonly state: SchemaState;
  /** In the order in which they applied. `isKnown` false: of a newer version than this code. */
  readonly applied: readonly (Migration & { readonly appliedAt: Date; readonly isKnown: boolean })[];
  readonly pending: readonly PendingMigration[];
  readonly processes: readonly ServingProcess[];
}

/** How often each door was used since the process opened its database; for metrics. */
export interface DoorCounts {
  readonly tenant: number;
  readonly operator: number;
  readonly system: Readonly<Partial<Record<SystemJob, number>>>;
}

/**
 * One database. Every method may be called concurrently. A lost server rejects with `database_unavailable` and recovers
 * by itself; what a statement itself is refused for (a unique violation, say) arrives as `SqlError`, to be inspected with
 * `isUniqueViolation` and its siblings.
 */
export interface Database {
  /**
   * Runs `fn` in one transaction that sees and changes one tenant's rows only. Commits when `fn` resolves, rolls back
   * when it throws, and passes its error on. Never call a model, or wait for anything but SQL, inside. A door inside a
   * door throws at once.
   */
  withTenant<T>(
    context: TenantContext,
    fn: (tx: TenantHandle) => Promise<T>,
    options?: DoorOptions,
  ): Promise<T>;
  /**
   * Like `withTenant`, over all tenants. No passage is without its entry in the audit, in the same transaction: those that
   * `fn` wrote with `tx.audit`, or one of the passage itself. Each bears `reason`, which begins with the act's name.
   */
  withOperator<T>(
    context: OperatorContext,
    reason: string,
    fn: (tx: OperatorHandle) => Promise<T>,
    options?: DoorOptions,
  ): Promise<T>;
  /** Like `withTenant`, over all tenants, limited to the tables and verbs that `grants.ts` lists for the job. */
  withSystem<T>(job: SystemJob, fn: (tx: SystemHandle) => Promise<T>, options?: DoorOptions): Promise<T>;
  /**
   * Applies what is missing, in the order of the sets and then of the numbers, one transaction a file; a contract migration
   * only where nobody needs what it takes away, else it and the contract migrations after it stay pending. Refuses with
   * `migration_changed` a changed old file and a gap in the numbers, with `schema_ahead` a database that is ahead, and
   * with `migration_waits` where another process migrates, or a table is busy, for too long. Of several processes that
   * call this at once one migrates, and the others wait for it.
   */
  migrate(sets: readonly MigrationSet[], options?: MigrateOptions): Promise<MigrationReport>;
  schemaState(sets: readonly MigrationSet[]): Promise<SchemaState>;
  /** The same with everything that led to it. Reads as the system login. */
  schemaStatus(sets: readonly MigrationSet[]): Promise<SchemaStatus>;
  /** Resolves when the database answers within the deadline (default 1,000 ms), else rejects. */
  ping(deadlineMs?: number): Promise<void>;
  doorCounts(): DoorCounts;
  readonly adapter: 'pglite' | 'postgres';
  /** Waits for open transactions up to their own deadlines, then closes. May be called twice. */
  close(): Promise<void>;
}

/** The logins of a PostgreSQL server, as connection URLs. */
export interface PostgresUrls {
  readonly tenant: string;
  readonly operator: string;
  readonly system: string;
  /** Absent in processes that only serve: `migrate` then rejects with `invalid_configuration`. */
  readonly migration?: string;
}

export interface PoolSizes {
  /** Connections, 1 to 200; default 10. */
  readonly tenant?: number;
  /** Connections, 1 to 200; default 4. */
  readonly operator?: number;
  /** Connections, 1 to 200; default 4. */
  readonly system?: number;
}

/** PGlite in a worker thread. Without `directory` the database lives in memory and ends with the process. */
export interface PgliteSettings {
  readonly adapter: 'pglite';
  /** Path of PGlite's own folder (`<data directory>/pglite`). The caller holds the data directory's lock. */
  readonly directory?: string;
  /** A dumped data directory (tar) to start from, where the database doesn't exist yet. */
  readonly snapshot?: Uint8Array;
  /** As in `PostgresSettings`. */
  readonly idleLimitMs?: number;
  /** How often the growth of the log is looked at (default 10,000 ms), and from which on a checkpoint is made (32 MiB). */
  readonly checkpoints?: { readonly lookEveryMs: number; readonly growthBytes: number };
}

export interface PostgresSettings {
  readonly adapter: 'postgres';
  readonly urls: PostgresUrls;
  readonly pools?: PoolSizes;
  /** Shown in pg_stat_activity; default `stoa`. */
  readonly applicationName?: string;
  /**
   * How long a transaction may stand still between two statements before it is rolled back and its door rejects with
   * `deadline_exceeded`. Milliseconds; default 10,000.
   */
  readonly idleLimitMs?: number;
}

export type DatabaseSettings = PgliteSettings | PostgresSettings;
