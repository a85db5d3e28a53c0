/**
 * Metrics and traces as ports. A module declares its metrics in its `metrics.ts` by `defineMetrics`-style calls on this
 * registry; names carry their unit, labels are fixed, tenant is never a free label.
 */
export interface Counter {
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
  /** A gauge read when somebody scrapes. */
  observedGauge(declaration: MetricDeclaration, read: () => number | readonly { value: number; labels: Readonly<Record<string, string>> }[]): void;
  histogram(declaration: MetricDeclaration): Histogram;
}

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
