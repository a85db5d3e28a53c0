/**
 * One attempt at one job, from being taken to being settled.
 *
 *     taken -> runs -> completed | failed (again after the delay, or for good) | handed back | lost
 *
 * - The deadline aborts the signal; the attempt has failed then, also if the handler resolves afterwards. A handler that
 *   ignores its signal is given five seconds; then the attempt is settled without it, and its place in the worker stays
 *   taken until it returns, so that a process never runs more than its share.
 * - While it runs, the row gets a sign of life. Where that finds the attempt gone (this process stood still for longer than
 *   the signs may be apart, and the job runs elsewhere), the signal aborts and nothing more is written: every write names
 *   the attempt's number and changes nothing where the row has another.
 * - When the process stops, the signal aborts; a handler that rejects then has its job handed back as if it had not begun.
 */

import type { PgBoss } from 'pg-boss';
import type { Database } from '#db';
import { AppError, asTenantId, type Clock, type Logger, readableThrown, toAppError } from '#kernel';
import { executorOn } from './boss.ts';
import type { NamedJob } from './define.ts';
import { handBack, noteLastRun, type TakenJob } from './jobs.sql.ts';
import { Progress } from './progress.ts';

export type AttemptOutcome = 'completed' | 'failed' | 'handed_back' | 'lost';

export interface AttemptDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly boss: Pick<PgBoss, 'complete' | 'fail' | 'touch'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface RunningAttempt {
  /** Resolves once the row is settled; never rejects. */
  readonly settled: Promise<AttemptOutcome>;
  /** Resolves once the handler has returned, too. */
  readonly ended: Promise<void>;
}

const graceMs = 5000;
const longestMessage = 500;
const settleTries = 3;
const settlePauseMs = 500;

class Lost extends Error {}

export function startAttempt(
  deps: AttemptDependencies,
  job: NamedJob,
  taken: TakenJob,
  options: { readonly stopping: AbortSignal; readonly signOfLifeMs: number },
): RunningAttempt {
  const lost = new AbortController();
  const deadline = AbortSignal.timeout(job.deadlineMs);
  const signal = AbortSignal.any([options.stopping, deadline, lost.signal]);
  const progress = new Progress(deps, taken);
  const work = runHandler(job, taken, signal, progress);
  const signs = setInterval(() => {
    showLife(deps, taken, lost).catch((error: unknown) => {
      deps.logger.debug({ err: error, job: taken.name }, 'a running job could not show that it lives');
    });
  }, options.signOfLifeMs);
  const settled = (async (): Promise<AttemptOutcome> => {
    const startedAtMs = deps.clock.monotonic();
    const failure = await failureOf(work, signal);
    clearInterval(signs);
    await progress.end();
    const outcome = await settle(deps, taken, {
      failure: deadline.aborted ? overdue(job) : failure,
      isLost: lost.signal.aborted,
      isHandedBack: options.stopping.aborted && !deadline.aborted,
    });
    report(deps.logger, taken, outcome, failure, deps.clock.monotonic() - startedAtMs);
    return outcome;
  })();
  return {
    settled,
    ended: Promise.allSettled([settled, work]).then(() => undefined),
  };
}

async function runHandler(
  job: NamedJob,
  taken: TakenJob,
  signal: AbortSignal,
  progress: Progress,
): Promise<void> {
  await job.run({
    tenantId: taken.turn === 'system' ? null : asTenantId(taken.turn),
    data: taken.data,
    signal,
    progress: (value, note) => progress.report(value, note),
    jobId: taken.id,
    attempt: taken.retryCount + 1,
    traceparent: taken.traceparent,
  });
}

interface Failure {
  readonly error: unknown;
  /** It took no notice of its signal. */
  readonly isStillRunning: boolean;
}

/** Why the handler did not succeed, or null. Answers five seconds after the abort at the latest. */
async function failureOf(work: Promise<void>, signal: AbortSignal): Promise<Failure | null> {
  const giveUp = Promise.withResolvers<Failure>();
  let grace: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    grace = setTimeout(() => giveUp.resolve({ error: signal.reason, isStillRunning: true }), graceMs);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  const done = work.then(
    () => null,
    (thrown: unknown) => ({ error: readableThrown(thrown), isStillRunning: false }),
  );
  try {
    return await Promise.race([done, giveUp.promise]);
  } finally {
    clearTimeout(grace);
    signal.removeEventListener('abort', onAbort);
  }
}

function overdue({ name, deadlineMs }: NamedJob): Failure {
  return {
    isStillRunning: false,
    error: new AppError('deadline_exceeded', `The job ${name} took longer than its ${deadlineMs} ms.`),
  };
}

async function showLife(deps: AttemptDependencies, taken: TakenJob, lost: AbortController): Promise<void> {
  const answer = await deps.boss.touch(taken.name, attemptOf(taken));
  if (!wasAffected(answer)) lost.abort(new Lost('the job is no longer this attempt'));
}

interface Ending {
  readonly failure: Failure | null;
  readonly isLost: boolean;
  readonly isHandedBack: boolean;
}

/** Tries a few times; where the database stays away, the missing signs of life settle the job later. */
async function settle(deps: AttemptDependencies, taken: TakenJob, ending: Ending): Promise<AttemptOutcome> {
  if (ending.isLost) return 'lost';
  // Nobody else may have it while it runs on here; the process is about to end, and the signs of life with it.
  if (ending.isHandedBack && ending.failure?.isStillRunning === true) return 'lost';
  for (let tried = 1; ; tried += 1) {
    try {
      return await settleOnce(deps, taken, ending);
    } catch (error) {
      if (tried < settleTries) {
        await new Promise((resolve) => setTimeout(resolve, settlePauseMs));
        continue;
      }
      deps.logger.error({ err: error, job: taken.name, id: taken.id }, 'a job could not be settled');
      return 'lost';
    }
  }
}

async function settleOnce(
  { db, boss }: AttemptDependencies,
  taken: TakenJob,
  { failure, isHandedBack }: Ending,
): Promise<AttemptOutcome> {
  return db.withSystem('jobs', async (tx) => {
    const attempt = attemptOf(taken);
    const options = { db: executorOn(tx) };
    if (failure === null) {
      if (!wasAffected(await boss.complete(taken.name, attempt, null, options))) return 'lost';
      await noteLastRun(tx, taken, 'completed');
      return 'completed';
    }
    if (isHandedBack) return (await handBack(tx, taken)) ? 'handed_back' : 'lost';
    if (!wasAffected(await boss.fail(taken.name, attempt, shownError(failure.error), options))) return 'lost';
    if (taken.retryCount >= taken.retryLimit) await noteLastRun(tx, taken, 'failed');
    return 'failed';
  });
}

function attemptOf({ id, retryCount }: TakenJob): { id: string; retryCount: number } {
  return { id, retryCount };
}

/** pg-boss counts what it changed, and leaves the count out of its types. */
function wasAffected(answer: object): boolean {
  return 'affected' in answer && answer.affected === 1;
}

/** For the operator's list: code and message, no stack. */
function shownError(thrown: unknown): { code: string; message: string } {
  const { code } = toAppError(thrown);
  const message = thrown instanceof Error ? thrown.message : 'The handler threw something that is no error.';
  return { code, message: message.slice(0, longestMessage).toWellFormed().replaceAll('\0', '') };
}

function report(
  logger: Logger,
  { name, id, turn, retryCount, retryLimit }: TakenJob,
  outcome: AttemptOutcome,
  failure: Failure | null,
  durationMs: number,
): void {
  const fields = { job: name, id, tenant: turn, attempt: retryCount + 1, outcome, durationMs };
  if (outcome === 'completed') return logger.info(fields, 'a job ran');
  if (outcome === 'handed_back') return logger.info(fields, 'a job was handed back');
  if (outcome === 'lost') return logger.warn(fields, 'a job was no longer this worker’s when it ended');
  const isLast = retryCount >= retryLimit;
  logger[isLast ? 'error' : 'warn'](
    { ...fields, err: failure?.error },
    isLast ? 'a job failed for good' : 'a job failed; it will run again',
  );
}
