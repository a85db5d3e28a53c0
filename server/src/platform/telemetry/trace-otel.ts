import {
  type Link,
  ROOT_CONTEXT,
  type Span as ApiSpan,
  SpanKind,
  SpanStatusCode,
  trace,
  type Tracer as ApiTracer,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { parseTraceparent } from './trace-ids.ts';
import type { Span, Tracer } from './types.ts';

/**
 * OpenTelemetry behind the port, loaded only where a collector is configured. Nothing is registered globally. Spans
 * leave in batches by a bounded queue (2,048 by default; what is over is dropped, the request goes on).
 */

export interface OtelOptions {
  readonly serviceName: string;
  readonly serviceVersion: string;
  /** Where to post spans; without it the exporter reads OpenTelemetry's own variables. */
  readonly url?: string;
}

export interface OwnedTracer {
  readonly tracer: Tracer;
  /** Sends what is queued, then ends. Rejects where the collector doesn't take it. */
  stop(): Promise<void>;
}

class RecordedSpan implements Span {
  readonly api: ApiSpan;
  readonly traceId: string;

  constructor(api: ApiSpan) {
    this.api = api;
    this.traceId = api.spanContext().traceId;
  }

  get traceparent(): string {
    const { traceId, spanId, traceFlags } = this.api.spanContext();
    return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
  }

  setAttribute(name: string, value: string | number | boolean): void {
    this.api.setAttribute(name, value);
  }

  /** An error is told by its type and code: its message may quote what a tenant wrote. */
  end(error?: unknown): void {
    if (error !== undefined) {
      const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
      const name = error instanceof Error ? error.name : typeof error;
      this.api.setStatus({ code: SpanStatusCode.ERROR, message: typeof code === 'string' ? code : name });
      this.api.setAttribute('error.type', typeof code === 'string' ? code : name);
    }
    this.api.end();
  }
}

export function createOtelTracer(options: OtelOptions): OwnedTracer {
  const exporter = new OTLPTraceExporter(options.url === undefined ? {} : { url: options.url });
  const own = resourceFromAttributes({
    'service.name': options.serviceName,
    'service.version': options.serviceVersion,
  });
  const provider = new BasicTracerProvider({
    resource: own.merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(exporter)],
  });
  return {
    tracer: otelTracer(provider.getTracer('stoa', options.serviceVersion)),
    stop: () => provider.shutdown(),
  };
}

function otelTracer(api: ApiTracer): Tracer {
  return {
    isEnabled: true,
    startRequest(name, linkedTraceparent) {
      const links = linkedTraceparent === undefined ? [] : linksOf(linkedTraceparent);
      return new RecordedSpan(
        api.startSpan(name, { kind: SpanKind.SERVER, root: true, links }, ROOT_CONTEXT),
      );
    },
    startChild(parent, name) {
      const context = parent instanceof RecordedSpan ? trace.setSpan(ROOT_CONTEXT, parent.api) : ROOT_CONTEXT;
      return new RecordedSpan(api.startSpan(name, { kind: SpanKind.CLIENT }, context));
    },
  };
}

function linksOf(traceparent: string): Link[] {
  const remote = parseTraceparent(traceparent);
  return remote === null ? [] : [{ context: { ...remote, isRemote: true } }];
}
