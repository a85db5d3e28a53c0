import type { Database, SchemaStatus } from '#db';
import { migrationLabel } from '#db';
import { AppError, type Lifecycle, type Logger } from '#kernel';
import { migrationSets } from './migrations.ts';
import type { Readiness } from './readiness.ts';

/**
 * A process and the schema that it meets, which another process changes (`stoa db migrate`). It serves every schema from the
 * one in which all of its own expand migrations have applied, up to the one in which a contract migration applies that it
 * doesn't know:
 *
 * | the schema is | the process |
 * | --- | --- |
 * | older, at the start | listens, is not ready (`schema_behind`), and goes on with its start once the schema is current |
 * | newer by expand migrations alone | serves |
 * | newer than that, at the start | starts nothing, writes nothing, is never ready (`schema_ahead`) |
 * | newer than that, while it serves | is not ready and takes no calls (`schema_ahead`); what runs goes on to its end |
 *
 * The last happens only to a process that was taken for dead, or has none of `announceProcess`: contract migrations wait for
 * the others.
 */
export interface SchemaWatchDeps {
  readonly db: Pick<Database, 'schemaStatus'>;
  readonly readiness: Readiness;
  readonly logger: Logger;
}

export interface SchemaWatchSettings {
  readonly everyMs?: number;
  /** Called while contract migrations are pending and no process that is alive keeps them from applying. */
  readonly contract?: () => Promise<void>;
}

/** The migrations that a process doesn't serve, for its log. */
export function unservedMigrations({ applied }: SchemaStatus): string[] {
  return applied.filter((row) => row.phase === 'contract' && !row.isKnown).map(migrationLabel);
}

/** Waits at the start for as long as the schema is older than this code needs. A database that is away is waited for, too. */
export async function awaitSchema(
  { db, readiness, logger }: SchemaWatchDeps,
  everyMs = 1_000,
): Promise<'current' | 'ahead'> {
  readiness.phase = 'schema_behind';
  logger.warn(
    {},
    'the database schema is older than this version needs; the start waits for `stoa db migrate`',
  );
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, everyMs));
    const status = await statusOf(db);
    if (status === null || status.state === 'behind') continue;
    readiness.phase = 'starting';
    return status.state;
  }
}

/** Looks at the schema every `everyMs` milliseconds (default 5,000) while the process serves. */
export function schemaWatch(
  { db, readiness, logger }: SchemaWatchDeps,
  { everyMs = 5_000, contract }: SchemaWatchSettings = {},
): Lifecycle {
  let timer: NodeJS.Timeout | undefined;
  let looking: Promise<void> = Promise.resolve();
  let isStopped = false;
  const look = async (): Promise<void> => {
    try {
      const status = await statusOf(db);
      if (status !== null) follow(status, readiness, logger);
      if (contract && status !== null && canContract(status)) await contract();
    } catch (error) {
      logger.error({ err: error }, 'the state of the database schema cannot be told');
    }
    plan();
  };
  const plan = (): void => {
    if (isStopped) return;
    timer = setTimeout(() => {
      looking = look();
    }, everyMs);
    timer.unref();
  };
  return {
    async start() {
      plan();
    },
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await looking;
    },
  };
}

function follow(status: SchemaStatus, readiness: Readiness, logger: Logger): void {
  if (status.state === 'ahead' && readiness.phase === 'ready') {
    readiness.phase = 'schema_ahead';
    logger.error(
      { migrations: unservedMigrations(status) },
      'the database schema is newer now than this version serves',
    );
  } else if (status.state === 'current' && readiness.phase === 'schema_ahead') {
    readiness.phase = 'ready';
    logger.info({}, 'the database schema is one that this version serves again');
  }
}

function canContract({ state, pending }: SchemaStatus): boolean {
  if (state !== 'current') return false;
  return pending.some(
    (migration) => migration.phase === 'contract' && !migration.waitsFor.some((process) => process.isAlive),
  );
}

/** Null where the database is away: that says nothing of its schema. */
async function statusOf(db: SchemaWatchDeps['db']): Promise<SchemaStatus | null> {
  try {
    return await db.schemaStatus(migrationSets);
  } catch (error) {
    if (error instanceof AppError && error.code === 'database_unavailable') return null;
    throw error;
  }
}
