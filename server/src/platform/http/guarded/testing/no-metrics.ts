import type { MetricRegistry } from '#telemetry';

/** Counts nothing. */
export const noMetrics: MetricRegistry = {
  counter: () => ({ add: () => undefined }),
  gauge: () => ({ set: () => undefined }),
  observedGauge: () => undefined,
  histogram: () => ({ observe: () => undefined }),
};
