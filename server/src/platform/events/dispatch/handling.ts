import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { attempt, type AttemptDeps, LeaseLost } from './attempt.ts';
import {
  beginHeld,
  failStored,
  type FailedAttempt,
  holdAgain,
  storeBeforehand,
  type StoredDelivery,
  storeFailed,
  storeHeld,
} from './deliveries.sql.ts';
import {
  diedFailure,
  type Failure,
  failureOf,
  missingFailure,
  nextDelayMs,
  redrivesBeforeParking,
  UnreadableEvent,
} from './failure.ts';
import { type HandlingHandle, readFacts } from './handling.sql.ts';
import { inKeyOrder, judge, type Judgement, type Origin } from './judgement.ts';
import type { DispatchMetrics } from './metrics.ts';

export interface HandlingDeps extends AttemptDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: DispatchMetrics;
  readonly random: () => number;
  readonly retryDelaysMs: readonly number[];
  /** How long a version may be missing before those behind it become dead letters. Milliseconds. */
  readonly gapLimitMs: number;
  /** How long a stored event stays with the process that tries it. Milliseconds, well above the handler's deadline. */
  readonly leaseMs: number;
  /** Called when something was stored that will be due. */
  readonly onStored: () => void;
}

/** How many events a system-door consumer gets at once. */
const systemBatch = 500;

/**
 * What is done with events, whoever brings them: attempts, and the store for those that could not have their effect.
 * Rejects only where the store itself can't be written.
 */
export interface Handling {
  /** Events of one partition, in the order of the log. */
  deliver(consumer: EventConsumer, events: readonly LoggedEvent[], mayHaveKilled: boolean): Promise<void>;
  /** An event of the store that is due and leased to this process. */
  retry(consumer: EventConsumer, delivery: StoredDelivery): Promise<void>;
  /**
   * One event again, whether or not it was handled. Rejects with `LeaseLost` where `progress` does: then another process
   * goes on with the replay, and nothing has happened here.
   */
  replay(consumer: EventConsumer, event: LoggedEvent, progress: ReplayProgress): Promise<void>;
  /**
   * Runs what a process may die of, beside nothing else of the kind in this process: so a death is counted for the one
   * event that was being handled.
   */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

/** Work one after the other, in the order in which it was asked for. */
function createQueue(): Handling['alone'] {
  let last: Promise<unknown> = Promise.resolve();
  return async (work) => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
}

/** Notes in the transaction of an event's outcome that a replay is past it. */
export type ReplayProgress = (tx: HandlingHandle, isHandled: boolean) => Promise<void>;

export function createHandling(deps: HandlingDeps): Handling {
  const alone = createQueue();
  return {
    alone,
    async deliver(consumer, events, mayHaveKilled) {
      const ordered = inKeyOrder(events);
      if (mayHaveKilled) {
        for (const event of ordered) await alone(() => deliverCarefully(deps, consumer, event));
        return;
      }
      const size = consumer.door === 'tenant' ? 1 : systemBatch;
      for (let from = 0; from < ordered.length; from += size) {
        await deliverBatch(deps, consumer, ordered.slice(from, from + size));
      }
    },
    async retry(consumer, delivery) {
      if (delivery.state === 'held') await lookAtHeld(deps, consumer, delivery);
      else await tryStored(deps, consumer, delivery);
    },
    replay: (consumer, event, progress) => replayOne(deps, consumer, event, progress),
  };
}

interface Batch {
  readonly events: readonly LoggedEvent[];
  readonly origin: Origin;
  readonly leaseToken: string | null;
  readonly also?: (tx: HandlingHandle) => Promise<void>;
}

async function measured(
  deps: HandlingDeps,
  consumer: EventConsumer,
  batch: Batch,
): Promise<readonly Judgement[]> {
  const startedMs = deps.clock.monotonic();
  try {
    const outcomes = await attempt(deps, { consumer, ...batch });
    const count = outcomes.filter((outcome) => outcome === 'handle').length;
    if (count > 0) deps.metrics.handled(consumer.name, count);
    return outcomes;
  } finally {
    deps.metrics.took(consumer.name, deps.clock.monotonic() - startedMs);
  }
}

/** A batch in one transaction; where it fails, its halves, until the one event that fails is alone. */
async function deliverBatch(
  deps: HandlingDeps,
  consumer: EventConsumer,
  events: readonly LoggedEvent[],
): Promise<void> {
  const [first] = events;
  if (first === undefined) return;
  let outcomes: readonly Judgement[];
  try {
    outcomes = await measured(deps, consumer, { events, origin: 'carrier', leaseToken: null });
  } catch (error) {
    if (events.length === 1) {
      await storeFailure(deps, consumer, first, error);
      return;
    }
    const middle = Math.ceil(events.length / 2);
    await deliverBatch(deps, consumer, events.slice(0, middle));
    await deliverBatch(deps, consumer, events.slice(middle));
    return;
  }
  for (const [index, event] of events.entries()) {
    const outcome = outcomes[index];
    if (outcome === 'blocked' || outcome === 'gap') await hold(deps, consumer, event, outcome);
  }
}

async function hold(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  reason: 'blocked' | 'gap',
): Promise<void> {
  await deps.db.withSystem('event-dispatch', (tx) => storeHeld(tx, consumer.name, event, reason));
  deps.metrics.held(consumer.name, reason);
  deps.onStored();
}

async function storeFailure(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  error: unknown,
): Promise<void> {
  const failed = failedAttempt(deps, error, 1, 0);
  await deps.db.withSystem('event-dispatch', (tx) => storeFailed(tx, consumer.name, event, failed, false));
  report(deps, consumer, event, failed);
}

function failedAttempt(
  deps: HandlingDeps,
  error: unknown,
  attempts: number,
  redrives: number,
): FailedAttempt {
  const delayMs =
    error instanceof UnreadableEvent
      ? null
      : nextDelayMs(attempts, redrives, deps.retryDelaysMs, deps.random);
  return { failure: failureOf(error), delayMs };
}

function report(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  { failure, delayMs }: FailedAttempt,
): void {
  deps.metrics.failed(consumer.name, failure.code);
  const fields = { consumer: consumer.name, eventId: event.eventId, type: event.type, code: failure.code };
  if (delayMs === null) deps.logger.error(fields, 'an event went to the dead letters');
  else deps.logger.warn({ ...fields, delayMs }, 'an event could not be handled; it will be tried again');
  deps.onStored();
}

/** The same judgement as an attempt's, without an effect. */
async function peek(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  origin: Origin,
): Promise<Judgement> {
  const [facts] = await deps.db.withSystem('event-dispatch', (tx) => readFacts(tx, consumer.name, [event]));
  return facts === undefined ? 'skip' : judge(event, facts, origin);
}

/**
 * For events that a process may have died of: each is written into the store, leased, before it is handled. So the
 * attempt counts even if this process dies of it too, and the partition goes on without it.
 */
async function deliverCarefully(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
): Promise<void> {
  const judgement = await peek(deps, consumer, event, 'carrier');
  if (judgement === 'skip') return;
  if (judgement !== 'handle') {
    await hold(deps, consumer, event, judgement);
    return;
  }
  const leaseToken = randomUUID();
  const lease = { token: leaseToken, ms: deps.leaseMs, failure: diedFailure };
  const isStored = await deps.db.withSystem('event-dispatch', (tx) =>
    storeBeforehand(tx, consumer.name, event, lease),
  );
  if (!isStored) return;
  await tryStored(deps, consumer, {
    consumer: consumer.name,
    event,
    state: 'retrying',
    isReplay: false,
    attempts: 1,
    redrives: 0,
    firstSeenAt: new Date(deps.clock.now()),
    leaseToken,
  });
}

async function tryStored(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
): Promise<void> {
  const { event, leaseToken, isReplay } = delivery;
  const allowed = delivery.redrives > 0 ? 1 : deps.retryDelaysMs.length + 1;
  if (delivery.attempts > allowed) {
    await giveUp(deps, consumer, delivery, diedFailure);
    return;
  }
  try {
    const origin = isReplay ? 'replay' : 'store';
    const [outcome] = await measured(deps, consumer, { events: [event], origin, leaseToken });
    if (outcome === 'blocked' || outcome === 'gap') {
      await deps.db.withSystem('event-dispatch', (tx) => holdAgain(tx, delivery));
    }
  } catch (error) {
    if (error instanceof LeaseLost) return;
    const failed = failedAttempt(deps, error, delivery.attempts, delivery.redrives);
    await deps.db.withSystem('event-dispatch', (tx) => failStored(tx, delivery, failed, endState(delivery)));
    report(deps, consumer, event, failed);
  }
}

const endState = ({ redrives }: StoredDelivery): 'dead' | 'parked' =>
  redrives >= redrivesBeforeParking ? 'parked' : 'dead';

async function giveUp(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
  failure: Failure,
): Promise<void> {
  const failed = { failure, delayMs: null };
  await deps.db.withSystem('event-dispatch', (tx) => failStored(tx, delivery, failed, endState(delivery)));
  report(deps, consumer, delivery.event, failed);
}

/** A held event that is due: it goes on waiting, or has its first attempt. */
async function lookAtHeld(
  deps: HandlingDeps,
  consumer: EventConsumer,
  delivery: StoredDelivery,
): Promise<void> {
  const origin = delivery.isReplay ? 'replay' : 'store';
  const judgement = await peek(deps, consumer, delivery.event, origin);
  const waitedMs = deps.clock.now() - delivery.firstSeenAt.getTime();
  if (judgement === 'gap' && waitedMs > deps.gapLimitMs) {
    await giveUp(deps, consumer, delivery, missingFailure);
    return;
  }
  if (judgement === 'blocked' || judgement === 'gap') {
    await deps.db.withSystem('event-dispatch', (tx) => holdAgain(tx, delivery));
    return;
  }
  const isOurs = await deps.db.withSystem('event-dispatch', (tx) => beginHeld(tx, delivery));
  if (isOurs) await tryStored(deps, consumer, { ...delivery, state: 'retrying', attempts: 1 });
}

/** Progress is written with whatever the event comes to: its effect, its failure, or its waiting. */
async function replayOne(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  progress: ReplayProgress,
): Promise<void> {
  let thrown: { readonly error: unknown };
  try {
    const [outcome] = await measured(deps, consumer, {
      events: [event],
      origin: 'replay',
      leaseToken: null,
      also: (tx) => progress(tx, true),
    });
    if (outcome === 'handle') return;
    await deps.db.withSystem('event-dispatch', async (tx) => {
      await storeHeld(tx, consumer.name, event, 'blocked', true);
      await progress(tx, false);
    });
    deps.metrics.held(consumer.name, 'blocked');
    deps.onStored();
    return;
  } catch (error) {
    if (error instanceof LeaseLost) throw error;
    thrown = { error };
  }
  const failed = failedAttempt(deps, thrown.error, 1, 0);
  await deps.db.withSystem('event-dispatch', async (tx) => {
    await storeFailed(tx, consumer.name, event, failed, true);
    await progress(tx, false);
  });
  report(deps, consumer, event, failed);
}
