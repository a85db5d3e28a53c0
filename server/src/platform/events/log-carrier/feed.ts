import type { Clock, Logger } from '#kernel';
import { familyOf } from '../event-type.ts';
import type { CarrierSubscription, EventCursor, LoggedEvent } from '../types.ts';
import { compareCursors } from './cursor.ts';
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
  /** Begins nothing more; is given back when what is being delivered has ended. */
  isLeaving: boolean;
  /** Deliveries left that may hold what another process died of. */
  suspectDeliveries: number;
  failuresInRow: number;
  /** Monotonic; nothing is delivered before. */
  restsUntilMs: number;
}

export interface FeedSettings {
  /** Events in the longest queue beyond which nothing more is read for the consumer. */
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

/** How much of an abandoned partition may have been under way: its holder wrote its places less than a second ago. */
const suspectDeliveries = 2;
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

  /** Up to where the log was read for all partitions; null where nothing is to be read now. */
  readFrom(): EventCursor | null {
    let least: EventCursor | null = null;
    for (const slot of this.#slots.values()) {
      if (slot.isLeaving) continue;
      if (slot.queue.length >= this.#settings.queueLimit) return null;
      if (least === null || compareCursors(slot.read, least) < 0) least = slot.read;
    }
    return least;
  }

  /** Puts in what was read behind `from`. Partitions that were taken meanwhile, and are further back, are left alone. */
  put(from: EventCursor, events: readonly (readonly [partition: number, event: LoggedEvent])[]): void {
    const end = events.at(-1)?.[1].cursor;
    if (end === undefined) return;
    const open = new Map(
      [...this.#slots].filter(([, slot]) => !slot.isLeaving && compareCursors(slot.read, from) >= 0),
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
        isLeaving: false,
        suspectDeliveries: wasAbandoned ? suspectDeliveries : 0,
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
    return left.map((slot) => ({ partition: slot.partition, fence: slot.fence, cursor: slot.place }));
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
      await this.subscription.deliver(slot.partition, batch, slot.suspectDeliveries > 0);
      slot.place = batch.at(-1)?.cursor ?? slot.place;
      slot.failuresInRow = 0;
      slot.suspectDeliveries = Math.max(0, slot.suspectDeliveries - 1);
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

function currentPlace(slot: Slot): EventCursor {
  const isIdle = slot.queue.length === 0 && slot.delivering === null && !slot.isLeaving;
  return isIdle ? slot.read : slot.place;
}
