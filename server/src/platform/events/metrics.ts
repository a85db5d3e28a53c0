import type { MetricDeclaration } from '#telemetry';

export const eventLogMetrics = {
  horizonAge: {
    name: 'stoa_event_horizon_age_seconds',
    help: 'Age of the oldest transaction of the whole database server that holds the delivery of events back; 0 where none does.',
  },
  notices: {
    name: 'stoa_event_notices_total',
    help: 'Wake-ups sent to other processes, by outcome (`sent`, `failed`).',
    labels: ['outcome'],
  },
  isListening: {
    name: 'stoa_event_listening',
    help: '1 while this process hears the wake-ups of others, 0 while it only polls.',
  },
} as const satisfies Record<string, MetricDeclaration>;
