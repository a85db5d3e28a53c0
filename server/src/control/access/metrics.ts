import type { Counter, MetricRegistry } from '#telemetry';

/** What is read when somebody scrapes. */
export interface AccessReadings {
  readonly cachedKeys: () => number;
  readonly cachedTokens: () => number;
  readonly pendingLookups: () => number;
  readonly unknownKeys: () => number;
  readonly changesAgeSeconds: () => number;
}

export interface AccessMetrics {
  readonly refusals: Counter;
  readonly lookupQueries: Counter;
  readonly pollFailures: Counter;
}

/** Declares the metrics of authentication. Uses that are let through are counted by the edge, as requests. */
export function accessMetrics(registry: MetricRegistry, readings: AccessReadings): AccessMetrics {
  registry.observedGauge(
    { name: 'stoa_auth_cached_keys', help: 'API keys in the cache of this process' },
    readings.cachedKeys,
  );
  registry.observedGauge(
    { name: 'stoa_auth_cached_tokens', help: 'Verified access tokens in the cache of this process' },
    readings.cachedTokens,
  );
  registry.observedGauge(
    { name: 'stoa_auth_pending_lookups', help: 'Key ids that wait for a look-up or are in one' },
    readings.pendingLookups,
  );
  registry.observedGauge(
    { name: 'stoa_auth_unknown_keys', help: 'Key ids remembered as being in no table' },
    readings.unknownKeys,
  );
  registry.observedGauge(
    {
      name: 'stoa_auth_changes_age_seconds',
      help: 'Time since changes of keys and tenants were last read; at 900 cached keys are refused',
    },
    readings.changesAgeSeconds,
  );
  return {
    refusals: registry.counter({
      name: 'stoa_auth_refusals_total',
      help: 'Credentials refused, by error code',
      labels: ['code'],
    }),
    lookupQueries: registry.counter({
      name: 'stoa_auth_lookup_queries_total',
      help: 'Queries for keys, by kind of key',
      labels: ['kind'],
    }),
    pollFailures: registry.counter({
      name: 'stoa_auth_poll_failures_total',
      help: 'Polls for changes of keys and tenants that failed',
    }),
  };
}
