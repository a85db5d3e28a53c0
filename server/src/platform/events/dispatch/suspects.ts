/**
 * What a process may have died of. A partition whose holder vanished comes marked, and its first events that were not
 * handled yet are the suspects: as many as may have been under way at once in one partition. Behind them nothing was.
 *
 * A suspect is written into the store, leased, before it is handled, and is handled alone in this process (`turns.ts`). So
 * a death that follows is the suspect's own: its attempt counts, and the partition goes on without it. A consumer in the
 * system's door had hundreds under way in one transaction: these are noted together, as what is not counted yet, and
 * tried together; if the process dies of that, each of them is tried by itself, counted, out of the store.
 *
 * So no event is blamed for what happened while another was being handled, and each death after the first narrows it down.
 */

import { randomUUID } from 'node:crypto';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { LeaseLost } from './attempt.ts';
import { holdAgain, releaseStored, storeBeforehand } from './deliveries.sql.ts';
import { diedFailure } from './failure.ts';
import type { HandlingHandle } from './handling.sql.ts';
import { type HandlingDeps, hold, measured, peek } from './outcomes.ts';
import { tryStored } from './stored-delivery.ts';

/** Notes in the transaction of an event's outcome that a replay is past it. */
export type ReplayProgress = (tx: HandlingHandle, isHandled: boolean) => Promise<void>;

export interface Suspicion {
  /** How many events, in the order of the partition, may still be what a process died of. */
  left: number;
}

/** One is under way at a time in a partition; the others are for batches that begin elsewhere than they did. */
const suspectsOfTenantDoor = 8;

/** @param batch how many events a transaction of the system's door takes */
export function newSuspicion(consumer: EventConsumer, batch: number): Suspicion {
  return { left: consumer.door === 'tenant' ? suspectsOfTenantDoor : batch };
}

/**
 * Handles the first of these events, in their order, as suspects; takes those that were tried from the suspicion. Answers
 * how many of the events are dealt with.
 */
export async function trySuspects(
  deps: HandlingDeps,
  consumer: EventConsumer,
  events: readonly LoggedEvent[],
  suspicion: Suspicion,
): Promise<number> {
  const judgements = await peek(deps, consumer, events, 'carrier');
  const skipped = judgements.findIndex((judgement) => judgement !== 'skip');
  if (skipped !== 0) return skipped === -1 ? events.length : skipped;
  const group = groupOf(consumer, events, suspicion.left);
  const chosen: LoggedEvent[] = [];
  for (const [index, event] of group.entries()) {
    const outcome = judgements[index];
    if (outcome === 'handle') chosen.push(event);
    if (outcome === 'blocked' || outcome === 'gap') await hold(deps, consumer, event, outcome);
  }
  suspicion.left = Math.max(0, suspicion.left - chosen.length);
  const [only] = chosen;
  if (only !== undefined) {
    await deps.turns.alone(() =>
      chosen.length === 1 ? tryOne(deps, consumer, only) : tryGroup(deps, consumer, chosen),
    );
  }
  return group.length;
}

/** Events of one key wait for each other in the store, so a group has one of each. */
function groupOf(
  consumer: EventConsumer,
  events: readonly LoggedEvent[],
  most: number,
): readonly LoggedEvent[] {
  if (consumer.door === 'tenant') return events.slice(0, 1);
  const keys = new Set<string>();
  for (const { tenantId, key } of events.slice(0, most)) {
    const size = keys.size;
    keys.add(`${tenantId}\n${key}`);
    if (keys.size === size) break;
  }
  return events.slice(0, keys.size);
}

async function tryOne(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  replay: ReplayProgress | null = null,
): Promise<void> {
  const leaseToken = randomUUID();
  const isReplay = replay !== null;
  const lease = { token: leaseToken, ms: deps.leaseMs };
  const stored = await deps.db.withSystem('event-dispatch', async (tx) => {
    await replay?.(tx, false);
    return storeBeforehand(tx, consumer.name, [event], {
      ...lease,
      failure: diedFailure,
      attempts: 1,
      isReplay,
    });
  });
  if (!stored.has(event.eventId)) return;
  await tryStored(deps, consumer, {
    consumer: consumer.name,
    event,
    state: 'retrying',
    isReplay,
    isAlone: true,
    attempts: 1,
    redrives: 0,
    firstSeenAt: new Date(deps.clock.now()),
    leaseToken,
  });
}

/**
 * One event of a replay that a process may have died of, in the store like any other suspect; the replay is past it, and
 * counts it among what did not go through at once. Its caller has the turn.
 */
export function replaySuspect(
  deps: HandlingDeps,
  consumer: EventConsumer,
  event: LoggedEvent,
  progress: ReplayProgress,
): Promise<void> {
  return tryOne(deps, consumer, event, progress);
}

async function tryGroup(
  deps: HandlingDeps,
  consumer: EventConsumer,
  group: readonly LoggedEvent[],
): Promise<void> {
  const leaseToken = randomUUID();
  const lease = { token: leaseToken, ms: deps.leaseMs };
  const stored = await deps.db.withSystem('event-dispatch', (tx) =>
    storeBeforehand(tx, consumer.name, group, { ...lease, failure: diedFailure, attempts: 0 }),
  );
  const events = group.filter(({ eventId }) => stored.has(eventId));
  if (events.length === 0) return;
  try {
    const outcomes = await measured(deps, consumer, { events, origin: 'store', leaseToken });
    for (const [index, event] of events.entries()) {
      if (outcomes[index] !== 'blocked' && outcomes[index] !== 'gap') continue;
      const waiting = { consumer: consumer.name, event, leaseToken };
      await deps.db.withSystem('event-dispatch', (tx) => holdAgain(tx, waiting));
    }
  } catch (error) {
    if (error instanceof LeaseLost) return;
    // One of them throws, and the process lives: each has its first attempt by itself, beside all else.
    await deps.db.withSystem('event-dispatch', (tx) => releaseStored(tx, consumer.name, leaseToken));
    deps.onStored();
  }
}
