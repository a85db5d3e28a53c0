import { readdirSync } from 'node:fs';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { telemetryMetrics } from './metrics.ts';
import type { MetricRegistry } from './types.ts';

/** How often the event loop's lateness is sampled; by libuv, without waking JavaScript. */
const resolutionMs = 20;
const nanosecondsPerSecond = 1e9;
const quantiles = [
  ['0.5', 50],
  ['0.99', 99],
  ['1', 100],
] as const;

/**
 * Declares and observes what the process knows of itself. Everything is read when somebody scrapes, but for the lag of
 * the event loop, which is sampled all the time.
 * @returns stops the sampling
 */
export function observeProcess(registry: MetricRegistry, version: string): () => void {
  const stopSampling = observeEventLoop(registry);
  registry.observedGauge(telemetryMetrics.cpuSeconds, () => {
    const { user, system } = process.cpuUsage();
    return [
      { value: user / 1e6, labels: { mode: 'user' } },
      { value: system / 1e6, labels: { mode: 'system' } },
    ];
  });
  registry.observedGauge(telemetryMetrics.residentBytes, () => process.memoryUsage.rss());
  registry.observedGauge(telemetryMetrics.heapUsedBytes, () => process.memoryUsage().heapUsed);
  registry.observedGauge(telemetryMetrics.heapTotalBytes, () => process.memoryUsage().heapTotal);
  registry.observedGauge(telemetryMetrics.externalBytes, () => process.memoryUsage().external);
  registry.observedGauge(telemetryMetrics.openFileDescriptors, openFileDescriptors);
  registry.observedGauge(telemetryMetrics.startTime, () => performance.timeOrigin / 1000);
  registry.observedGauge(telemetryMetrics.build, () => [
    { value: 1, labels: { version, node: process.version } },
  ]);
  return stopSampling;
}

/** Each sample is the time between two ticks, so a loop that is never late shows the resolution: it is taken off. */
function observeEventLoop(registry: MetricRegistry): () => void {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  registry.observedGauge(telemetryMetrics.eventLoopLag, () => {
    const lags = quantiles.map(([quantile, percentile]) => {
      const seconds = (delays.percentile(percentile) - resolutionMs * 1e6) / nanosecondsPerSecond;
      return { value: Math.max(0, seconds), labels: { quantile } };
    });
    delays.reset();
    return lags;
  });
  let last = performance.eventLoopUtilization();
  registry.observedGauge(telemetryMetrics.eventLoopBusy, () => {
    const now = performance.eventLoopUtilization();
    const since = performance.eventLoopUtilization(now, last);
    last = now;
    return since.utilization;
  });
  return () => {
    delays.disable();
  };
}

function openFileDescriptors(): number | [] {
  try {
    return readdirSync('/proc/self/fd').length;
  } catch {
    return []; // not Linux
  }
}
