import type { Clock, Logger } from '#kernel';
import { familyOf } from '../event-type.ts';
import type { CarrierSubscription, EventCursor, LoggedEvent } from '../types.ts';
import { compareCursors, leastOf } from './cursor.ts';
import type { HeldPlace, PlaceMove } from './places.sql.ts';

/** A partition that this process feeds to one consumer. */
interface Slot {
  readonly partition: number;
  readonly fence: bigint;
  /** Everything at or before it was delivered. */
  place: EventCursor;
  /** Everything at or before it was delivered or lies in the queue. */
  read: EventCursor;
  /** The place as the database has it. */
  written: EventCursor;
  queue: LoggedEvent[];
  delivering: Promise<void> | null;
  deliveringCount: number;
  /** Since when its queue has been full, or more than half full after that; null where it isn't. Monotonic. */
  fullSinceMs: number | null;
  /**
   * Its queue stayed full while others had nothing to do: the log is read on without it, and for it by itself, until it
   * has caught up. So a partition that hangs, or is slow, holds no other back.
   */
  isApart: boolean;
  /** Begins nothing more; is given back when what is being delivered has ended. */
  isLeaving: boolean;
  /** Another process held it and vanished, and nothing was delivered since. */
  isSuspect: boolean;
  failuresInRow: number;
  /** Monotonic; nothing is delivered before. */
  restsUntilMs: number;
}

export interface FeedSettings {
  /** Events in a queue from which on nothing more is read for its partition. */
  readonly queueLimit: number;
  /** Events of one delivery at most. */
  readonly batchLimit: number;
  /** Partitions that are delivered side by side. */
  readonly concurrency: number;
  readonly leaseMs: number;
}

export interface FeedDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** There is room for more to be read. */
  readonly onRoom: () => void;
}

/** So long may a full queue keep those waiting that have nothing to do. */
const fullLimitMs = 300;
const firstRestMs = 200;
const longestRestMs = 10_000;

/** What one consumer is fed by this process: queues by partition, and deliveries side by side. */
export class Feed {
  readonly subscription: CarrierSubscription;
  readonly families: ReadonlySet<string>;
  readonly #deps: FeedDeps;
  readonly #settings: FeedSettings;
  /** The one served last stands last. */
  readonly #slots = new Map<number, Slot>();
  #leasedUntilMs = 0;
  #running = 0;
  #isStopping = false;
  /** Events of the log that were not read yet, as of the last count. */
  behind: number | null = null;

  constructor(subscription: CarrierSubscription, deps: FeedDeps, settings: FeedSettings) {
    this.subscription = subscription;
    this.families = new Set(subscription.types.map(familyOf));
    this.#deps = deps;
    this.#settings = settings;
  }

  get size(): number {
    return [...this.#slots.values()].filter((slot) => !slot.isLeaving).length;
  }

  get lag(): number | null {
    if (this.behind === null) return null;
    let waiting = this.behind;
    for (const slot of this.#slots.values()) waiting += slot.queue.length + slot.deliveringCount;
    return waiting;
  }

  /** Up to where the log was read for the partitions that keep up; null where nothing is to be read for them now. */
  readFrom(): EventCursor | null {
    this.#sortOut();
    const together = [...this.#slots.values()].filter((slot) => !slot.isLeaving && !slot.isApart);
    if (together.some((slot) => slot.queue.length >= this.#settings.queueLimit)) return null;
    return leastOf(together.map((slot) => slot.read));
  }

  /** Finds who no longer keeps up, and who does again. A backlog alone fills all queues alike, and sets nobody apart. */
  #sortOut(): void {
    const nowMs = this.#deps.clock.monotonic();
    const staying = [...this.#slots.values()].filter((slot) => !slot.isLeaving);
    const together = staying.filter((slot) => !slot.isApart);
    for (const slot of together) {
      if (slot.queue.length >= this.#settings.queueLimit) slot.fullSinceMs ??= nowMs;
      else if (this.#hasRoomAgain(slot)) slot.fullSinceMs = null;
    }
    const isOneIdle = together.some((slot) => slot.queue.length === 0 && slot.delivering === null);
    for (const slot of together) {
      slot.isApart = isOneIdle && slot.fullSinceMs !== null && nowMs - slot.fullSinceMs > fullLimitMs;
    }
    const least = leastOf(staying.flatMap((slot) => (slot.isApart ? [] : [slot.read])));
    for (const slot of staying) {
      const hasCaughtUp = least === null || compareCursors(slot.read, least) >= 0;
      if (slot.isApart && hasCaughtUp && this.#hasRoomAgain(slot)) {
        slot.isApart = false;
        slot.fullSinceMs = null;
      }
    }
  }

  /** Up to where the log was read for the furthest back of those that did not keep up and have room again. */
  readApartFrom(): EventCursor | null {
    const late = [...this.#slots.values()].filter((slot) => slot.isApart && !slot.isLeaving);
    return leastOf(late.flatMap((slot) => (this.#hasRoomAgain(slot) ? [slot.read] : [])));
  }

  /** Whether some partition does not keep up. */
  get hasApart(): boolean {
    return [...this.#slots.values()].some((slot) => slot.isApart);
  }

  /** Half a queue: each reading for one partition reads all of the log there. */
  #hasRoomAgain(slot: Slot): boolean {
    return slot.queue.length <= this.#settings.queueLimit / 2;
  }

  /** Puts in what was read behind `from`. Partitions that are further back, or have no room, are left alone. */
  put(from: EventCursor, events: readonly (readonly [partition: number, event: LoggedEvent])[]): void {
    const end = events.at(-1)?.[1].cursor;
    if (end === undefined) return;
    const open = new Map(
      [...this.#slots].filter(
        ([, slot]) =>
          !slot.isLeaving &&
          slot.queue.length < this.#settings.queueLimit &&
          compareCursors(slot.read, from) >= 0,
      ),
    );
    for (const [partition, event] of events) {
      const slot = open.get(partition);
      if (slot === undefined || !this.families.has(familyOf(event.type))) continue;
      if (compareCursors(event.cursor, slot.read) > 0) slot.queue.push(event);
    }
    for (const slot of open.values()) if (compareCursors(slot.read, end) < 0) slot.read = end;
    this.pump();
  }

  /** Takes in what the database says of this process's partitions: those that it still holds, and new ones. */
  hold(stillHeld: ReadonlyMap<number, bigint>, taken: readonly HeldPlace[], leasedUntilMs: number): void {
    this.#leasedUntilMs = leasedUntilMs;
    for (const slot of this.#slots.values()) {
      if (stillHeld.get(slot.partition) !== slot.fence) this.drop(slot.partition);
    }
    if (this.#isStopping) return;
    for (const { partition, fence, cursor, wasAbandoned } of taken) {
      this.#slots.set(partition, {
        partition,
        fence,
        place: cursor,
        read: cursor,
        written: cursor,
        queue: [],
        delivering: null,
        deliveringCount: 0,
        fullSinceMs: null,
        isApart: false,
        isLeaving: false,
        isSuspect: wasAbandoned,
        failuresInRow: 0,
        restsUntilMs: 0,
      });
    }
    this.pump();
  }

  /** Forgets a partition that another process has taken. What is being delivered ends by itself, harmlessly. */
  drop(partition: number): void {
    this.#slots.delete(partition);
  }

  /**
   * Has all partitions but `keep` leave, whatever they have to do: were the idle ones to go first, a process that joins
   * would get those alone.
   */
  shrinkTo(keep: number): void {
    const staying = [...this.#slots.values()].filter((slot) => !slot.isLeaving);
    const ordered = staying.toSorted((a, b) => b.partition - a.partition);
    for (const slot of ordered.slice(0, Math.max(0, staying.length - keep))) slot.isLeaving = true;
  }

  /** Has all partitions leave; resolves when nothing is being delivered. */
  async settle(): Promise<void> {
    this.#isStopping = true;
    this.shrinkTo(0);
    await Promise.all([...this.#slots.values()].flatMap((slot) => slot.delivering ?? []));
  }

  /** What the database does not know yet of where the partitions are. */
  moves(): readonly PlaceMove[] {
    const moved: PlaceMove[] = [];
    for (const slot of this.#slots.values()) {
      const cursor = currentPlace(slot);
      if (compareCursors(cursor, slot.written) > 0) {
        moved.push({ partition: slot.partition, fence: slot.fence, cursor });
      }
    }
    return moved;
  }

  noteWritten(moves: readonly PlaceMove[], written: ReadonlySet<number>): void {
    for (const { partition, fence, cursor } of moves) {
      const slot = this.#slots.get(partition);
      if (slot === undefined || slot.fence !== fence) continue;
      if (written.has(partition)) slot.written = cursor;
      else this.drop(partition);
    }
  }

  /** The partitions that leave and have nothing under way, taken out of here. */
  takeLeft(): readonly PlaceMove[] {
    const left = [...this.#slots.values()].filter((slot) => slot.isLeaving && slot.delivering === null);
    for (const slot of left) this.#slots.delete(slot.partition);
    return left.map((slot) => ({ partition: slot.partition, fence: slot.fence, cursor: currentPlace(slot) }));
  }

  /** Begins whatever can be delivered now. */
  pump(): void {
    const nowMs = this.#deps.clock.monotonic();
    for (const slot of this.#slots.values()) {
      if (this.#running >= this.#settings.concurrency) return;
      const isReady = slot.queue.length > 0 && slot.delivering === null && !slot.isLeaving;
      if (!isReady || slot.restsUntilMs > nowMs) continue;
      // A process that was stopped for longer than its lease finds out here, before it begins anything.
      if (nowMs >= this.#leasedUntilMs) return;
      this.#slots.delete(slot.partition);
      this.#slots.set(slot.partition, slot);
      this.#running += 1;
      slot.delivering = this.#deliver(slot).finally(() => {
        slot.delivering = null;
        slot.deliveringCount = 0;
        this.#running -= 1;
        this.pump();
        this.#deps.onRoom();
      });
    }
  }

  async #deliver(slot: Slot): Promise<void> {
    const batch = slot.queue.splice(0, this.#settings.batchLimit);
    slot.deliveringCount = batch.length;
    try {
      const count = await this.subscription.deliver(slot.partition, batch, slot.isSuspect);
      slot.place = batch[count - 1]?.cursor ?? slot.place;
      slot.queue = [...batch.slice(count), ...slot.queue];
      slot.failuresInRow = 0;
      slot.isSuspect = false;
    } catch (error) {
      slot.queue = [...batch, ...slot.queue];
      slot.failuresInRow += 1;
      const restMs = Math.min(longestRestMs, firstRestMs * 2 ** (slot.failuresInRow - 1));
      slot.restsUntilMs = this.#deps.clock.monotonic() + restMs;
      setTimeout(() => this.pump(), restMs + 1).unref();
      this.#deps.logger.warn(
        { err: error, consumer: this.subscription.consumer, partition: slot.partition, restMs },
        'a partition could not be delivered; the same events come again',
      );
    }
  }
}

/** A partition that has nothing to do is as far as the log was read for it, also when it leaves. */
function currentPlace(slot: Slot): EventCursor {
  const isIdle = slot.queue.length === 0 && slot.delivering === null;
  return isIdle ? slot.read : slot.place;
}
