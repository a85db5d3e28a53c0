import type { Database } from '#db';
import { AppError, type Lifecycle, type Logger } from '#kernel';
import { migrationSets } from './migrations.ts';
import type { Readiness } from './readiness.ts';

/**
 * A process and the schema that it meets, which another process changes (`stoa db migrate`):
 *
 * | the schema is | the process |
 * | --- | --- |
 * | older, at the start | listens, is not ready (`schema_behind`), and goes on with its start once the schema is current |
 * | newer, at the start | starts nothing, writes nothing, is never ready (`schema_ahead`) |
 * | newer, while it serves | is not ready and takes no calls (`schema_ahead`); what runs goes on to its end |
 *
 * A migration that says that older code can live with it is not newer in this sense.
 */
export interface SchemaWatchDeps {
  readonly db: Pick<Database, 'schemaState'>;
  readonly readiness: Readiness;
  readonly logger: Logger;
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
    const state = await stateOf(db);
    if (state === null || state === 'behind') continue;
    readiness.phase = 'starting';
    return state;
  }
}

/** Looks at the schema every `everyMs` milliseconds while the process serves. */
export function schemaWatch({ db, readiness, logger }: SchemaWatchDeps, everyMs = 5_000): Lifecycle {
  let timer: NodeJS.Timeout | undefined;
  let looking: Promise<void> = Promise.resolve();
  let isStopped = false;
  const look = async (): Promise<void> => {
    const state = await stateOf(db).catch((error: unknown) => {
      logger.error({ err: error }, 'the state of the database schema cannot be told');
      return null;
    });
    if (state === 'ahead' && readiness.phase === 'ready') {
      readiness.phase = 'schema_ahead';
      logger.error({}, 'the database schema is newer now than this version serves');
    } else if (state === 'current' && readiness.phase === 'schema_ahead') {
      readiness.phase = 'ready';
      logger.info({}, 'the database schema is one that this version serves again');
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

/** Null where the database is away: that says nothing of its schema. */
async function stateOf(db: SchemaWatchDeps['db']) {
  try {
    return await db.schemaState(migrationSets);
  } catch (error) {
    if (error instanceof AppError && error.code === 'database_unavailable') return null;
    throw error;
  }
}
