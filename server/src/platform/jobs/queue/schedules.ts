/**
 * Enqueues what is due by the clock. Every process that runs jobs keeps the times; whichever comes first takes an occurrence
 * by moving the schedule's row past it, in the transaction that enqueues, so each occurrence makes one job. Occurrences
 * that passed while no process ran make one job together.
 */

import type { PgBoss } from 'pg-boss';
import type { Database } from '#db';
import { type Clock, type Logger, newUuid } from '#kernel';
import type { NamedJob } from './define.ts';
import { enqueueFor, type ScheduleRow, selectSchedules, takeOccurrence } from './jobs.sql.ts';

/** The first occurrence after `from`, in UTC, or null where there is none. Throws for text that is no cron. */
export function nextOccurrence(
  boss: Pick<PgBoss, 'previewSchedule'>,
  schedule: string,
  from: Date,
): Date | null {
  return boss.previewSchedule(schedule, { count: 1, tz: 'UTC', from })[0] ?? null;
}

export interface ScheduleDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly boss: Pick<PgBoss, 'previewSchedule'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onEnqueued: () => void;
}

/** Also the longest time after which a changed clock is noticed. */
const longestWaitMs = 60_000;
const shortestWaitMs = 50;

export class Schedules {
  readonly #deps: ScheduleDependencies;
  readonly #names: readonly string[];
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #isStopped = true;

  constructor(deps: ScheduleDependencies, jobs: Iterable<NamedJob>) {
    this.#deps = deps;
    this.#names = [...jobs].filter(({ schedule }) => schedule !== null).map(({ name }) => name);
  }

  start(): void {
    if (this.#names.length === 0) return;
    this.#isStopped = false;
    this.#wait(0);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** Enqueues what is due now. Answers when the next occurrence is, in ms of the wall clock. */
  async enqueueDue(): Promise<number> {
    const { db, boss, clock, onEnqueued } = this.#deps;
    const rows = await db.withSystem('jobs', (tx) => selectSchedules(tx, this.#names));
    const now = clock.now();
    let next = Number.POSITIVE_INFINITY;
    for (const row of rows) {
      const due = nextOccurrence(boss, row.schedule, row.scheduled_until);
      if (due === null) continue;
      if (due.getTime() > now) {
        next = Math.min(next, due.getTime());
        continue;
      }
      if (await this.#enqueue(row, due, new Date(now))) onEnqueued();
      const after = nextOccurrence(boss, row.schedule, new Date(now));
      if (after !== null) next = Math.min(next, after.getTime());
    }
    return next;
  }

  async #enqueue(row: ScheduleRow, occurrence: Date, until: Date): Promise<boolean> {
    return this.#deps.db.withSystem('jobs', async (tx) => {
      if (!(await takeOccurrence(tx, row, occurrence, until))) return false;
      await enqueueFor(tx, null, {
        id: newUuid(),
        name: row.name,
        data: '{}',
        key: null,
        runAfter: null,
        traceparent: null,
      });
      return true;
    });
  }

  #wait(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#running = this.#turn();
    }, delayMs);
    this.#timer.unref();
  }

  async #turn(): Promise<void> {
    let waitMs = longestWaitMs;
    try {
      const next = await this.enqueueDue();
      waitMs = Math.min(longestWaitMs, Math.max(shortestWaitMs, next - this.#deps.clock.now()));
    } catch (error) {
      this.#deps.logger.warn({ err: error }, 'schedules could not be looked at; it is tried again');
    }
    if (!this.#isStopped) this.#wait(waitMs);
  }
}
