import { sql } from 'kysely';
import type { Database, SystemHandle } from '#db';
import type { TimerTask } from '#jobs';
import type { Logger } from '#kernel';

/** The log's partitions: a day each, made ahead of their time and dropped whole when all of one is past its retention. */
export interface EventDays {
  /** Once an hour: `prepare`, then `expire`. */
  readonly task: TimerTask;
  /** Makes today's partition and those of the next 7 days. At start, and by the timer; may run anywhere at once. */
  prepare(through?: SystemDoor): Promise<void>;
  /** Drops what is past its retention. By one timer at a time, through its fenced door. */
  expire(through?: SystemDoor): Promise<void>;
}

type SystemDoor = Pick<Database, 'withSystem'>;

export interface EventDaysDeps {
  readonly db: Database;
  readonly logger: Logger;
}

const daysAhead = 7;

interface CountRow {
  readonly count: number;
}

/** `days`: how long an event is kept, in days of 24 hours by the database's clock. Default 7, at least 1. */
export function createEventDays({ db, logger }: EventDaysDeps, days = 7): EventDays {
  const eventDays: EventDays = {
    task: {
      name: 'event-partitions',
      everyMs: 3_600_000,
      async run(leader) {
        await eventDays.prepare(leader);
        await eventDays.expire(leader);
      },
    },
    async prepare(through: SystemDoor = db) {
      const made = await through.withSystem('partitions', (tx) => makeDays(tx, daysAhead));
      if (made > 0) logger.info({ made }, 'days of the event log made');
    },
    async expire(through: SystemDoor = db) {
      const dropped = await through.withSystem('partitions', (tx) => dropDays(tx, days));
      if (dropped > 0) logger.info({ dropped }, 'expired days of the event log dropped');
    },
  };
  return eventDays;
}

/** Makes the days of the event log from today. Answers how many were made. */
async function makeDays(tx: SystemHandle, ahead: number): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.make_partitions('tenant.events'::regclass, 'day', ${ahead}::integer) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}

/** Drops the days of the event log that ended `days` ago, by the database's own clock. Answers how many were dropped. */
async function dropDays(tx: SystemHandle, days: number): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.drop_partitions('tenant.events'::regclass, now() - make_interval(days => ${days}::integer)) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}
