import type { Counter, MetricDeclaration, MetricRegistry } from '#telemetry';

const limitsMetrics = {
  refusals: {
    name: 'stoa_rate_limit_refusals_total',
    help: 'Requests that a rate limit refused, by class of routes.',
    labels: ['route_class'],
  },
  withoutStore: {
    name: 'stoa_rate_limit_without_store_total',
    help: 'Requests with a limit while the shared store was away, by class and what happened: share (of each limit) or closed.',
    labels: ['route_class', 'behaviour'],
  },
  lostCorrections: {
    name: 'stoa_rate_limit_lost_corrections_total',
    help: 'Estimates of tokens that stayed as they were because the shared store was away when the use was known.',
  },
  unknownKeys: {
    name: 'stoa_unknown_keys_held_total',
    help: 'Credentials unknown to this process whose address had sent too many wrong ones: waited (for the one look-up of each second) or refused before it.',
    labels: ['outcome'],
  },
  processes: {
    name: 'stoa_rate_limit_processes',
    help: 'Processes that share the limits, as last seen.',
  },
} as const satisfies Record<string, MetricDeclaration>;

export interface LimitsCounters {
  readonly refusals: Counter;
  readonly withoutStore: Counter;
  readonly lostCorrections: Counter;
  readonly unknownKeys: Counter;
}

export function limitsCounters(registry: MetricRegistry, processCount: () => number): LimitsCounters {
  registry.observedGauge(limitsMetrics.processes, processCount);
  return {
    refusals: registry.counter(limitsMetrics.refusals),
    withoutStore: registry.counter(limitsMetrics.withoutStore),
    lostCorrections: registry.counter(limitsMetrics.lostCorrections),
    unknownKeys: registry.counter(limitsMetrics.unknownKeys),
  };
}
