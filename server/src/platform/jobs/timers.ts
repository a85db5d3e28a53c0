/**
 * Periodic system tasks, each run by at most one process at a time: retention, purge, partitions.
 *
 * A timer wakes at its interval with jitter, takes its lease, runs, and keeps the lease until its process stops: one
 * statement every third of the lease's time renews all leases of the process, so that while one process lives the others
 * only look. A holder that was killed, or stands still for longer than that time, is replaced at the next look of another.
 * (Until then the lease lasted twice the interval: two hours without retention after a death.) A run that outlasts its
 * deadline is told so by its signal; the next turn waits for it whatever it does, so runs never overlap in a process.
 * What a run writes through its own `withSystem` is checked against the lease's fence, so that the late write of a
 * process that stood still is refused. It has no other door: a task takes none from its module.
 */

import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Clock, Lifecycle, Logger } from '#kernel';
import { giveLeaseBack, renewLeases, requireFence, takeLease } from './lease.ts';

export interface TimerTask {
  /** Names the lease and the log lines: `retention`, `purge`. */
  readonly name: string;
  /** Time between the starts of two runs, in ms, 1,000 and up. Each start comes up to a tenth of it later, at random. */
  readonly everyMs: number;
  /** How long a run may take before its signal aborts, in ms; default 60,000. */
  readonly deadlineMs?: number;
  /** The work. `fence` grows with each new holder of the lease. Rejecting is logged and counted; the next run comes. */
  readonly run: (context: TimerRun) => Promise<void>;
}

export interface TimerRun {
  readonly signal: AbortSignal;
  /** Grows with every new holder of the lease. */
  readonly fence: bigint;
  /**
   * The system's door for what the task writes: as `Database.withSystem`, in a transaction that commits only while this
   * run's lease is the present one. A run that stood still for longer than its lease gets `LeaseLost` instead of writing
   * over its successor. The system job lists `platform.hold_fence`.
   */
  readonly withSystem: Database['withSystem'];
}

export type TimerOutcome = 'done' | 'failed' | 'held_elsewhere';

export interface TimerState {
  readonly name: string;
  readonly counts: Readonly<Record<TimerOutcome, number>>;
  /** Wall clock of the last run that succeeded here, or null. */
  readonly lastDoneAtMs: number | null;
}

export interface TimerDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface TimerSettings {
  /** How long the leader of a task may give no sign of life before another process may lead, in ms; default 30,000. */
  readonly leaseMs?: number;
}

export interface Timers extends Lifecycle {
  /**
   * Runs one task now, unless a run of it is going on here (then waits for that one) or the lease is elsewhere.
   * Throws for a name that is not a timer's. For tests and for the command line.
   */
  runNow(name: string): Promise<TimerOutcome>;
  state(): readonly TimerState[];
}

const defaultRunMs = 60_000;
const defaultLeaseMs = 30_000;
const shortestIntervalMs = 1000;
const quietBelowMs = 60_000;
const jitterShare = 0.1;

class Timer {
  readonly #task: TimerTask;
  readonly #deps: TimerDependencies;
  readonly #holder: string;
  readonly #leaseMs: number;
  readonly #stopping: AbortSignal;
  readonly #counts: Record<TimerOutcome, number> = { done: 0, failed: 0, held_elsewhere: 0 };
  #lastDoneAtMs: number | null = null;
  #running: Promise<TimerOutcome> | null = null;
  #wake: NodeJS.Timeout | undefined;

  constructor(
    task: TimerTask,
    deps: TimerDependencies,
    { holder, leaseMs }: { readonly holder: string; readonly leaseMs: number },
    stopping: AbortSignal,
  ) {
    if (!(task.everyMs >= shortestIntervalMs)) throw new RangeError(`the timer ${task.name} runs too often`);
    this.#task = task;
    this.#deps = deps;
    this.#holder = holder;
    this.#leaseMs = leaseMs;
    this.#stopping = stopping;
  }

  get name(): string {
    return this.#task.name;
  }

  schedule(): void {
    if (this.#stopping.aborted) return;
    const random = this.#deps.random ?? Math.random;
    const delayMs = this.#task.everyMs * (1 + jitterShare * random());
    this.#wake = setTimeout(() => {
      const again = (): void => this.schedule();
      this.runNow().then(again, again);
    }, delayMs);
    this.#wake.unref();
  }

  async runNow(): Promise<TimerOutcome> {
    this.#running ??= this.#runOnce().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Waits for the run that is going on. */
  async end(): Promise<void> {
    clearTimeout(this.#wake);
    await this.#running;
  }

  async giveBack(): Promise<void> {
    await this.#deps.db
      .withSystem('leases', (tx) => giveLeaseBack(tx, this.name, this.#holder))
      .catch((error: unknown) => {
        // The lease ends by itself; the process is going either way.
        this.#deps.logger.debug({ err: error, timer: this.name }, 'a timer could not give its lease back');
      });
  }

  state(): TimerState {
    return { name: this.name, counts: { ...this.#counts }, lastDoneAtMs: this.#lastDoneAtMs };
  }

  async #runOnce(): Promise<TimerOutcome> {
    const outcome = await this.#attempt();
    this.#counts[outcome] += 1;
    if (outcome === 'done') this.#lastDoneAtMs = this.#deps.clock.now();
    return outcome;
  }

  async #attempt(): Promise<TimerOutcome> {
    const { db, clock, logger } = this.#deps;
    const runMs = this.#task.deadlineMs ?? defaultRunMs;
    const startedAtMs = clock.monotonic();
    try {
      const lease = await db.withSystem('leases', (tx) =>
        takeLease(tx, this.name, this.#holder, this.#leaseMs),
      );
      if (lease === null) return 'held_elsewhere';
      const signal = AbortSignal.any([this.#stopping, AbortSignal.timeout(runMs)]);
      const { fence } = lease;
      await this.#task.run({
        signal,
        fence,
        withSystem: (job, fn, options) =>
          db.withSystem(
            job,
            async (tx) => {
              await requireFence(tx, this.name, fence);
              return fn(tx);
            },
            options,
          ),
      });
      // What runs several times in a minute would fill the log with its successes; the metrics count them.
      const level = this.#task.everyMs < quietBelowMs ? 'debug' : 'info';
      logger[level]({ timer: this.name, durationMs: clock.monotonic() - startedAtMs }, 'a timer ran');
      return 'done';
    } catch (error) {
      logger.error(
        { err: error, timer: this.name, durationMs: clock.monotonic() - startedAtMs },
        'a timer failed; it will run again at its time',
      );
      return 'failed';
    }
  }
}

/**
 * Timers over the given tasks; none runs before `start`, which resolves at once. `stop` tells running tasks by their
 * signal, waits for them, and gives the leases back so that another process goes on without a pause.
 */
export function createTimers(
  deps: TimerDependencies,
  tasks: readonly TimerTask[],
  { leaseMs = defaultLeaseMs }: TimerSettings = {},
): Timers {
  const stopping = new AbortController();
  const holder = randomUUID();
  const timers = new Map(
    tasks.map((task) => [task.name, new Timer(task, deps, { holder, leaseMs }, stopping.signal)]),
  );
  const renewal = renewing(deps, holder, leaseMs);
  if (timers.size !== tasks.length) throw new Error('two timers have the same name');
  return {
    async start() {
      for (const timer of timers.values()) timer.schedule();
      renewal.start();
    },
    async stop() {
      stopping.abort(new Error('the timers are stopping'));
      await Promise.all([...timers.values()].map((timer) => timer.end()));
      await renewal.stop();
      await Promise.all([...timers.values()].map((timer) => timer.giveBack()));
    },
    async runNow(name) {
      const timer = timers.get(name);
      if (timer === undefined) throw new Error(`there is no timer ${name}`);
      return timer.runNow();
    },
    state: () => [...timers.values()].map((timer) => timer.state()),
  };
}

/** Shows, every third of the lease's time, that the holder lives. One statement for all of its leases. */
function renewing(
  { db, logger }: TimerDependencies,
  holder: string,
  leaseMs: number,
): { start(): void; stop(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  let renewal: Promise<unknown> = Promise.resolve();
  let isStopped = false;
  const plan = (): void => {
    if (isStopped) return;
    timer = setTimeout(() => {
      renewal = db
        .withSystem('leases', (tx) => renewLeases(tx, holder, leaseMs))
        .catch((error: unknown) => {
          // Others may lead meanwhile; this process's next run takes the lease again or finds it elsewhere.
          logger.warn({ err: error }, 'the leases of the timers could not be renewed');
        })
        .finally(plan);
    }, leaseMs / 3);
    timer.unref();
  };
  return {
    start: plan,
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await renewal;
    },
  };
}
