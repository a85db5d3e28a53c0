import type { MetricDeclaration, MetricRegistry } from '#telemetry';
import type { AttemptOutcome } from './attempt.ts';

/** What this process's worker did. */
const jobMetrics = {
  attempts: {
    name: 'stoa_job_attempts_total',
    help: 'Attempts at jobs that ended in this process, by job and outcome (`completed`, `failed`, `handed_back`, `lost`).',
    labels: ['job', 'outcome'],
  },
  running: {
    name: 'stoa_jobs_running',
    help: 'Jobs that run in this process now.',
    labels: [],
  },
} as const satisfies Record<string, MetricDeclaration>;

export function observeJobs(
  registry: MetricRegistry,
  runningCount: () => number,
): { settled(name: string, outcome: AttemptOutcome): void } {
  const attempts = registry.counter(jobMetrics.attempts);
  registry.observedGauge(jobMetrics.running, runningCount);
  return { settled: (job, outcome) => attempts.add(1, { job, outcome }) };
}
