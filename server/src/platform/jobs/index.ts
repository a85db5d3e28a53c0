export { giveLeaseBack, LeaseLost, takeLease } from './lease.ts';
export { observeTimers, timerMetrics } from './metrics.ts';
export { defineJob, type Job, type JobContext, type JobDeclaration, type NamedJob } from './queue/define.ts';
export {
  createJobs,
  type EnqueueOptions,
  type JobsApi,
  type JobsDependencies,
  type JobsModule,
  type JobsSettings,
} from './queue/jobs.ts';
export {
  createTimers,
  type TimerDependencies,
  type TimerOutcome,
  type TimerRun,
  type Timers,
  type TimerState,
  type TimerTask,
} from './timers.ts';
