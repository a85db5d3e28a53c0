import { newSpanId, newTraceId } from './trace-ids.ts';
import type { Span, Tracer } from './types.ts';

/** A span that records nothing and still names its trace. Its `traceparent` says "not sampled". */
class NamedSpan implements Span {
  readonly traceId: string;
  #traceparent: string | null = null;

  constructor(traceId: string) {
    this.traceId = traceId;
  }

  get traceparent(): string {
    this.#traceparent ??= `00-${this.traceId}-${newSpanId()}-00`;
    return this.#traceparent;
  }

  setAttribute(): void {}

  end(): void {}
}

/** The tracer without a collector: ids only, at about a fifth of a microsecond each. */
export const offTracer: Tracer = {
  isEnabled: false,
  startRequest: () => new NamedSpan(newTraceId()),
  startChild: (parent) => new NamedSpan(parent.traceId),
};
