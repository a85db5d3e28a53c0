import type { Database, MigrationSet } from '#db';
import type { EventConsumer } from '#events';
import type { GuardedClient, Route } from '#http';
import type { JobsApi, NamedJob } from '#jobs';
import type { Clock, Logger, Sealer } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { fanOutConsumer } from './consumers.ts';
import { createDeliveryStore } from './deliveries.ts';
import { disable } from './disable.ts';
import { createEndpointStore } from './endpoints.ts';
import { webhookRoutes } from './http.ts';
import { roundJob, upkeepJob } from './jobs.ts';
import { webhookMetrics } from './metrics.ts';
import { createRounds, type RoundSettings } from './rounds.ts';
import { createSubscriptions } from './subscriptions.ts';

export { webhookMetrics } from './metrics.ts';
export type { RoundSettings } from './rounds.ts';

export interface WebhooksDeps {
  readonly db: Database;
  /** For the tenants' URLs. */
  readonly guarded: Pick<GuardedClient, 'call' | 'check'>;
  /** The queue, which is made after the modules that declare jobs. */
  readonly jobs: () => JobsApi;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** 0 up to 1, 1 excluded. */
  readonly random: () => number;
}

export interface WebhooksModule {
  /** For the public listener. */
  readonly routes: Route[];
  /** Run in the role `control`. */
  readonly consumers: readonly EventConsumer[];
  readonly jobs: readonly NamedJob[];
  readonly migrations: MigrationSet;
}

/** The SQL files of this module; after those of control/tenants. */
export const webhooksMigrations: MigrationSet = {
  module: 'control/webhooks',
  directory: new URL('./migrations/', import.meta.url),
};

/** Outgoing webhooks: where tenants want their events sent, and the sending. See README.md. */
export function createWebhooks(deps: WebhooksDeps, rounds: RoundSettings = {}): WebhooksModule {
  const { metrics, jobs, logger } = deps;
  const askSubscriptions = createSubscriptions(deps.db);
  const disabled = metrics.counter(webhookMetrics.disabled);
  const run = createRounds(
    {
      ...deps,
      counts: {
        attempts: metrics.counter(webhookMetrics.attempts),
        seconds: metrics.histogram(webhookMetrics.seconds),
        putOff: metrics.counter(webhookMetrics.putOff),
      },
      disable: (endpoint, reason) => disable({ ...deps, disabled }, endpoint, reason),
    },
    rounds,
    () => round,
  );
  const round = roundJob(run);
  return {
    routes: webhookRoutes(createEndpointStore(deps), createDeliveryStore({ ...deps, round })),
    consumers: [fanOutConsumer({ askSubscriptions, jobs, round })],
    jobs: [round, upkeepJob({ db: deps.db, jobs, round, logger })],
    migrations: webhooksMigrations,
  };
}
