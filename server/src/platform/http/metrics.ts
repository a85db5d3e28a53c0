import type { MetricDeclaration } from '#telemetry';

/** What each listener counts; endpoints are ids of the contract, so the series are bounded. */
export const httpMetrics = {
  requests: {
    name: 'stoa_http_requests_total',
    help: 'HTTP requests answered, by endpoint and status.',
    labels: ['endpoint', 'status'],
  },
  seconds: {
    name: 'stoa_http_request_duration_seconds',
    help: 'Time from the head of a request to the end of its answer, in seconds.',
    labels: ['endpoint'],
    buckets: [0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 120, 600],
  },
} as const satisfies Record<string, MetricDeclaration>;
