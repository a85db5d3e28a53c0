import type { DestinationStream } from 'pino';
import type { Logger } from '#kernel';
import { createLogger, type LogLevel } from './log.ts';
import { observeProcess } from './process-metrics.ts';
import { createMetricRegistry } from './registry.ts';
import { offTracer } from './trace-off.ts';
import type { OwnedTracer } from './trace-otel.ts';
import type { MetricRegistry, Tracer } from './types.ts';

export interface TelemetrySettings {
  readonly logLevel: LogLevel;
  /** Names the process in traces where OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES don't. */
  readonly serviceName: string;
  readonly serviceVersion: string;
  /**
   * Null: no traces. Else spans go to `url`, and without one to where OpenTelemetry's own `OTEL_EXPORTER_OTLP_...`
   * variables say.
   */
  readonly tracing: { readonly url?: string } | null;
  /** Where log lines go; default standard output. */
  readonly logDestination?: DestinationStream;
  /** How long `stop` waits for the collector to take the last spans. Milliseconds, default 5,000. */
  readonly stopDeadlineMs?: number;
}

export interface Telemetry {
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly tracer: Tracer;
  /** All metrics in the text format of Prometheus. */
  renderMetrics(): Promise<string>;
  readonly metricsContentType: string;
  /** Sends queued spans (giving up at the deadline), ends the sampling, flushes the log. May be called twice. */
  stop(): Promise<void>;
}

const defaultStopDeadlineMs = 5_000;

/**
 * Logs, metrics and traces of one process. OpenTelemetry is loaded only with `tracing`, so that it costs nothing else.
 */
export async function createTelemetry(settings: TelemetrySettings): Promise<Telemetry> {
  const log = createLogger({
    level: settings.logLevel,
    ...(settings.logDestination === undefined ? {} : { destination: settings.logDestination }),
  });
  const { logger } = log;
  const registry = createMetricRegistry((metric, error) => {
    logger.error({ metric, error }, 'a metric could not be read');
  });
  const stopSampling = observeProcess(registry.metrics, settings.serviceVersion);
  const traces = await startTracing(settings);
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    stopSampling();
    if (traces !== null) {
      await within(traces.stop(), settings.stopDeadlineMs ?? defaultStopDeadlineMs).catch(
        (error: unknown) => {
          logger.warn({ error }, 'the last spans could not be sent');
        },
      );
    }
    await log.flush();
  };
  return {
    logger,
    metrics: registry.metrics,
    tracer: traces?.tracer ?? offTracer,
    renderMetrics: () => registry.render(),
    metricsContentType: registry.contentType,
    stop: () => (stopping ??= stop()),
  };
}

async function startTracing(settings: TelemetrySettings): Promise<OwnedTracer | null> {
  if (settings.tracing === null) return null;
  const { createOtelTracer } = await import('./trace-otel.ts');
  const { url } = settings.tracing;
  const { serviceName, serviceVersion } = settings;
  return createOtelTracer({ serviceName, serviceVersion, ...(url === undefined ? {} : { url }) });
}

async function within(work: Promise<void>, deadlineMs: number): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`not done within ${deadlineMs} ms`)), deadlineMs);
  try {
    await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
