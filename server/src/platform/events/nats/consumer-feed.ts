/**
 * One consumer as far as this process feeds it: which partitions are its share, the lanes that read for them, and their
 * places.
 *
 * Processes share a consumer's partitions through the rows of `platform.event_places`: each says that it lives, counts
 * who else does, gives back what is above its share (the highest first, so that shares stay in one piece and few lanes
 * are read twice) and takes what nobody holds. A dead process's partitions are free when their lease ends. Every write
 * of a place checks the fence of its lease; what turns out to be somebody else's is dropped.
 */

import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import {
  type HeldPlace,
  joinFeeders,
  leaveFeeders,
  makePlaces,
  renewPlaces,
  takePlaces,
  writePlaces,
} from '../log-carrier/places.sql.ts';
import { partitionCount } from '../partition.ts';
import type { CarrierSubscription, EventCursor, RunningSubscription } from '../types.ts';
import { compareCursors } from './cursor.ts';
import { Lane, type LaneCounts, type LaneDependencies } from './lane.ts';
import { createGate, PartitionFeed } from './partition-feed.ts';
import { createBell, pause } from './pause.ts';
import { laneOf } from './subject.ts';

export interface FeedDependencies extends LaneDependencies {
  readonly db: Pick<Database, 'withSystem'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names this process in the leases: a UUID. */
  readonly holder: string;
}

export interface FeedSettings {
  /** After this time without renewal the partitions of a process are free; default 10,000 ms. */
  readonly leaseMs: number;
  readonly watchMs: number;
}

/** What one consumer's feed did in this process, for metrics. */
export interface FeedCounts extends LaneCounts {
  /** Events that were handed over again because `deliver` refused them. */
  redelivered: number;
}

const placeEveryMs = 500;
const idlePlaceEveryMs = 5000;
const giveBackAgainMs = 1000;
/** Partitions of one consumer that deliver at the same time: each has a connection to the database meanwhile. */
const sideBySide = 8;

interface Held {
  readonly feed: PartitionFeed;
  stored: EventCursor;
}

export class ConsumerFeed implements RunningSubscription {
  readonly #deps: FeedDependencies;
  readonly #settings: FeedSettings;
  readonly #subscription: CarrierSubscription;
  readonly #counts: FeedCounts;
  readonly #stopping = new AbortController();
  readonly #moved = createBell();
  readonly #enter: () => Promise<() => void>;
  readonly #held = new Map<number, Held>();
  /** By `laneName`. */
  readonly #lanes = new Map<string, Lane>();
  /** Partitions that are slow, each read for by itself until it has caught up: so they hold no other back. */
  readonly #apart = new Set<number>();
  /** Partitions whose last batch is being finished, whose row is being set free, or that are about to be set apart. */
  readonly #leaving = new Set<Promise<void>>();
  #loops: readonly Promise<void>[] = [];
  #stopped: Promise<void> | null = null;
  #validUntilMs = 0;
  #idlePlaceAtMs = 0;
  #lastLag: number | null = null;
  /** Turns and writes of places follow one another: both change what is held. */
  #turn: Promise<void> = Promise.resolve();

  constructor(
    deps: FeedDependencies,
    settings: FeedSettings,
    subscription: CarrierSubscription,
    counts: FeedCounts,
  ) {
    this.#deps = deps;
    this.#settings = settings;
    this.#subscription = subscription;
    this.#enter = createGate(subscription.sideBySide ?? sideBySide);
    this.#counts = counts;
  }

  get #consumer(): string {
    return this.#subscription.consumer;
  }

  /**
   * Events that the stream holds behind what was read here, those of other types among them, and what waits here. Where a
   * lane has not looked yet it is what it was last, so that an alarm on it doesn't end with the knowledge; null where it
   * was never known, or nothing is this process's.
   */
  get lag(): number | null {
    if (this.#held.size === 0) this.#lastLag = null;
    else this.#lastLag = this.#knownLag() ?? this.#lastLag;
    return this.#lastLag;
  }

  #knownLag(): number | null {
    let sum = 0;
    for (const lane of this.#lanes.values()) {
      if (lane.pending === null) return null;
      sum += lane.pending;
    }
    for (const { feed } of this.#held.values()) sum += feed.queued;
    return sum;
  }

  /** Lanes whose reading fails again and again at one place. */
  get stuckLanes(): number {
    return [...this.#lanes.values()].filter((lane) => lane.isStuck).length;
  }

  /** Partitions that are this process's now. */
  get partitions(): readonly number[] {
    return [...this.#held.keys()];
  }

  start(): void {
    this.#loops = [this.#share(), this.#keepPlaces()];
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#end();
    return this.#stopped;
  }

  async #end(): Promise<void> {
    this.#stopping.abort(new Error('the subscription is stopping'));
    await Promise.all(this.#loops);
    await this.#turn;
    await this.#drop([...this.#held.keys()], 'giveBack');
    await Promise.all(this.#leaving);
    await this.#deps.db
      .withSystem('event-dispatch', (tx) => leaveFeeders(tx, this.#consumer, this.#deps.holder))
      .catch((error: unknown) => this.#complain(error, 'could not sign off; its leases end by themselves'));
  }

  #complain(error: unknown, what: string): void {
    this.#deps.logger.warn({ err: error, consumer: this.#consumer }, `a consumer of events ${what}`);
  }

  /** One after the other, whoever asks. A turn that fails is told of, and the next one comes. */
  #inTurn(work: () => Promise<void>, what: string): Promise<void> {
    this.#turn = this.#turn.then(work).catch((error: unknown) => this.#complain(error, what));
    return this.#turn;
  }

  async #share(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#inTurn(() => this.#balance(), 'could not renew its partitions');
      await pause(this.#settings.leaseMs / 4, signal);
    }
  }

  /** Renews, gives back what is too much, takes what is free. */
  async #balance(): Promise<void> {
    const { db, clock, holder } = this.#deps;
    const { leaseMs } = this.#settings;
    const askedAtMs = clock.monotonic();
    const { renewed, feeders } = await db.withSystem('event-dispatch', async (tx) => {
      await makePlaces(tx, this.#consumer);
      const count = await joinFeeders(tx, this.#consumer, holder, leaseMs);
      return { renewed: await renewPlaces(tx, this.#consumer, holder, leaseMs), feeders: count };
    });
    this.#validUntilMs = askedAtMs + leaseMs;
    const lost = [...this.#held].filter(([partition, { feed }]) => renewed.get(partition) !== feed.fence);
    await this.#drop(
      lost.map(([partition]) => partition),
      'lost',
    );
    const share = Math.ceil(partitionCount / Math.max(1, feeders));
    const surplus = this.partitions.toSorted((left, right) => left - right).slice(share);
    await this.#drop(surplus, 'giveBack');
    if (this.#rejoin()) await this.#arrangeLanes();
    if (this.#stopping.signal.aborted || this.#held.size >= share) return;
    const limit = share - this.#held.size;
    const taken = await db.withSystem('event-dispatch', (tx) =>
      takePlaces(tx, { consumer: this.#consumer, holder, leaseMs, limit, isAlone: false }),
    );
    await this.#hold(taken);
  }

  async #hold(taken: readonly HeldPlace[]): Promise<void> {
    for (const place of taken) {
      const { partition, cursor } = place;
      const feed = new PartitionFeed(place, {
        subscription: this.#subscription,
        isHeld: () => this.#deps.clock.monotonic() < this.#validUntilMs,
        moved: () => this.#noteMove(partition),
        refused: (error, events) => {
          this.#counts.redelivered += events;
          this.#complain(error, 'refused events; the same come again');
        },
        random: this.#deps.random,
        enter: this.#enter,
      });
      this.#held.set(partition, { feed, stored: cursor });
    }
    await this.#arrangeLanes();
  }

  #noteMove(partition: number): void {
    for (const lane of this.#lanes.values()) if (lane.reads(partition)) lane.makeRoom();
    this.#moved.ring();
  }

  /** Ends what is no longer this process's. Others may have to wait for what is being delivered; the turn does not. */
  async #drop(partitions: readonly number[], how: 'giveBack' | 'lost'): Promise<void> {
    if (partitions.length === 0) return;
    const dropped = partitions.flatMap((partition) => this.#held.get(partition)?.feed ?? []);
    for (const partition of partitions) this.#held.delete(partition);
    await this.#arrangeLanes();
    for (const feed of dropped) {
      const left = (how === 'lost' ? feed.stop() : this.#giveBack(feed)).finally(() =>
        this.#leaving.delete(left),
      );
      this.#leaving.add(left);
    }
  }

  /** Finishes the batch at hand, stores its place and sets the row free; again until the database takes it. */
  async #giveBack(feed: PartitionFeed): Promise<void> {
    await feed.stop();
    const move = { partition: feed.partition, fence: feed.fence, cursor: feed.place };
    for (;;) {
      try {
        await this.#deps.db.withSystem('event-dispatch', (tx) =>
          writePlaces(tx, this.#consumer, [move], true),
        );
        return;
      } catch (error) {
        this.#complain(error, 'could not give a partition back');
        if (this.#stopping.signal.aborted) return; // the lease ends by itself
        await pause(giveBackAgainMs, this.#stopping.signal);
      }
    }
  }

  /** A lane's partitions are read for together, but for those that are slow. */
  #laneName(partition: number): string {
    return this.#apart.has(partition) ? `${laneOf(partition)}.${partition}` : String(laneOf(partition));
  }

  #setApart(partition: number): void {
    if (this.#apart.has(partition) || this.#stopping.signal.aborted) return;
    this.#apart.add(partition);
    const { consumer } = this.#subscription;
    this.#deps.logger.warn({ consumer, partition }, 'a partition is slow; it is read for by itself');
    const arranged = this.#inTurn(() => this.#arrangeLanes(), 'could not rearrange what it reads').finally(
      () => this.#leaving.delete(arranged),
    );
    this.#leaving.add(arranged);
  }

  /** Those that have caught up are read for with their lane again. */
  #rejoin(): boolean {
    const before = this.#apart.size;
    for (const partition of this.#apart) {
      const held = this.#held.get(partition);
      const hasCaughtUp = this.#lanes.get(this.#laneName(partition))?.pending === 0 && held?.feed.isIdle;
      if (held === undefined || hasCaughtUp) this.#apart.delete(partition);
    }
    return this.#apart.size < before;
  }

  /** One reader for each lane that has partitions here; one whose partitions changed is made anew. */
  async #arrangeLanes(): Promise<void> {
    const wanted = Map.groupBy(
      [...this.#held.values()].map(({ feed }) => feed),
      (feed) => this.#laneName(feed.partition),
    );
    const changed = [...this.#lanes].filter(([name, lane]) => !lane.has(wanted.get(name) ?? []));
    for (const [name] of changed) this.#lanes.delete(name);
    await Promise.all(changed.map(([, lane]) => lane.stop()));
    for (const [, lane] of changed) lane.settle();
    const { consumer, types } = this.#subscription;
    const { watchMs } = this.#settings;
    const onSlow = (partition: number): void => this.#setApart(partition);
    for (const [name, feeds] of wanted) {
      const [first] = feeds;
      if (this.#lanes.has(name) || first === undefined) continue;
      const settings = { consumer, types, lane: laneOf(first.partition), watchMs, onSlow };
      this.#lanes.set(name, new Lane(this.#deps, settings, feeds, this.#counts));
    }
  }

  async #keepPlaces(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#moved.wait(idlePlaceEveryMs, signal);
      await pause(placeEveryMs, signal);
      if (!signal.aborted) await this.#inTurn(() => this.#storePlaces(), 'could not store its places');
    }
  }

  /**
   * Stores what has moved. Partitions to which nothing came move with the rest of their lane; those are written only
   * now and then, so that a few busy keys don't rewrite 64 rows twice a second.
   */
  async #storePlaces(): Promise<void> {
    const { clock, db } = this.#deps;
    const before = new Map([...this.#held].map(([partition, { feed }]) => [partition, feed.place]));
    for (const lane of this.#lanes.values()) lane.settle();
    const isTimeForIdle = clock.monotonic() - this.#idlePlaceAtMs >= idlePlaceEveryMs;
    if (isTimeForIdle) this.#idlePlaceAtMs = clock.monotonic();
    const moves = [...this.#held.values()].flatMap(({ feed, stored }) => {
      const cursor = feed.place;
      const wasFed = compareCursors(before.get(feed.partition) ?? cursor, stored) > 0;
      const isDue = compareCursors(cursor, stored) > 0 && (wasFed || isTimeForIdle);
      return isDue ? [{ partition: feed.partition, fence: feed.fence, cursor }] : [];
    });
    if (moves.length === 0) return;
    const mine = await db.withSystem('event-dispatch', (tx) => writePlaces(tx, this.#consumer, moves, false));
    for (const { partition, cursor } of moves) {
      const held = this.#held.get(partition);
      if (held !== undefined && mine.has(partition)) held.stored = cursor;
    }
    await this.#drop(
      moves.flatMap(({ partition }) => (mine.has(partition) ? [] : [partition])),
      'lost',
    );
  }
}
