import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import type { EventCarrier } from '../types.ts';
import { createNatsCarrier } from './carrier.ts';
import { createNatsLink, type NatsSettings } from './link.ts';
import { observeNats } from './metrics.ts';
import { createRelay, type LeasePort, type RelaySettings } from './relay.ts';

export interface NatsEventsDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly leases: LeasePort;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** Whether this process may hold the relay's lease. */
  readonly isRelay: boolean;
}

export interface NatsEvents {
  /** Wake-ups of the log go to its `wake`: it passes them to the relay. */
  readonly carrier: EventCarrier;
  /**
   * `nats`: degraded while NATS is away, the stream can't be used, or relaying fails again and again. `event_reading`: while
   * a lane of a consumer fails again and again at one place.
   */
  readonly health: readonly HealthPart[];
  /** What is wrong, for an operator, without credentials; null where nothing is. */
  problem(): string | null;
  /** The connection and the relay. Start before the dispatcher and stop after it. */
  readonly lifecycle: Lifecycle;
}

/** All that a process of a cluster needs of NATS: one connection, a relay that waits for its lease, and the carrier. */
export function createNatsEvents(
  deps: NatsEventsDependencies,
  settings: NatsSettings,
  relaySettings: RelaySettings = {},
): NatsEvents {
  const { db, leases, clock, logger, metrics } = deps;
  const link = createNatsLink({ db, logger }, settings);
  const relay = createRelay({ link, db, leases, clock, logger, holder: randomUUID() }, relaySettings);
  const carrier = createNatsCarrier({ link, db, clock, logger, wakeRelay: () => relay.wake() });
  observeNats(metrics, relay, carrier);
  return {
    carrier,
    health: [
      { name: 'nats', isHealthy: () => link.health.isHealthy() && relay.isHealthy() },
      { name: 'event_reading', isHealthy: () => carrier.state().every(({ stuckLanes }) => stuckLanes === 0) },
    ],
    problem: () =>
      link.problem() ?? (relay.isHealthy() ? null : 'Events can be copied to NATS only in part.'),
    lifecycle: {
      async start() {
        await link.start();
        if (deps.isRelay) await relay.start();
      },
      async stop() {
        await relay.stop();
        await link.stop();
      },
    },
  };
}
