import type { Database } from '#db';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { type HorizonRow, readHorizon } from './horizon.sql.ts';
import { eventLogMetrics } from './metrics.ts';

/**
 * The horizon is the oldest transaction of the database server that has written and still runs, in whatever database;
 * events at or above it can't be read yet, by anybody. One that was left open holds all delivery back, so its age is
 * watched, shown and, past a limit, complained of with its name.
 */
export interface HorizonWatch extends Lifecycle {
  /** `event_horizon`: unhealthy while a transaction older than the limit holds delivery back. */
  readonly health: HealthPart;
  /** Looks now. */
  look(): Promise<HorizonState>;
}

export interface HorizonState {
  /** Age of the oldest writer, in seconds; 0 where none runs. Never more than it truly is. */
  readonly ageSeconds: number;
  /** Who it is, where that can be seen. */
  readonly culprit: HorizonCulprit | null;
}

export interface HorizonCulprit {
  readonly database: string | null;
  readonly pid: number | null;
  readonly login: string | null;
  readonly application: string | null;
  /** As PostgreSQL names it (`idle in transaction`), `prepared`, or null where this login may not see it. */
  readonly state: string | null;
}

export interface HorizonDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface HorizonSettings {
  /** From which age on it is complained of, in milliseconds; default 30,000. */
  readonly limitMs?: number;
  /** Between two looks, in milliseconds; default 5,000. */
  readonly everyMs?: number;
}

const nobody: HorizonState = { ageSeconds: 0, culprit: null };

/** PGlite has one session, so nobody else can hold anything back there: its age is always 0. */
export function createHorizonWatch(deps: HorizonDeps, settings: HorizonSettings = {}): HorizonWatch {
  return new Watch(deps, settings);
}

class Watch implements HorizonWatch {
  readonly health: HealthPart = { name: 'event_horizon', isHealthy: () => !this.#isLate };
  readonly #deps: HorizonDeps;
  readonly #limitSeconds: number;
  readonly #everyMs: number;
  #state = nobody;
  #isLate = false;
  /** The holder of the last look, and since when this process knows it: its true start may not be visible. */
  #holder: { readonly xmin: string; readonly sinceMs: number } | null = null;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<unknown> = Promise.resolve();
  #isStopped = true;

  constructor(deps: HorizonDeps, settings: HorizonSettings) {
    this.#deps = deps;
    this.#limitSeconds = (settings.limitMs ?? 30_000) / 1000;
    this.#everyMs = settings.everyMs ?? 5000;
    deps.metrics.observedGauge(eventLogMetrics.horizonAge, () => this.#state.ageSeconds);
  }

  async start(): Promise<void> {
    if (this.#deps.db.adapter === 'pglite') return;
    this.#isStopped = false;
    this.#plan();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
  }

  async look(): Promise<HorizonState> {
    if (this.#deps.db.adapter === 'pglite') return nobody;
    const row = await this.#deps.db.withSystem('relay', (tx) => readHorizon(tx));
    this.#state = this.#stateOf(row);
    this.#judge();
    return this.#state;
  }

  #plan(): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#looking = this.look()
        .catch((error: unknown) => {
          // The database is away; others say so. What was known of the horizon stands until it answers.
          this.#deps.logger.debug({ err: error }, 'the horizon of the event log cannot be read');
        })
        .then(() => this.#plan());
    }, this.#everyMs);
    this.#timer.unref();
  }

  #stateOf(row: HorizonRow | undefined): HorizonState {
    if (row?.is_held !== true) {
      this.#holder = null;
      return nobody;
    }
    const nowMs = this.#deps.clock.monotonic();
    if (this.#holder?.xmin !== row.xmin) this.#holder = { xmin: row.xmin, sinceMs: nowMs };
    const knownSeconds = (nowMs - this.#holder.sinceMs) / 1000;
    const { database, pid, login, application, state } = row;
    const isSeen = database !== null || pid !== null;
    return {
      ageSeconds: Math.max(knownSeconds, row.age_seconds ?? 0),
      culprit: isSeen ? { database, pid, login, application, state } : null,
    };
  }

  #judge(): void {
    const { ageSeconds, culprit } = this.#state;
    const isLate = ageSeconds > this.#limitSeconds;
    if (isLate === this.#isLate) return;
    this.#isLate = isLate;
    const facts = { ageSeconds: Math.round(ageSeconds * 10) / 10, ...culprit };
    if (isLate) this.#deps.logger.error(facts, 'an old transaction holds the delivery of events back');
    else this.#deps.logger.info(facts, 'the delivery of events is no longer held back');
  }
}
