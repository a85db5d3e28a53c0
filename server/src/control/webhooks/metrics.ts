import type { MetricDeclaration } from '#telemetry';

export const webhookMetrics = {
  attempts: {
    name: 'stoa_webhook_attempts_total',
    help: 'Attempts to deliver a webhook: delivered, failed, or the endpoint gone (410).',
    labels: ['outcome'],
  },
  seconds: {
    name: 'stoa_webhook_attempt_duration_seconds',
    help: 'How long an attempt to deliver a webhook took.',
    labels: [],
    buckets: [0.05, 0.25, 1, 3, 10, 15],
  },
  disabled: {
    name: 'stoa_webhook_endpoints_disabled_total',
    help: 'Endpoints that were disabled by themselves: gone (410) or failing for five days.',
    labels: ['reason'],
  },
  putOff: {
    name: 'stoa_webhook_rounds_put_off_total',
    help: 'Rounds of deliveries put off because too many of slow endpoints, or of one tenant, ran.',
    labels: ['reason'],
  },
} as const satisfies Record<string, MetricDeclaration>;
