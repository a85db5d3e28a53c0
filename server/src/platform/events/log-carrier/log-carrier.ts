/**
 * The carrier that reads the log itself: for a process without NATS, or beside one in development.
 *
 * A consumer's place is kept by partition in platform.event_places. Each process that feeds it holds an even share of the
 * 64 partitions under a lease; a partition that is taken gets a new fence, and a place is written under its fence only.
 * Processes that come and go are known by platform.event_feeders: who holds more than the share gives the rest back, who
 * holds less takes what is free. What a stopped process still delivers meanwhile is harmless: the inbox knows it.
 *
 * A process reads the log once for all its consumers that are at about the same point: each turn reads behind the one
 * that is furthest back and has room, and whoever is within what was read gets its part. At the head, where all are, that
 * is one query a turn, however many consumers and partitions there are; one that lags is read for by itself until it has
 * caught up. So is a partition whose queue is full because its handler hangs or is slow: the others of its consumer are read
 * on without it.
 */

import { randomUUID } from 'node:crypto';
import type { Database } from '#db';
import type { Clock, Logger } from '#kernel';
import { readEvents } from '../event-log.sql.ts';
import { partitionCount, partitionOf } from '../partition.ts';
import type { CarrierSubscription, EventCarrier, EventCursor, RunningSubscription } from '../types.ts';
import { leastOf } from './cursor.ts';
import { Feed } from './feed.ts';
import {
  countBehind,
  joinFeeders,
  leaveFeeders,
  makePlaces,
  renewPlaces,
  takePlaces,
  writePlaces,
} from './places.sql.ts';

export interface LogCarrierDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface LogCarrierSettings {
  /** How often the log is looked at without a hint. Milliseconds, default 200. */
  readonly pollMs?: number;
  /** How long a partition stays with a process that vanished. Milliseconds, default 15,000. */
  readonly leaseMs?: number;
  /** How often places are written. Milliseconds, default 300. */
  readonly flushMs?: number;
  /** Events of one reading; default 1,000. */
  readonly readLimit?: number;
  /** Partitions of one consumer that are delivered side by side; default 8. */
  readonly concurrency?: number;
  /** True where no other process can have the database open: what an earlier one held is taken at once. */
  readonly isAlone?: boolean;
}

export interface LogCarrier extends EventCarrier {
  /** False while the log can't be read. */
  isHealthy(): boolean;
}

const queueLimit = 1000;
const batchLimit = 500;
/** Counting what is behind stops here. */
const countLimit = 100_000;
/** After a hint the log is looked at this soon again, then ever later: a running transaction may hold the event back. */
const firstLookMs = 8;

class Carrier implements LogCarrier {
  readonly #deps: LogCarrierDeps;
  readonly #settings: Required<LogCarrierSettings>;
  readonly #holder = randomUUID();
  readonly #feeds = new Set<Feed>();
  #reading: Promise<void> | null = null;
  #wakeUp: (() => void) | null = null;
  #isHinted = false;
  #lookMs: number;
  #isHealthy = true;
  #isShortOfRoom = false;
  #flushTimer: NodeJS.Timeout | undefined;
  #flushing: Promise<void> = Promise.resolve();

  constructor(deps: LogCarrierDeps, settings: LogCarrierSettings) {
    this.#deps = deps;
    this.#settings = {
      pollMs: settings.pollMs ?? 200,
      leaseMs: settings.leaseMs ?? 15_000,
      flushMs: settings.flushMs ?? 300,
      readLimit: settings.readLimit ?? 1000,
      concurrency: settings.concurrency ?? 8,
      isAlone: settings.isAlone ?? false,
    };
    this.#lookMs = this.#settings.pollMs;
  }

  isHealthy(): boolean {
    return this.#isHealthy;
  }

  /** Reads on where it had to wait for room, once there is some. */
  #resume(): void {
    if (!this.#isShortOfRoom) return;
    if (![...this.#feeds].some((feed) => !feed.hasApart || feed.readApartFrom() !== null)) return;
    this.#isHinted = true;
    this.#wakeUp?.();
  }

  wake(): void {
    // Alone with the database, nothing else's transaction holds back what was just committed: the first look sees it.
    this.#lookMs = this.#settings.isAlone ? this.#settings.pollMs : firstLookMs;
    this.#isHinted = true;
    this.#wakeUp?.();
  }

  async subscribe(subscription: CarrierSubscription): Promise<RunningSubscription> {
    const { clock, logger, db } = this.#deps;
    const { leaseMs, concurrency } = this.#settings;
    const feed = new Feed(
      subscription,
      { clock, logger, onRoom: () => this.#resume() },
      { queueLimit, batchLimit, concurrency: subscription.sideBySide ?? concurrency, leaseMs },
    );
    await db.withSystem('event-dispatch', (tx) => makePlaces(tx, subscription.consumer));
    await this.#renew(feed);
    this.#feeds.add(feed);
    const renewal = this.#keepRenewing(feed);
    this.#startReading();
    this.wake();
    let stopping: Promise<void> | null = null;
    return {
      get lag() {
        return feed.lag;
      },
      stop: () => (stopping ??= this.#stop(feed, renewal)),
    };
  }

  async #stop(feed: Feed, renewal: { stop(): Promise<void> }): Promise<void> {
    this.#feeds.delete(feed);
    this.#wakeUp?.();
    await feed.settle();
    await renewal.stop();
    await this.#flushing;
    const { consumer } = feed.subscription;
    const left = feed.takeLeft();
    await this.#deps.db
      .withSystem('event-dispatch', async (tx) => {
        await writePlaces(tx, consumer, left, true);
        await leaveFeeders(tx, consumer, this.#holder);
      })
      .catch((error: unknown) => {
        // The leases end by themselves; the process is going either way.
        this.#deps.logger.warn({ err: error, consumer }, 'partitions could not be given back');
      });
    if (this.#feeds.size === 0) {
      clearTimeout(this.#flushTimer);
      await this.#reading;
      await this.#flushing;
    }
  }

  /** One turn of the lease: who feeds, what is still ours, what is free, what is too much. Answers whether all is even. */
  async #renew(feed: Feed): Promise<boolean> {
    const { db, clock } = this.#deps;
    const { leaseMs, isAlone } = this.#settings;
    const { consumer } = feed.subscription;
    const askedAtMs = clock.monotonic();
    const found = await db.withSystem('event-dispatch', async (tx) => {
      const feeders = await joinFeeders(tx, consumer, this.#holder, leaseMs);
      const held = await renewPlaces(tx, consumer, this.#holder, leaseMs);
      const share = Math.ceil(partitionCount / feeders);
      const limit = Math.max(0, share - held.size);
      const take = { consumer, holder: this.#holder, leaseMs, limit, isAlone };
      const taken = limit === 0 ? [] : await takePlaces(tx, take);
      const from = feed.readFrom();
      const behind = from === null ? null : await countBehind(tx, from, [...feed.families], countLimit);
      return { held, share, taken, behind };
    });
    feed.behind = found.behind;
    feed.hold(found.held, found.taken, askedAtMs + leaseMs);
    feed.shrinkTo(found.share);
    const left = feed.takeLeft();
    if (left.length > 0) {
      await db.withSystem('event-dispatch', (tx) => writePlaces(tx, consumer, left, true));
    }
    if (found.taken.length > 0) this.wake();
    return feed.size === found.share || found.share === partitionCount;
  }

  #keepRenewing(feed: Feed): { stop(): Promise<void> } {
    const { leaseMs } = this.#settings;
    let timer: NodeJS.Timeout | undefined;
    let turn: Promise<void> = Promise.resolve();
    let isStopped = false;
    const schedule = (delayMs: number): void => {
      if (isStopped) return;
      timer = setTimeout(() => {
        turn = this.#renew(feed)
          .then((isEven) => schedule(isEven ? leaseMs / 3 : leaseMs / 15))
          .catch((error: unknown) => {
            this.#deps.logger.warn({ err: error }, 'leases of partitions could not be renewed');
            schedule(leaseMs / 15);
          });
      }, delayMs);
    };
    schedule(leaseMs / 15);
    return {
      async stop() {
        isStopped = true;
        clearTimeout(timer);
        await turn;
      },
    };
  }

  #startReading(): void {
    if (this.#reading !== null) return;
    this.#scheduleFlush();
    this.#reading = this.#read().finally(() => {
      this.#reading = null;
      // A subscription that came while the last turn ended.
      if (this.#feeds.size > 0) this.#startReading();
    });
  }

  async #read(): Promise<void> {
    while (this.#feeds.size > 0) {
      this.#isHinted = false;
      let hasMore = false;
      try {
        hasMore = await this.#readOnce();
        this.#isHealthy = true;
      } catch (error) {
        if (this.#isHealthy) this.#deps.logger.warn({ err: error }, 'the event log cannot be read');
        this.#isHealthy = false;
        this.#lookMs = this.#settings.pollMs;
      }
      if (!hasMore && this.#feeds.size > 0 && !this.#isHinted) await this.#pause();
    }
  }

  async #pause(): Promise<void> {
    const woken = Promise.withResolvers<void>();
    this.#wakeUp = woken.resolve;
    const timer = setTimeout(woken.resolve, this.#lookMs);
    this.#lookMs = Math.min(this.#settings.pollMs, this.#lookMs * 4);
    await woken.promise;
    clearTimeout(timer);
    this.#wakeUp = null;
  }

  /**
   * Reads on for whoever is furthest back among those that keep up, then a page for a partition that does not, so that
   * neither waits for the other. Answers whether there is more to be read at once.
   */
  async #readOnce(): Promise<boolean> {
    const feeds = [...this.#feeds];
    const ready = feeds.flatMap((feed) => {
      const from = feed.readFrom();
      return from === null ? [] : [{ feed, from }];
    });
    this.#isShortOfRoom = ready.length < feeds.length || feeds.some((feed) => feed.hasApart);
    const from = leastOf(ready.map((one) => one.from));
    const isAtHead =
      from === null ||
      (await this.#readPage(
        from,
        ready.map(({ feed }) => feed),
      ));
    if (isAtHead) for (const { feed } of ready) if (!feed.hasApart) feed.behind = 0;
    const late = leastOf(feeds.flatMap((feed) => feed.readApartFrom() ?? []));
    const isLateAtHead = late === null || (await this.#readPage(late, feeds));
    return !isAtHead || !isLateAtHead;
  }

  /** Answers whether the log ends behind this page. */
  async #readPage(from: EventCursor, feeds: readonly Feed[]): Promise<boolean> {
    const { readLimit } = this.#settings;
    const events = await this.#deps.db.withSystem('relay', (tx) => readEvents(tx, from, readLimit));
    const placed = events.map((event) => [partitionOf(event.tenantId, event.key), event] as const);
    for (const feed of feeds) feed.put(from, placed);
    return events.length < readLimit;
  }

  #scheduleFlush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = setTimeout(() => {
      this.#flushing = this.#flush()
        .catch((error: unknown) => {
          this.#deps.logger.debug({ err: error }, 'places in the event log could not be written');
        })
        .finally(() => {
          if (this.#feeds.size > 0) this.#scheduleFlush();
        });
    }, this.#settings.flushMs);
  }

  async #flush(): Promise<void> {
    const all = [...this.#feeds].map((feed) => ({ feed, moves: feed.moves() }));
    const moved = all.filter(({ moves }) => moves.length > 0);
    if (moved.length === 0) return;
    const written = await this.#deps.db.withSystem('event-dispatch', async (tx) => {
      const answers: ReadonlySet<number>[] = [];
      for (const { feed, moves } of moved) {
        answers.push(await writePlaces(tx, feed.subscription.consumer, moves, false));
      }
      return answers;
    });
    for (const [index, { feed, moves }] of moved.entries()) {
      feed.noteWritten(moves, written[index] ?? new Set());
    }
  }
}

/** Feeds consumers from the log. One for a process; it reads while there are subscriptions. */
export function createLogCarrier(deps: LogCarrierDeps, settings: LogCarrierSettings = {}): LogCarrier {
  return new Carrier(deps, settings);
}
