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
  shed: {
    name: 'stoa_shed_requests_total',
    help: "Tenants' requests that were refused at their head because the process had too much to do, by priority.",
    labels: ['priority'],
  },
  queueDelay: {
    name: 'stoa_queue_delay_seconds',
    help: 'How long requests have lastingly waited for the event loop; refusals begin where it stays above STOA_SHED_DELAY_MS.',
  },
  overloaded: {
    name: 'stoa_overloaded',
    help: '1 while interactive requests are refused too, else 0.',
  },
  guardedCalls: {
    name: 'stoa_outbound_guarded_calls_total',
    help: 'Calls to URLs that tenants gave: answered, refused (why) or failed (how).',
    labels: ['outcome', 'reason'],
  },
} as const satisfies Record<string, MetricDeclaration>;
