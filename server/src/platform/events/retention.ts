import { sql } from 'kysely';
import type { Database, SystemHandle } from '#db';
import type { TimerTask } from '#jobs';
import type { Logger } from '#kernel';
import type { Counter, MetricRegistry } from '#telemetry';
import { eventLogMetrics } from './metrics.ts';
import { type ExpiredDay, selectExpiredDays } from './retention.sql.ts';

/**
 * The log's partitions: a day each, made ahead of their time and dropped whole when all of one is past its retention and
 * every consumer in use, and the relay, has read past it. A day that somebody has not read is held for `longestHoldDays` more;
 * then it is dropped with a line in the log that says whose events were lost, and counted.
 */
export interface EventDays {
  /** Once an hour: `prepare`, then `expire`. */
  readonly task: TimerTask;
  /** Makes today's partition and those of the next 7 days. At start, and by the timer; may run anywhere at once. */
  prepare(through?: SystemDoor): Promise<void>;
  /** Drops what is past its retention and read, or held for too long. By one timer at a time, through its fenced door. */
  expire(through?: SystemDoor): Promise<void>;
  /** The days that are past their retention and kept for whoever has not read them, oldest first. */
  held(): Promise<readonly ExpiredDay[]>;
}

type SystemDoor = Pick<Database, 'withSystem'>;

export interface EventDaysDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface EventDaysSettings {
  /** How long an event is kept, in days of 24 hours by the database's clock. Default 7, at least 1. */
  readonly days?: number;
  /** The name of the relay's place, where there is a relay; default null. */
  readonly relay?: string | null;
}

const daysAhead = 7;

/**
 * For how many days beyond its retention a day is held that is not read. Also for how long beyond it a consumer that nobody
 * feeds counts as in use: whoever is away for longer finds the log as it is then. The inbox outlives both.
 */
export const longestHoldDays = 7;

interface CountRow {
  readonly count: number;
}

export function createEventDays(deps: EventDaysDeps, settings: EventDaysSettings = {}): EventDays {
  const { db, logger } = deps;
  const { days = 7, relay = null } = settings;
  const lost = deps.metrics.counter(eventLogMetrics.daysLost);
  const longestHeldEnd = (): Date => new Date(Date.now() - (days + longestHoldDays) * 86_400_000);
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
      const { dropped, gone } = await through.withSystem('partitions', async (tx) => {
        const expired = await selectExpiredDays(tx, days, days + longestHoldDays, relay);
        const { heldFrom, unread } = judge(expired, longestHeldEnd());
        return { dropped: await dropDays(tx, days, heldFrom), gone: unread };
      });
      tellLost(deps, lost, gone);
      if (dropped > 0) logger.info({ dropped }, 'expired days of the event log dropped');
    },
    async held() {
      const expired = await db.withSystem('partitions', (tx) =>
        selectExpiredDays(tx, days, days + longestHoldDays, relay),
      );
      return expired.filter((day) => day.unreadBy.length > 0);
    },
  };
  return eventDays;
}

/** From which day on the log is held, null for none; and the days that go although somebody has not read them. */
function judge(
  expired: readonly ExpiredDay[],
  longestHeldEnd: Date,
): { readonly heldFrom: Date | null; readonly unread: readonly ExpiredDay[] } {
  const held = expired.find((day) => day.unreadBy.length > 0 && day.ends > longestHeldEnd);
  const unread = expired.filter(
    (day) =>
      (held === undefined || day.ends <= held.begins) && day.unreadBy.length + day.unreadByGone.length > 0,
  );
  return { heldFrom: held?.begins ?? null, unread };
}

/** Says of each day that went unread whose events are lost. */
function tellLost({ logger }: EventDaysDeps, lost: Counter, gone: readonly ExpiredDay[]): void {
  for (const { begins, unreadBy, unreadByGone } of gone) {
    const day = begins.toISOString().slice(0, 10);
    for (const reader of unreadBy) lost.add(1, { reader });
    if (unreadBy.length > 0)
      logger.error(
        { day, readers: unreadBy },
        'a day of the event log was dropped that these have not read: its events are lost to them',
      );
    if (unreadByGone.length > 0)
      logger.warn(
        { day, readers: unreadByGone },
        'a day of the event log was dropped that these have not read; nobody has fed them for weeks',
      );
  }
}

/** Makes the days of the event log from today. Answers how many were made. */
async function makeDays(tx: SystemHandle, ahead: number): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.make_partitions('tenant.events'::regclass, 'day', ${ahead}::integer) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}

/**
 * Drops the days of the event log that ended `days` ago, by the database's own clock, up to where it is held. Answers how
 * many were dropped.
 */
async function dropDays(tx: SystemHandle, days: number, heldFrom: Date | null): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.drop_partitions('tenant.events'::regclass,
      least(now() - make_interval(days => ${days}::integer), ${heldFrom}::timestamptz)) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}
