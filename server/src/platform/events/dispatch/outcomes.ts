/** What all ways of handling an event share: an attempt with its figures, and the notes of what it came to. */

import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { attempt, type AttemptDeps, type AttemptInput } from './attempt.ts';
import { type FailedAttempt, storeHeld } from './deliveries.sql.ts';
import { failureOf, nextDelayMs, UnreadableEvent } from './failure.ts';
import { readFacts } from './handling.sql.ts';
import { judgeBatch, type Judgement, type Origin } from './judgement.ts';
import type { DispatchMetrics } from './metrics.ts';
import type { Turns } from './turns.ts';

export interface HandlingDeps extends AttemptDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: DispatchMetrics;
  /** Of this process: whatever handles an event takes its turn here. */
  readonly turns: Turns;
  readonly random: () => number;
  readonly retryDelaysMs: readonly number[];
  /** How long a version may be missing before those behind it become dead letters. Milliseconds. */
  readonly gapLimitMs: number;
  /** How long a stored event stays with the process that tries it. Milliseconds, well above the handler's deadline. */
  readonly leaseMs: number;
  /** Called when something was stored that will be due. */
  readonly onStored: () => void;
}

/** An attempt, with its figures. Rejects like `attempt`. */
export async function measured(
  deps: HandlingDeps,
  consumer: EventConsumer,
  input: Omit<AttemptInput, 'consumer'>,
): Promise<readonly Judgement[]> {
  const startedMs = deps.clock.monotonic();
  try {
    const outcomes = await attempt(deps, { consumer, ...input });
    const count = outcomes.filter((outcome) => outcome === 'handle').length;
    if (count > 0) deps.metrics.handled(consumer.name, count);
    return outcomes;
  } finally {
    deps.metrics.took(consumer.name, deps.clock.monotonic() - startedMs);
  }
}

/** The same judgement as an attempt's, without an effect. */
export async function peek(
  deps: HandlingDeps,
  consumer: EventConsumer,
  events: readonly LoggedEvent[],
  origin: Origin,
): Promise<readonly Judgement[]> {
  const facts = await deps.db.withSystem('event-dispatch', (tx) => readFacts(tx, consumer.name, events));
  return judgeBatch(events, facts, origin);
}

/** Puts an event aside that has to wait for an earlier one of its key. */
export async function hold(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  reason: 'blocked' | 'gap',
): Promise<void> {
  await deps.db.withSystem('event-dispatch', (tx) => storeHeld(tx, consumer.name, event, reason));
  deps.metrics.held(consumer.name, reason);
  deps.onStored();
}

/** What an attempt that threw comes to. */
export function failedAttempt(
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

export function report(
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
