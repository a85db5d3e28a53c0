import type { MetricDeclaration, MetricRegistry } from '#telemetry';
import type { NatsCarrier } from './carrier.ts';
import type { Relay } from './relay.ts';

/** What the relay and the carrier over NATS did in this process; read when somebody scrapes. */
const natsMetrics = {
  relayed: {
    name: 'stoa_events_relayed_total',
    help: 'Events that this process copied from the log to the NATS stream.',
  },
  restarts: {
    name: 'stoa_events_relay_restarts_total',
    help: 'Times that relaying was interrupted in this process and began again behind the last message of the stream.',
  },
  lagEvents: {
    name: 'stoa_events_relay_lag_events',
    help: 'Events in the log that are not in the NATS stream yet, counted up to 100,000; absent where this process does not relay.',
    labels: ['relay'],
  },
  lagSeconds: {
    name: 'stoa_events_relay_lag_seconds',
    help: 'Age of the oldest event that is not in the NATS stream yet, in seconds; absent where this process does not relay.',
    labels: ['relay'],
  },
  redelivered: {
    name: 'stoa_events_nats_redelivered_total',
    help: 'Events that were handed to a consumer again because handing them over failed.',
    labels: ['consumer'],
  },
  fromLog: {
    name: 'stoa_events_nats_from_log_total',
    help: 'Events that a consumer got from the log because the NATS stream had lost them.',
    labels: ['consumer'],
  },
  lost: {
    name: 'stoa_events_nats_lost_total',
    help: 'Events too large for a message that a consumer will never get, because the log no longer has them; those of purged tenants do not count.',
    labels: ['consumer'],
  },
  rebuilt: {
    name: 'stoa_events_nats_rebuilt_total',
    help: 'Times that reading the NATS stream began anew, by consumer and reason (`session`, `failed`, `stream_changed`, `purged`, `stalled`).',
    labels: ['consumer', 'reason'],
  },
} as const satisfies Record<string, MetricDeclaration>;

/** Adds what several subscriptions of one consumer did. */
function sumBy<T>(
  items: readonly T[],
  labelsOf: (item: T) => Record<string, string>,
  valueOf: (item: T) => number,
): { value: number; labels: Record<string, string> }[] {
  const sums = new Map<string, { value: number; labels: Record<string, string> }>();
  for (const item of items) {
    const labels = labelsOf(item);
    const name = JSON.stringify(labels);
    sums.set(name, { labels, value: (sums.get(name)?.value ?? 0) + valueOf(item) });
  }
  return [...sums.values()];
}

/** Shows both in the registry. Call once. */
export function observeNats(registry: MetricRegistry, relay: Relay, carrier: NatsCarrier): void {
  registry.observedGauge(natsMetrics.relayed, () => relay.state().relayed);
  registry.observedGauge(natsMetrics.restarts, () => relay.state().restarts);
  const lag = (read: (lag: { events: number; seconds: number }) => number) => () => {
    const { lag: now } = relay.state();
    return now === null ? [] : [{ value: read(now), labels: { relay: 'nats' } }];
  };
  registry.observedGauge(
    natsMetrics.lagEvents,
    lag(({ events }) => events),
  );
  registry.observedGauge(
    natsMetrics.lagSeconds,
    lag(({ seconds }) => seconds),
  );
  const byConsumer = ({ consumer }: { consumer: string }): Record<string, string> => ({ consumer });
  registry.observedGauge(natsMetrics.redelivered, () =>
    sumBy(carrier.state(), byConsumer, ({ counts }) => counts.redelivered),
  );
  registry.observedGauge(natsMetrics.fromLog, () =>
    sumBy(carrier.state(), byConsumer, ({ counts }) => counts.fromLog),
  );
  registry.observedGauge(natsMetrics.lost, () =>
    sumBy(carrier.state(), byConsumer, ({ counts }) => counts.lost),
  );
  registry.observedGauge(natsMetrics.rebuilt, () => {
    const reasons = carrier
      .state()
      .flatMap(({ consumer, counts }) =>
        Object.entries(counts.rebuilt).map(([reason, count]) => ({ consumer, reason, count })),
      );
    return sumBy(
      reasons,
      ({ consumer, reason }) => ({ consumer, reason }),
      ({ count }) => count,
    );
  });
}
