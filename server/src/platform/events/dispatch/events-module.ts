import type { Database } from '#db';
import type { Route } from '#http';
import type { TimerTask } from '#jobs';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry, Tracer } from '#telemetry';
import { createLogCarrier } from '../log-carrier/log-carrier.ts';
import type { EventCarrier, EventConsumer } from '../types.ts';
import { deadLetterRoutes } from './dead-letters.ts';
import { createDispatcher } from './dispatcher.ts';
import { followRoutes } from './follow.ts';
import { ownEventRoute } from './own-event.ts';
import { replayRoutes } from './replays.ts';
import { inboxRetention } from './retention.ts';
import type { RouteMakers } from './route-makers.ts';

export interface EventsDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly tracer: Tracer;
  readonly http: RouteMakers;
  /** Of the roles that this process has. */
  readonly consumers: readonly EventConsumer[];
  /** Null: the log itself is read. */
  readonly carrier: EventCarrier | null;
}

export interface EventsSettings {
  /** How long the log keeps an event. */
  readonly eventDays: number;
  /** True where no other process can have the database open. */
  readonly isAlone: boolean;
  /** How long stored events and replays stay with a process that died of them, in ms; default 30,000. Partitions: at most 15,000. */
  readonly leaseMs?: number;
}

export interface EventsModule {
  readonly api: {
    /** Events were committed, here or elsewhere. */
    wake(): void;
  };
  readonly routes: readonly Route[];
  readonly tasks: readonly TimerTask[];
  readonly lifecycle: Lifecycle;
  readonly health: readonly HealthPart[];
}

/** While a partition is nobody's, nothing of it is delivered. */
const partitionLeaseMs = 15_000;

/** Consumers of events, what became of those that failed, and what operators and tenants see of both. See README.md. */
export function createEvents(deps: EventsDeps, settings: EventsSettings): EventsModule {
  const { db, clock, logger, metrics, tracer, http, consumers } = deps;
  const { isAlone, leaseMs = 30_000 } = settings;
  const log = createLogCarrier(
    { db, clock, logger },
    { isAlone, leaseMs: Math.min(leaseMs, partitionLeaseMs) },
  );
  const carrier = deps.carrier ?? log;
  const dispatcher = createDispatcher({ db, carrier, clock, logger, metrics, tracer }, consumers, {
    leaseMs,
  });
  const onChanged = (): void => dispatcher.wake();
  return {
    api: { wake: () => carrier.wake() },
    routes: [
      ...deadLetterRoutes({ db, http, onChanged }),
      ...replayRoutes({ db, clock, http, consumers, onAsked: onChanged }),
      ...followRoutes({ db, http }),
      ownEventRoute({ db, http }),
    ],
    tasks: [inboxRetention(settings.eventDays)],
    lifecycle: dispatcher,
    health: deps.carrier === null ? [{ name: 'events', isHealthy: () => log.isHealthy() }] : [],
  };
}
