import type { MetricDeclaration, MetricRegistry } from '#telemetry';
import type { Timers } from './timers.ts';

/** What the timers of this process did; read when somebody scrapes. */
export const timerMetrics = {
  runs: {
    name: 'stoa_timer_runs_total',
    help: 'Turns of periodic tasks in this process, by timer and outcome (`done`, `failed`, `held_elsewhere`).',
    labels: ['timer', 'outcome'],
  },
  lastDone: {
    name: 'stoa_timer_last_done_seconds',
    help: 'When a periodic task last succeeded in this process, in seconds since the Unix epoch; absent before.',
    labels: ['timer'],
  },
} as const satisfies Record<string, MetricDeclaration>;

/** Shows the timers' counts in the registry. Call once. */
export function observeTimers(registry: MetricRegistry, timers: Pick<Timers, 'state'>): void {
  registry.observedGauge(timerMetrics.runs, () =>
    timers
      .state()
      .flatMap(({ name, counts }) =>
        Object.entries(counts).map(([outcome, value]) => ({ value, labels: { timer: name, outcome } })),
      ),
  );
  registry.observedGauge(timerMetrics.lastDone, () =>
    timers
      .state()
      .flatMap(({ name, lastDoneAtMs }) =>
        lastDoneAtMs === null ? [] : [{ value: lastDoneAtMs / 1000, labels: { timer: name } }],
      ),
  );
}
