/**
 * One attempt: facts, judgement, inbox, position, effect, all in one transaction of the consumer's own door. Either all of
 * it happens or nothing, so an effect happens once however often an event arrives, in however many processes.
 */

import type { Database } from '#db';
import type { Clock } from '#kernel';
import type { Tracer } from '#telemetry';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { HandlerDeadline } from './failure.ts';
import {
  deleteLeased,
  enterInbox,
  type HandlingHandle,
  leaveInbox,
  movePositions,
  nudgeFollowers,
  readFacts,
} from './handling.sql.ts';
import { type EventFacts, judgeBatch, type Judgement, type Origin } from './judgement.ts';

export interface AttemptDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly tracer: Tracer;
  /** Throws `UnreadableEvent` where a consumer can't be given an event. */
  readonly requireReadable: (consumer: EventConsumer, event: LoggedEvent) => void;
  readonly handlerDeadlineMs: number;
}

export interface AttemptInput {
  readonly consumer: EventConsumer;
  /** In order; more than one only where the consumer's door is the system's, or where all are one tenant's. */
  readonly events: readonly LoggedEvent[];
  readonly origin: Origin;
  /** The lease of the one event where it lies in the delivery store. */
  readonly leaseToken: string | null;
  /** Done in the same transaction, after the effect. */
  readonly also?: (tx: HandlingHandle) => Promise<void>;
}

/** The lease of a stored event went to another process; nothing has happened. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

type Effect = (events: readonly LoggedEvent[]) => Promise<void>;

/**
 * Attempts to handle events. Answers what became of each: `handle` where the effect has happened, `skip` where it had
 * before, else why it has to wait. Rejects with whatever the handler threw, with `HandlerDeadline`, `UnreadableEvent` or
 * the database's error; then nothing has happened. May be called twice and concurrently.
 */
export async function attempt(deps: AttemptDeps, input: AttemptInput): Promise<readonly Judgement[]> {
  const { consumer, events } = input;
  const [first] = events;
  if (first === undefined) return [];
  const stop = new AbortController();
  const options = { signal: stop.signal };
  const span = deps.tracer.isEnabled
    ? deps.tracer.startRequest(`event ${consumer.name}`, first.traceparent ?? undefined)
    : null;
  span?.setAttribute('stoa.event.type', first.type);
  span?.setAttribute('stoa.event.count', events.length);
  span?.setAttribute('stoa.event.origin', input.origin);
  try {
    const judgements = await inDoor(deps, input, first.tenantId, stop, options);
    span?.end();
    return judgements;
  } catch (error) {
    span?.end(error ?? new Error('nothing was thrown'));
    throw error;
  }
}

async function inDoor(
  deps: AttemptDeps,
  input: AttemptInput,
  tenantId: string,
  stop: AbortController,
  options: { readonly signal: AbortSignal },
): Promise<readonly Judgement[]> {
  const { consumer } = input;
  if (consumer.door === 'tenant') {
    return deps.db.withTenant(
      { tenantId },
      (tx) =>
        run(deps, input, tx, async (events) => {
          await withDeadline(deps, stop, async () => {
            for (const event of events) await consumer.handle(tx, event, stop.signal);
          });
        }),
      options,
    );
  }
  return deps.db.withSystem(
    consumer.door.system,
    (tx) =>
      run(deps, input, tx, (events) =>
        withDeadline(deps, stop, async () => consumer.handle(tx, events, stop.signal)),
      ),
    options,
  );
}

/**
 * Past the deadline the door is told to close: it rolls back and refuses every later statement of the handler. One that
 * kept the thread busy past its deadline, so that no timer could fire, is found by the clock.
 */
async function withDeadline(
  { clock, handlerDeadlineMs }: AttemptDeps,
  stop: AbortController,
  work: () => Promise<void>,
): Promise<void> {
  const startedMs = clock.monotonic();
  const timer = setTimeout(() => stop.abort(new HandlerDeadline(handlerDeadlineMs)), handlerDeadlineMs);
  try {
    await work();
  } finally {
    clearTimeout(timer);
  }
  if (clock.monotonic() - startedMs > handlerDeadlineMs) throw new HandlerDeadline(handlerDeadlineMs);
}

async function run(
  deps: AttemptDeps,
  { consumer, events, origin, leaseToken, also }: AttemptInput,
  tx: HandlingHandle,
  effect: Effect,
): Promise<readonly Judgement[]> {
  const facts = await readFacts(tx, consumer.name, events);
  const judged = judgeBatch(events, facts, origin);
  const chosen = events.filter((_, index) => judged[index] === 'handle');
  if (origin === 'replay' && chosen.length > 0) await leaveInbox(tx, consumer.name, chosen);
  const entered = chosen.length === 0 ? new Set() : await enterInbox(tx, consumer.name, chosen);
  const fresh = chosen.filter((event) => entered.has(event.eventId));
  await movePositions(tx, consumer.name, fresh);
  for (const event of fresh) deps.requireReadable(consumer, event);
  if (fresh.length > 0) await effect(fresh);
  const outcomes = events.map((event, index): Judgement => {
    const judgement = judged[index] ?? 'skip';
    return judgement === 'handle' && !entered.has(event.eventId) ? 'skip' : judgement;
  });
  await settle(tx, { consumer, events, leaseToken }, outcomes, facts);
  if (also !== undefined && fresh.length > 0) await also(tx);
  return outcomes;
}

/** Takes resolved events out of the store, and has those looked at that waited for them. */
async function settle(
  tx: HandlingHandle,
  { consumer, events, leaseToken }: Omit<AttemptInput, 'origin' | 'also'>,
  outcomes: readonly Judgement[],
  facts: readonly EventFacts[],
): Promise<void> {
  const nudged = new Set<string>();
  for (const [index, event] of events.entries()) {
    const isResolved = outcomes[index] === 'handle' || outcomes[index] === 'skip';
    if (!isResolved) continue;
    if (leaseToken !== null && !(await deleteLeased(tx, consumer.name, event, leaseToken))) {
      throw new LeaseLost('the lease of a stored event went to another process');
    }
    if (leaseToken === null && facts[index]?.hasFollowers !== true) continue;
    const key = `${event.tenantId}\n${event.key}`;
    if (nudged.has(key)) continue;
    nudged.add(key);
    await nudgeFollowers(tx, consumer.name, event);
  }
}
