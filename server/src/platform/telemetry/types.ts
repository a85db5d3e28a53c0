/**
 * Metrics and traces as ports. A module declares its metrics in its `metrics.ts`, as
 * `export const <module>Metrics = { requests: { name, help, labels } } as const satisfies Record<string, MetricDeclaration>`,
 * and hands each declaration to this registry; the page docs/reference/metrics.md is made from the same objects.
 *
 * Names carry their unit and say what they are: what ends in `_total` counts, what has buckets is a histogram, all
 * else is a gauge. Labels are fixed; a label of tenants, keys, users or requests is refused. A metric holds at most
 * 1,000 series: beyond, all further ones share the one whose every label is `other`.
 */
export interface Counter {
  /** `value` must not be negative; one that is, or is no finite number, is passed over. */
  add(value: number, labels?: Readonly<Record<string, string>>): void;
}
export interface Gauge {
  set(value: number, labels?: Readonly<Record<string, string>>): void;
}
export interface Histogram {
  observe(value: number, labels?: Readonly<Record<string, string>>): void;
}

export interface MetricDeclaration {
  /** With its unit: `stoa_request_duration_seconds`. */
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

export interface MetricRegistry {
  counter(declaration: MetricDeclaration): Counter;
  gauge(declaration: MetricDeclaration): Gauge;
  /**
   * Read when somebody scrapes: a gauge, or a counter where the name ends in `_total`. A `read` that throws leaves its
   * metric out of that scrape and nothing else.
   */
  observedGauge(declaration: MetricDeclaration, read: () => ObservedValue): void;
  histogram(declaration: MetricDeclaration): Histogram;
}

/** One value, or one for each set of labels. */
export type ObservedValue = number | readonly { value: number; labels: Readonly<Record<string, string>> }[];

/** A unit of traced work. With tracing off every method is a no-op and `traceId` still names the request. */
export interface Span {
  readonly traceId: string;
  /** `traceparent` for the call to the next hop. */
  readonly traceparent: string;
  setAttribute(name: string, value: string | number | boolean): void;
  end(error?: unknown): void;
}

export interface Tracer {
  readonly isEnabled: boolean;
  /** A new trace for a request; the caller's own traceparent, if valid, becomes a link and never the parent. */
  startRequest(name: string, linkedTraceparent?: string): Span;
  startChild(parent: Span, name: string): Span;
}
