/**
 * Takes due jobs, one for each of its places, in turns over the tenants. Turns are the process's: after a job of one
 * tenant comes the next tenant that has one, so whoever comes anew waits for at most one job in each place.
 *
 * It looks when a place gets free, when a job was enqueued here, and else at an interval with jitter: one statement that
 * reads two index entries where nothing waits. An enqueuing transaction commits after its nudge, so a nudge means
 * a few looks in quick succession.
 */

import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import {
  type AttemptDependencies,
  type AttemptOutcome,
  type RunningAttempt,
  startAttempt,
} from './attempt.ts';
import type { NamedJob } from './define.ts';
import { takeJob, type TakenJob } from './jobs.sql.ts';

export interface WorkerSettings {
  /** Jobs at once, 1 to 100. */
  readonly places: number;
  /** Between two looks where nothing is due, in ms. */
  readonly pollMs: number;
  readonly signOfLifeMs: number;
  /** How long `stop` waits for running jobs, in ms. */
  readonly drainMs: number;
}

export interface WorkerDependencies extends AttemptDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
  readonly onSettled: (name: string, outcome: AttemptOutcome) => void;
}

/** After a nudge: the transaction that enqueued is about to commit. */
const nudgedLooksMs = [10, 40, 150, 500];
const jitterShare = 0.2;

export class Worker {
  readonly #deps: WorkerDependencies;
  readonly #settings: WorkerSettings;
  readonly #jobs: ReadonlyMap<string, NamedJob>;
  readonly #running = new Set<RunningAttempt>();
  readonly #stopping = new AbortController();
  #turn = '';
  #looking: Promise<void> | null = null;
  #isAskedAgain = false;
  #nextLook: NodeJS.Timeout | undefined;
  readonly #nudged = new Set<NodeJS.Timeout>();
  #isStarted = false;
  #hasTrouble = false;

  constructor(deps: WorkerDependencies, settings: WorkerSettings, jobs: ReadonlyMap<string, NamedJob>) {
    this.#deps = deps;
    this.#settings = settings;
    this.#jobs = jobs;
  }

  get runningCount(): number {
    return this.#running.size;
  }

  /** False while the last look failed. */
  get isHealthy(): boolean {
    return !this.#hasTrouble;
  }

  start(): void {
    if (this.#jobs.size === 0) return;
    this.#isStarted = true;
    this.look();
  }

  /** Something was enqueued in this process and will be committed in a moment. */
  nudge(): void {
    if (!this.#isStarted || this.#stopping.signal.aborted || this.#nudged.size > 0) return;
    for (const delayMs of nudgedLooksMs) {
      const timer = setTimeout(() => {
        this.#nudged.delete(timer);
        this.look();
      }, delayMs);
      timer.unref();
      this.#nudged.add(timer);
    }
  }

  /** Fills the free places; a look that is asked for while one goes on follows it. */
  look(): void {
    if (!this.#isStarted || this.#stopping.signal.aborted) return;
    if (this.#looking !== null) {
      this.#isAskedAgain = true;
      return;
    }
    clearTimeout(this.#nextLook);
    this.#looking = this.#fillPlaces().finally(() => {
      this.#looking = null;
      if (this.#isAskedAgain) {
        this.#isAskedAgain = false;
        this.look();
      } else this.#lookLater();
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the process is stopping'));
    clearTimeout(this.#nextLook);
    for (const timer of this.#nudged) clearTimeout(timer);
    await this.#looking;
    const drained = Promise.all([...this.#running].map(({ settled }) => settled));
    let limit: NodeJS.Timeout | undefined;
    const tooLong = new Promise<void>((resolve) => {
      limit = setTimeout(resolve, this.#settings.drainMs);
    });
    await Promise.race([drained, tooLong]);
    clearTimeout(limit);
  }

  #lookLater(): void {
    if (this.#stopping.signal.aborted || this.#running.size >= this.#settings.places) return;
    const delayMs = this.#settings.pollMs * (1 + jitterShare * this.#deps.random());
    this.#nextLook = setTimeout(() => this.look(), delayMs);
    this.#nextLook.unref();
  }

  async #fillPlaces(): Promise<void> {
    const { db, logger } = this.#deps;
    try {
      while (this.#running.size < this.#settings.places && !this.#stopping.signal.aborted) {
        const taken = await db.withSystem('jobs', (tx) => takeJob(tx, [...this.#jobs.keys()], this.#turn));
        this.#hasTrouble = false;
        if (taken === null) return;
        this.#turn = taken.turn;
        if ('id' in taken) this.#begin(taken);
      }
    } catch (error) {
      if (!this.#hasTrouble) logger.warn({ err: error }, 'jobs cannot be taken; it is tried again');
      this.#hasTrouble = true;
    }
  }

  #begin(taken: TakenJob): void {
    const job = this.#jobs.get(taken.name);
    if (job === undefined) throw new Error(`took a job of ${taken.name}, which this process does not run`);
    const attempt = startAttempt(this.#deps, job, taken, {
      stopping: this.#stopping.signal,
      signOfLifeMs: this.#settings.signOfLifeMs,
    });
    this.#running.add(attempt);
    this.#follow(taken.name, attempt).catch((error: unknown) => {
      this.#deps.logger.error({ err: error, job: taken.name }, 'a job could not be followed to its end');
    });
  }

  async #follow(name: string, attempt: RunningAttempt): Promise<void> {
    try {
      this.#deps.onSettled(name, await attempt.settled);
      await attempt.ended;
    } finally {
      this.#running.delete(attempt);
      this.look();
    }
  }
}
