import { isToldOnce } from '../event-type.ts';
import type { LoggedEvent } from '../types.ts';

/** What the database knows of one event and one consumer. */
export interface EventFacts {
  /** The inbox has it: its effect happened, or it was discarded. */
  readonly isHandled: boolean;
  /** It lies in the delivery store. */
  readonly isStored: boolean;
  /** Another event of its key failed and is not resolved. */
  readonly isBlocked: boolean;
  /** Events of its key wait for it. */
  readonly hasFollowers: boolean;
  /** The version up to which its key is handled, or null. */
  readonly position: bigint | null;
  /** Where there is no position: the log holds an earlier version of the key. */
  readonly hasEarlier: boolean;
}

/** Where an event comes from: its carrier, the delivery store, or a replay that is in the store. */
export type Origin = 'carrier' | 'store' | 'replay';

/** `blocked` and `gap`: it has to wait, for a failed event of its key or for one that has not arrived. */
export type Judgement = 'handle' | 'skip' | 'blocked' | 'gap';

/**
 * Whether an event may have its effect now. The order is that of keyversion within (tenant, type, key): the version
 * behind the position is handled, those at or below it were seen, those beyond wait. A key without a position begins
 * with the earliest version that the log still holds: transactions may enter the log in another order than that in which
 * they took their versions, so the first to arrive need not be the first.
 */
function judge(
  event: Pick<LoggedEvent, 'type' | 'keyversion'>,
  facts: EventFacts,
  origin: Origin,
): Judgement {
  if (origin === 'replay') return judgeReplayed(event, facts);
  if (facts.isHandled || (facts.isStored && origin === 'carrier')) return 'skip';
  const isOrdered = !isToldOnce(event.type);
  if (isOrdered && facts.position !== null && event.keyversion <= facts.position) return 'skip';
  if (facts.isBlocked) return 'blocked';
  if (!isOrdered) return 'handle';
  if (facts.position === null) return facts.hasEarlier ? 'gap' : 'handle';
  return event.keyversion === facts.position + 1n ? 'handle' : 'gap';
}

/**
 * A replay repeats what the consumer has come to already. What lies beyond its position is brought by the carrier, in
 * order: handled here, it would take the position with it, and the versions between would count as seen.
 */
function judgeReplayed(event: Pick<LoggedEvent, 'type' | 'keyversion'>, facts: EventFacts): Judgement {
  if (facts.isBlocked) return 'blocked';
  if (isToldOnce(event.type) || facts.isHandled) return 'handle';
  return facts.position !== null && event.keyversion <= facts.position ? 'handle' : 'skip';
}

const keyOf = (event: LoggedEvent): string => `${event.tenantId}\n${event.key}`;
const streamOf = (event: LoggedEvent): string => `${keyOf(event)}\n${event.type}`;

/**
 * Judges the events of a batch that is handled in one transaction: each as if those before it had been handled.
 * `facts` are those from before the batch, in the same order.
 */
export function judgeBatch(
  events: readonly LoggedEvent[],
  facts: readonly EventFacts[],
  origin: Origin,
): readonly Judgement[] {
  const positions = new Map<string, bigint>();
  const waiting = new Set<string>();
  const seen = new Set<string>();
  return events.map((event, index) => {
    const known = facts[index];
    if (known === undefined) throw new RangeError('an event without its facts');
    const id = `${event.tenantId}\n${event.eventId}`;
    if (seen.has(id)) return 'skip';
    seen.add(id);
    const stream = streamOf(event);
    const judgement = judge(
      event,
      {
        ...known,
        position: positions.get(stream) ?? known.position,
        isBlocked: known.isBlocked || waiting.has(keyOf(event)),
      },
      origin,
    );
    if (judgement === 'handle') positions.set(stream, event.keyversion);
    if (judgement === 'blocked' || judgement === 'gap') waiting.add(keyOf(event));
    return judgement;
  });
}

/**
 * The same events, those of one key and type in the order of their versions. They keep the places that they have
 * between them, so that all else stays as the log has it.
 */
export function inKeyOrder(events: readonly LoggedEvent[]): readonly LoggedEvent[] {
  const places = new Map<string, number[]>();
  for (const [index, event] of events.entries()) {
    if (isToldOnce(event.type)) continue;
    const found = places.get(streamOf(event));
    if (found === undefined) places.set(streamOf(event), [index]);
    else found.push(index);
  }
  const ordered = [...events];
  for (const indexes of places.values()) {
    if (indexes.length < 2) continue;
    const own = indexes.flatMap((index) => events[index] ?? []);
    own.sort((a, b) => (a.keyversion < b.keyversion ? -1 : a.keyversion > b.keyversion ? 1 : 0));
    for (const [turn, index] of indexes.entries()) {
      const event = own[turn];
      if (event !== undefined) ordered[index] = event;
    }
  }
  return ordered;
}
