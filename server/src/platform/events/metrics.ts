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
  isRestored: {
    name: 'stoa_event_log_restored',
    help: '1 while the positions of the log are those of another database server and events are not delivered: run `stoa db after-restore`; else 0.',
  },
  placesAhead: {
    name: 'stoa_event_places_ahead',
    help: 'Places of consumers and of the relay that lie ahead of every transaction of this database server; 0 but after a restore.',
  },
  daysHeld: {
    name: 'stoa_event_log_days_held',
    help: 'Days of the log that are past their retention and kept because a consumer or the relay has not read past them.',
  },
  daysLost: {
    name: 'stoa_event_log_days_lost_total',
    help: 'Days of the log that this process dropped although the reader (a consumer, or `relay` and its name) had not read past them.',
    labels: ['reader'],
  },
  isListening: {
    name: 'stoa_event_listening',
    help: '1 while this process hears the wake-ups of others, 0 while it only polls.',
  },
} as const satisfies Record<string, MetricDeclaration>;
