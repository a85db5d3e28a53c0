import type { MetricDeclaration } from './types.ts';

export type MetricKind = 'counter' | 'gauge' | 'histogram';

/** What a declaration says it is: `_total` counts, buckets make a histogram, all else is a gauge. */
export function metricKind(declaration: MetricDeclaration): MetricKind {
  if (declaration.buckets !== undefined) return 'histogram';
  return declaration.name.endsWith('_total') ? 'counter' : 'gauge';
}
