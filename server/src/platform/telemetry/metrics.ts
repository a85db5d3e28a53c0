import type { MetricDeclaration } from './types.ts';

/** What the process tells about itself; the names that other exporters of Node use, so that dashboards fit. */
export const telemetryMetrics = {
  eventLoopLag: {
    name: 'stoa_event_loop_lag_seconds',
    help: 'How late the event loop was since the last scrape, in seconds, at this quantile (`1` is the worst).',
    labels: ['quantile'],
  },
  eventLoopBusy: {
    name: 'stoa_event_loop_busy_ratio',
    help: 'Share of the time since the last scrape in which the event loop was not idle, 0 to 1.',
  },
  cpuSeconds: {
    name: 'process_cpu_seconds_total',
    help: 'CPU time of the process with all its threads, in seconds, by mode.',
    labels: ['mode'],
  },
  residentBytes: { name: 'process_resident_memory_bytes', help: 'Resident memory of the process, in bytes.' },
  heapUsedBytes: {
    name: 'nodejs_heap_size_used_bytes',
    help: "Used size of the main thread's heap, in bytes.",
  },
  heapTotalBytes: { name: 'nodejs_heap_size_total_bytes', help: "Size of the main thread's heap, in bytes." },
  externalBytes: {
    name: 'nodejs_external_memory_bytes',
    help: 'Memory outside the heap that belongs to JavaScript objects (buffers among them), in bytes.',
  },
  openFileDescriptors: { name: 'process_open_fds', help: 'Open file descriptors; absent where /proc is.' },
  startTime: {
    name: 'process_start_time_seconds',
    help: 'When the process started, in seconds since the Unix epoch.',
  },
  build: {
    name: 'stoa_build_info',
    help: 'Always 1; the labels name what runs.',
    labels: ['version', 'node'],
  },
} as const satisfies Record<string, MetricDeclaration>;
