import type { Broadcast } from '#cache';
import type { Database, MigrationSet } from '#db';
import type { EventConsumer } from '#events';
import type { GuardedClient, Route } from '#http';
import type { JobsApi, NamedJob } from '#jobs';
import type { Clock, Lifecycle, Logger, Sealer } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { fanOutConsumer } from './consumers.ts';
import { createDeliveryStore } from './deliveries.ts';
import { disable, type DisableDeps } from './disable.ts';
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
  /** Between processes. Without one they hear of each other's changes by the poll alone. */
  readonly broadcast?: Broadcast;
}

export interface WebhooksSettings {
  /** How often the database is asked for webhooks of other processes. Milliseconds; default 1,000. */
  readonly pollEveryMs?: number;
  readonly rounds?: RoundSettings;
}

export interface WebhooksModule {
  /** For the public listener. */
  readonly routes: Route[];
  /** Run in the role `control`. */
  readonly consumers: readonly EventConsumer[];
  readonly jobs: readonly NamedJob[];
  readonly lifecycle: Lifecycle;
  readonly migrations: MigrationSet;
}

/** The SQL files of this module; after those of control/tenants. */
export const webhooksMigrations: MigrationSet = {
  module: 'control/webhooks',
  directory: new URL('./migrations/', import.meta.url),
};

/** Outgoing webhooks: where tenants want their events sent, and the sending. See README.md. */
export function createWebhooks(deps: WebhooksDeps, settings: WebhooksSettings = {}): WebhooksModule {
  const { metrics, jobs, logger } = deps;
  const subscriptions = createSubscriptions(deps, { pollEveryMs: settings.pollEveryMs ?? 1000 });
  const onChanged: DisableDeps['onChanged'] = (row) => subscriptions.changed(row);
  const disabled = metrics.counter(webhookMetrics.disabled);
  const run = createRounds(
    {
      ...deps,
      counts: {
        attempts: metrics.counter(webhookMetrics.attempts),
        seconds: metrics.histogram(webhookMetrics.seconds),
        putOff: metrics.counter(webhookMetrics.putOff),
      },
      disable: (endpoint, reason) => disable({ ...deps, disabled, onChanged }, endpoint, reason),
    },
    settings.rounds ?? {},
    () => round,
  );
  const round = roundJob(run);
  return {
    routes: webhookRoutes(
      createEndpointStore({ ...deps, onChanged }),
      createDeliveryStore({ ...deps, round }),
    ),
    consumers: [fanOutConsumer({ subscriptions, jobs, round })],
    jobs: [round, upkeepJob({ db: deps.db, jobs, round, logger })],
    lifecycle: subscriptions.lifecycle,
    migrations: webhooksMigrations,
  };
}
