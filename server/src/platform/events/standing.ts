/**
 * Whether the log stands as it should, looked at now and then in every process: what was restored into another database
 * server has positions of a foreign count of transactions, which stops delivery without an error anywhere; and a day that is
 * held past its retention says that somebody does not read.
 */

import type { Database } from '#db';
import type { HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { eventLogMetrics } from './metrics.ts';
import type { EventDays } from './retention.ts';
import { type ExpiredDay, type Foreign, isForeign, readForeign } from './retention.sql.ts';

export interface StandingWatch extends Lifecycle {
  /**
   * `event_log_restored`: unhealthy until `stoa db after-restore` has set the positions right. `event_log_unread`: unhealthy
   * while a day is held.
   */
  readonly health: readonly HealthPart[];
  /** Looks now. */
  look(): Promise<Standing>;
}

export interface Standing {
  readonly foreign: Foreign;
  /** Oldest first. */
  readonly heldDays: readonly ExpiredDay[];
}

export interface StandingDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly days: Pick<EventDays, 'held'>;
}

/** @param everyMs between two looks, in milliseconds; default 30,000 */
export function createStandingWatch(deps: StandingDeps, everyMs = 30_000): StandingWatch {
  return new Watch(deps, everyMs);
}

class Watch implements StandingWatch {
  readonly health: readonly HealthPart[];
  readonly #deps: StandingDeps;
  readonly #everyMs: number;
  #isRestored = false;
  #held: readonly ExpiredDay[] = [];
  #foreign: Foreign | null = null;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<unknown> = Promise.resolve();
  #isStopped = true;

  constructor(deps: StandingDeps, everyMs: number) {
    this.#deps = deps;
    this.#everyMs = everyMs;
    this.health = [
      { name: 'event_log_restored', isHealthy: () => !this.#isRestored },
      { name: 'event_log_unread', isHealthy: () => this.#held.length === 0 },
    ];
    deps.metrics.observedGauge(eventLogMetrics.isRestored, () => (this.#isRestored ? 1 : 0));
    deps.metrics.observedGauge(
      eventLogMetrics.placesAhead,
      () => (this.#foreign?.places ?? 0) + (this.#foreign?.relays ?? 0),
    );
    deps.metrics.observedGauge(eventLogMetrics.daysHeld, () => this.#held.length);
  }

  /** The first look is over when this resolves, so that readiness knows from the beginning. */
  async start(): Promise<void> {
    this.#isStopped = false;
    await this.#lookOrNote();
    this.#plan();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  async look(): Promise<Standing> {
    const { db, days } = this.#deps;
    const foreign = await db.withSystem('relay', (tx) => readForeign(tx));
    const heldDays = await days.held();
    this.#judgeRestored(foreign);
    this.#judgeHeld(heldDays);
    return { foreign, heldDays };
  }

  #plan(): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.#lookOrNote().then(() => this.#plan());
    }, this.#everyMs);
    this.#timer.unref();
  }

  async #lookOrNote(): Promise<void> {
    try {
      await this.look();
    } catch (error) {
      // The database is away; others say so. What was known stands until it answers.
      this.#deps.logger.debug({ err: error }, 'the standing of the event log cannot be read');
    }
  }

  #judgeRestored(foreign: Foreign): void {
    this.#foreign = foreign;
    const isRestored = isForeign(foreign);
    if (isRestored === this.#isRestored) return;
    this.#isRestored = isRestored;
    if (isRestored)
      this.#deps.logger.error(
        { ...foreign },
        'the positions of the event log are those of another database server, and events are not delivered: stop all processes and run `stoa db after-restore`',
      );
    else this.#deps.logger.info({}, 'the positions of the event log are those of this database server again');
  }

  #judgeHeld(days: readonly ExpiredDay[]): void {
    const hadDays = this.#held.length > 0;
    this.#held = days;
    const [oldest] = days;
    if (oldest !== undefined && !hadDays)
      this.#deps.logger.error(
        { days: days.length, oldest: oldest.begins.toISOString().slice(0, 10), readers: oldest.unreadBy },
        'the event log is kept past its retention, since these have not read it',
      );
    if (oldest === undefined && hadDays)
      this.#deps.logger.info({}, 'the event log is no longer kept past its retention');
  }
}
