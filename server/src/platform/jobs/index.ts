export { observeTimers, timerMetrics } from './metrics.ts';
export {
  createTimers,
  type TimerDependencies,
  type TimerOutcome,
  type TimerRun,
  type Timers,
  type TimerState,
  type TimerTask,
} from './timers.ts';
