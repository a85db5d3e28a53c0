import type { Database, SystemHandle } from '#db';
import type { TimerTask } from '#jobs';
import type { Clock, Logger } from '#kernel';
import { dropMonths, makeMonths } from './retention.sql.ts';

type SystemDoor = Pick<Database, 'withSystem'>;

export interface RetentionDeps {
  readonly db: SystemDoor;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface RetentionSettings {
  /** How long explanations are kept, in days. Default 90, at least 28. */
  readonly requestDays?: number;
  /** How long usage is kept, in months of the calendar. Default 13, at least 1. */
  readonly usageMonths?: number;
}

export interface PartitionKeeper {
  /** Once an hour: `prepare`, then `expire`. */
  readonly task: TimerTask;
  /** Makes the partitions of the coming time. At start before readiness, and by the timer; may run anywhere at once. */
  prepare(through?: SystemDoor): Promise<void>;
  /** Makes what is missing for records of these times; false where they lie beyond what is sensible (a wrong clock). */
  prepareFor(earliestMs: number, latestMs: number): Promise<boolean>;
  /** Drops what is past its retention: whole partitions, once all of one is past it. By one timer at a time, through its fenced door. */
  expire(through?: SystemDoor): Promise<void>;
}

const monthsAhead = 2;
const dayMs = 86_400_000;

function monthsBetween(earliest: Date, latest: Date): number {
  const years = latest.getUTCFullYear() - earliest.getUTCFullYear();
  return years * 12 + latest.getUTCMonth() - earliest.getUTCMonth() + 1;
}

function startOfMonth(atMs: number, monthsBack: number): Date {
  const at = new Date(atMs);
  return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() - monthsBack, 1));
}

/** The months of the gateway's tables. */
export function createPartitionKeeper(
  deps: RetentionDeps,
  settings: RetentionSettings = {},
): PartitionKeeper {
  const { db, clock, logger } = deps;

  async function makeAll(tx: SystemHandle, from: Date, months: number): Promise<number> {
    const requests = await makeMonths(tx, 'tenant.requests', from, months);
    return requests + (await makeMonths(tx, 'tenant.usage_records', from, months));
  }

  /** A transaction for each table, so that nobody waits for one table's lock because of another's. */
  async function inDoor(
    { withSystem }: SystemDoor,
    work: (tx: SystemHandle) => Promise<number>,
  ): Promise<number> {
    return withSystem('partitions', work);
  }

  async function make(through: SystemDoor, from: Date, months: number): Promise<void> {
    const made = await inDoor(through, (tx) => makeAll(tx, from, months));
    if (made > 0) logger.info({ made }, 'partitions made');
  }

  const keeper: PartitionKeeper = {
    task: {
      name: 'gateway-partitions',
      everyMs: 3_600_000,
      async run(leader) {
        await keeper.prepare(leader);
        await keeper.expire(leader);
      },
    },
    async prepare(through = db) {
      await make(through, new Date(clock.now()), monthsAhead + 1);
    },
    async prepareFor(earliestMs, latestMs) {
      const now = clock.now();
      if (earliestMs < startOfMonth(now, 14).getTime() || latestMs >= startOfMonth(now, -3).getTime())
        return false;
      const earliest = new Date(earliestMs);
      await make(db, earliest, monthsBetween(earliest, new Date(latestMs)));
      return true;
    },
    async expire(through = db) {
      const now = clock.now();
      const requestsBefore = new Date(now - (settings.requestDays ?? 90) * dayMs);
      const usageBefore = startOfMonth(now, settings.usageMonths ?? 13);
      const dropped = {
        requests: await inDoor(through, (tx) => dropMonths(tx, 'tenant.requests', requestsBefore)),
        usage: await inDoor(through, (tx) => dropMonths(tx, 'tenant.usage_records', usageBefore)),
      };
      if (dropped.requests + dropped.usage > 0) {
        logger.info(dropped, 'expired partitions dropped');
      }
    },
  };
  return keeper;
}
