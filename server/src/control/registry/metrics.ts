import type { MetricDeclaration } from '#telemetry';

export const registryMetrics = {
  targets: {
    name: 'stoa_registry_targets',
    help: 'Targets that this process can route to, by kind and source.',
    labels: ['kind', 'source'],
  },
  listingFailures: {
    name: 'stoa_registry_listing_failures',
    help: "Failed listings of providers' models since the process started.",
    labels: [],
  },
  pollFailures: {
    name: 'stoa_registry_poll_failures_total',
    help: 'Failed looks for changes in the database.',
    labels: [],
  },
} as const satisfies Record<string, MetricDeclaration>;
