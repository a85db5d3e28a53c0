import type { Counter, MetricDeclaration, MetricRegistry } from '#telemetry';

/** How the shared store answers; declared in every process, counted where Redis is set. */
const cacheMetrics = {
  calls: {
    name: 'stoa_redis_calls_total',
    help: 'Calls to Redis by outcome: answered, refused (by the server), late (past the deadline) or away.',
    labels: ['outcome'],
  },
  isUp: {
    name: 'stoa_redis_up',
    help: '1 where Redis is connected and answers, else 0; 1 where none is set.',
  },
  published: {
    name: 'stoa_broadcast_published_total',
    help: 'Messages to the other processes, by outcome: sent or failed.',
    labels: ['outcome'],
  },
  received: {
    name: 'stoa_broadcast_received_total',
    help: 'Messages of all processes that arrived here, by outcome: read or unreadable.',
    labels: ['outcome'],
  },
} as const satisfies Record<string, MetricDeclaration>;

export interface CacheCounters {
  readonly calls: Counter;
  readonly published: Counter;
  readonly received: Counter;
}

export function declareCacheMetrics(registry: MetricRegistry, isUp: () => boolean): CacheCounters {
  registry.observedGauge(cacheMetrics.isUp, () => (isUp() ? 1 : 0));
  return {
    calls: registry.counter(cacheMetrics.calls),
    published: registry.counter(cacheMetrics.published),
    received: registry.counter(cacheMetrics.received),
  };
}
