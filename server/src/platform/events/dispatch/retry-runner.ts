import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Lifecycle, Logger } from '#kernel';
import type { EventConsumer } from '../types.ts';
import {
  countStored,
  hasSuspects,
  leaseDue,
  type StoreCount,
  type StoredDelivery,
} from './deliveries.sql.ts';
import type { Handling } from './handling.ts';
import { createLoop } from './loop.ts';

export interface RetryRunner extends Lifecycle {
  /** Something was stored that may be due soon. */
  wake(): void;
  /** As of the last look. */
  stored(): readonly StoreCount[];
}

export interface RetryRunnerDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly handling: () => Handling;
}

export interface RetryRunnerSettings {
  /** How often the store is looked into by itself. Milliseconds. */
  readonly pollMs: number;
  readonly leaseMs: number;
  /** How often the store is counted for the metrics. Milliseconds. */
  readonly countEveryMs: number;
}

/** How many stored events a process tries at once. */
const atOnce = 16;

/**
 * Tries what lies in the delivery store and is due, for these consumers, beside any number of other processes: each
 * event is leased, and one whose process died is due again after its lease.
 */
export function createRetryRunner(
  { db, logger, handling }: RetryRunnerDeps,
  consumers: readonly EventConsumer[],
  settings: RetryRunnerSettings,
): RetryRunner {
  const byName = new Map(consumers.map((consumer) => [consumer.name, consumer]));

  async function tryOne(delivery: StoredDelivery): Promise<void> {
    const consumer = byName.get(delivery.consumer);
    if (consumer !== undefined) await handling().retry(consumer, delivery);
  }

  async function lease(limit: number, isAlone: boolean): Promise<readonly StoredDelivery[]> {
    const wanted = { token: randomUUID(), ms: settings.leaseMs, limit, isAlone };
    return db.withSystem('event-dispatch', (tx) => leaseDue(tx, [...byName.keys()], wanted));
  }

  /**
   * One at a time, alone in this process, and leased only then: those beside a killer would be blamed for what it does.
   * Answers whether there was one.
   */
  async function trySuspect(): Promise<boolean> {
    const isThere = await db.withSystem('event-dispatch', (tx) => hasSuspects(tx, [...byName.keys()]));
    if (!isThere) return false;
    await handling().alone(async () => {
      const [suspect] = await lease(1, true);
      const consumer = byName.get(suspect?.consumer ?? '');
      if (suspect !== undefined && consumer !== undefined) await handling().retryAlone(consumer, suspect);
    });
    return true;
  }

  /** Until nothing is due. Rejects where the store can't be read or written. */
  async function drain(isStopping: () => boolean): Promise<void> {
    while (!isStopping()) {
      const due = await lease(atOnce, false);
      const tried = await Promise.allSettled(due.map(tryOne));
      const failed = tried.find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      const hadSuspect = await trySuspect();
      if (due.length === 0 && !hadSuspect) return;
    }
  }

  const retries = createLoop(drain, settings.pollMs, (error) =>
    logger.warn({ err: error }, 'stored events could not be tried; they stay in the store'),
  );
  const { counting, stored } = countStore({ db, logger }, settings.countEveryMs);
  return {
    async start() {
      if (byName.size === 0) return;
      await Promise.all([retries.start(), counting.start()]);
    },
    async stop() {
      await Promise.all([retries.stop(), counting.stop()]);
    },
    wake: () => retries.wake(),
    stored,
  };
}

/** The store, counted now and then for the metrics. */
function countStore(
  { db, logger }: Pick<RetryRunnerDeps, 'db' | 'logger'>,
  everyMs: number,
): { readonly counting: Lifecycle; readonly stored: () => readonly StoreCount[] } {
  let counts: readonly StoreCount[] = [];
  const counting = createLoop(
    async () => {
      counts = await db.withSystem('event-dispatch', countStored);
    },
    everyMs,
    (error) => logger.debug({ err: error }, 'the delivery store could not be counted'),
  );
  return { counting, stored: () => counts };
}
