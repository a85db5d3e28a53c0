/**
 * One partition of one consumer, as long as this process holds it: a queue on one side, `deliver` on the other, one
 * batch at a time. A batch that is refused comes again after a pause that grows; nothing behind it passes it.
 */

import type { HeldPlace } from '../log-carrier/places.sql.ts';
import type { CarrierSubscription, EventCursor, LoggedEvent } from '../types.ts';
import { isAfter, laterOf } from './cursor.ts';
import { createBackoff, createBell, pause } from './pause.ts';

export interface PartitionFeedPorts {
  readonly subscription: Pick<CarrierSubscription, 'deliver'>;
  /** Whether the partition is still this process's as far as it knows. */
  readonly isHeld: () => boolean;
  /** Something was handed over, or refused. */
  readonly moved: () => void;
  readonly refused: (error: unknown, events: number) => void;
  readonly random: () => number;
  /** Resolves when it is this partition's turn to deliver, with what gives the turn to the next. */
  readonly enter: () => Promise<() => void>;
}

/** Lets so many partitions of a consumer deliver side by side; the others wait in the order in which they came. */
export function createGate(width: number): () => Promise<() => void> {
  let free = width;
  const waiting: (() => void)[] = [];
  const leave = (): void => {
    const next = waiting.shift();
    if (next === undefined) free += 1;
    else next();
  };
  return async () => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    return leave;
  };
}

const batchSize = 100;
const firstPauseMs = 250;
const longestPauseMs = 5000;
const heldCheckMs = 250;

export class PartitionFeed {
  readonly partition: number;
  readonly fence: bigint;
  readonly #ports: PartitionFeedPorts;
  readonly #bell = createBell();
  readonly #stopping = new AbortController();
  readonly #loop: Promise<void>;
  #queue: LoggedEvent[] = [];
  #delivered: EventCursor;
  #taken: EventCursor;
  #isBusy = false;
  /** Another process held it and vanished, and nothing was delivered since. */
  #isSuspect: boolean;

  /** Begins to deliver at once what is `offer`ed; nothing at or before the place. */
  constructor(held: HeldPlace, ports: PartitionFeedPorts) {
    this.partition = held.partition;
    this.fence = held.fence;
    this.#delivered = held.cursor;
    this.#taken = held.cursor;
    this.#isSuspect = held.wasAbandoned;
    this.#ports = ports;
    this.#loop = this.#run();
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** Nothing waits, and nothing is being delivered. */
  get isIdle(): boolean {
    return this.#queue.length === 0 && !this.#isBusy;
  }

  /** All events of the partition up to here were offered, or are not for this consumer. */
  get taken(): EventCursor {
    return this.#taken;
  }

  /** All events up to here were delivered, or are not for this consumer. */
  get place(): EventCursor {
    return this.isIdle ? this.#taken : this.#delivered;
  }

  /** Puts an event behind those that wait. One that was taken before is passed over. */
  offer(event: LoggedEvent): void {
    if (!isAfter(event.cursor, this.#taken)) return;
    this.#taken = event.cursor;
    this.#queue.push(event);
    this.#bell.ring();
  }

  /** Nothing up to `cursor` is still to come. */
  passOver(cursor: EventCursor): void {
    this.#taken = laterOf(this.#taken, cursor);
  }

  /** Finishes the batch at hand; what waits behind it is let go of. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = createBackoff(firstPauseMs, longestPauseMs, this.#ports.random);
    while (!signal.aborted) {
      if (this.#queue.length === 0) {
        await this.#bell.wait(60_000, signal);
      } else if (!this.#ports.isHeld()) {
        await pause(heldCheckMs, signal);
      } else if (await this.#deliver()) {
        backoff.reset();
      } else {
        await pause(backoff.next(), signal);
      }
    }
    // What was not delivered is no longer this process's; `place` must not pass it.
    if (this.#queue.length > 0) this.#taken = this.#delivered;
    this.#queue = [];
  }

  async #deliver(): Promise<boolean> {
    const leave = await this.#ports.enter();
    const events = this.#queue.slice(0, batchSize);
    this.#isBusy = true;
    try {
      const count = await this.#ports.subscription.deliver(this.partition, events, this.#isSuspect);
      this.#isSuspect = false;
      this.#queue.splice(0, count);
      this.#delivered = events[count - 1]?.cursor ?? this.#delivered;
      return true;
    } catch (error) {
      this.#ports.refused(error, events.length);
      return false;
    } finally {
      this.#isBusy = false;
      leave();
      this.#ports.moved();
    }
  }
}
