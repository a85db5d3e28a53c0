import type { MetricDeclaration, MetricRegistry } from '#telemetry';
import type { StoreCount } from './deliveries.sql.ts';

/** What consumers of events do in this process, and what lies in the delivery store. Consumers are a fixed list. */
const consumerMetrics = {
  handled: {
    name: 'stoa_events_handled_total',
    help: 'Events that had their effect on a consumer in this process.',
    labels: ['consumer'],
  },
  failed: {
    name: 'stoa_events_failed_attempts_total',
    help: 'Attempts to handle an event that failed in this process, by the code that is kept with the event.',
    labels: ['consumer', 'code'],
  },
  held: {
    name: 'stoa_events_held_total',
    help: 'Events that were put aside because an earlier one of their key failed or had not arrived.',
    labels: ['consumer', 'reason'],
  },
  seconds: {
    name: 'stoa_events_handling_seconds',
    help: 'Time of one transaction that handled an event or a batch, failed ones among them.',
    labels: ['consumer'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
  },
  lag: {
    name: 'stoa_events_lag',
    help: 'Events that wait for a consumer in the partitions that this process feeds, as of the last look.',
    labels: ['consumer'],
  },
  stored: {
    name: 'stoa_events_stored',
    help: 'Events in the delivery store by state (`held`, `retrying`, `dead`, `parked`), as of the last look.',
    labels: ['consumer', 'state'],
  },
  oldestDead: {
    name: 'stoa_events_oldest_dead_seconds',
    help: 'When the oldest dead or parked event first failed, in seconds since the Unix epoch; absent where there is none.',
    labels: ['consumer'],
  },
} as const satisfies Record<string, MetricDeclaration>;

export interface DispatchMetrics {
  handled(consumer: string, count: number): void;
  failed(consumer: string, code: string): void;
  held(consumer: string, reason: 'blocked' | 'gap'): void;
  took(consumer: string, ms: number): void;
}

/** @param lags and `stored` are read when somebody scrapes */
export function dispatchMetrics(
  registry: MetricRegistry,
  lags: () => ReadonlyMap<string, number>,
  stored: () => readonly StoreCount[],
): DispatchMetrics {
  const handled = registry.counter(consumerMetrics.handled);
  const failed = registry.counter(consumerMetrics.failed);
  const held = registry.counter(consumerMetrics.held);
  const seconds = registry.histogram(consumerMetrics.seconds);
  registry.observedGauge(consumerMetrics.lag, () =>
    [...lags()].map(([consumer, value]) => ({ value, labels: { consumer } })),
  );
  registry.observedGauge(consumerMetrics.stored, () =>
    stored().map(({ consumer, state, count }) => ({ value: count, labels: { consumer, state } })),
  );
  registry.observedGauge(consumerMetrics.oldestDead, () => {
    const oldest = new Map<string, number>();
    for (const { consumer, state, oldest: since } of stored()) {
      if (state !== 'dead' && state !== 'parked') continue;
      oldest.set(consumer, Math.min(oldest.get(consumer) ?? Number.POSITIVE_INFINITY, since.getTime()));
    }
    return [...oldest].map(([consumer, value]) => ({ value: value / 1000, labels: { consumer } }));
  });
  return {
    handled: (consumer, count) => handled.add(count, { consumer }),
    failed: (consumer, code) => failed.add(1, { consumer, code }),
    held: (consumer, reason) => held.add(1, { consumer, reason }),
    took: (consumer, ms) => seconds.observe(ms / 1000, { consumer }),
  };
}
