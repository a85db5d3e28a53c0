import type { Database } from '#db';
import type { TimerTask } from '#jobs';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { createHorizonWatch, type HorizonSettings, type HorizonWatch } from './horizon.ts';
import { createEventDays } from './retention.ts';
import { createStandingWatch } from './standing.ts';
import { announceCommits, createWakeUps, type WakeUps, type WakeUpSettings } from './wake.ts';

export interface EventLogDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
}

export interface EventLogSettings {
  readonly wake: WakeUpSettings;
  readonly horizon?: HorizonSettings;
  /** How long an event is kept, in days. Default 7. */
  readonly days?: number;
  /** The stream that a relay copies the log to, which the log waits for before it drops a day; default null: there is none. */
  readonly relay?: string | null;
  /** How often the log's standing is looked at, in milliseconds; default 30,000. */
  readonly standingEveryMs?: number;
}

export interface EventLog {
  /** The database for everybody who writes events: each commit that wrote some is announced. */
  readonly db: Database;
  readonly wakeUps: WakeUps;
  readonly horizon: HorizonWatch;
  /** In every role: makes the days to come, hears others, watches the horizon and the log's standing. */
  readonly lifecycle: Lifecycle;
  readonly health: readonly HealthPart[];
  /** For one process at a time. */
  readonly tasks: readonly TimerTask[];
}

/** What the log needs to live: its days, its wake-ups and the watches over its horizon and its standing. See README.md. */
export function createEventLog(deps: EventLogDeps, settings: EventLogSettings): EventLog {
  const wakeUps = createWakeUps(deps, settings.wake);
  const horizon = createHorizonWatch(deps, settings.horizon);
  const days = createEventDays(deps, {
    ...(settings.days === undefined ? {} : { days: settings.days }),
    relay: settings.relay ?? null,
  });
  const standing = createStandingWatch({ ...deps, days }, settings.standingEveryMs);
  return {
    db: announceCommits(deps.db, () => wakeUps.announce()),
    wakeUps,
    horizon,
    lifecycle: {
      async start() {
        await days.prepare();
        await wakeUps.start();
        await horizon.start();
        await standing.start();
      },
      async stop() {
        await horizon.stop();
        await wakeUps.stop();
      },
    },
    health: [horizon.health, ...standing.health],
    tasks: [days.task],
  };
}
