/**
 * One lane of one consumer: reads the stream, or the log where the stream has a hole, and offers each event to its
 * partition, in order and without a gap.
 *
 * The state is one cursor, `seen`: everything of the lane up to there was offered. It moves on
 * - by a message whose `stoa-prev` is at or before `seen` (nothing lies between), else after the log was read in between;
 * - by reading the log;
 * - over what belongs to other lanes, when the stream was read to its end and has lost nothing that was not read.
 *
 * Reading is by a consumer of the stream that is made for this purpose, kept in the server's memory, acknowledges
 * nothing and starts behind `seen` (found by search, since the stream is sorted). How far the consumer's effects are is
 * the place in the database, the only truth; so a stream consumer may be lost at any time and is simply made anew.
 *
 * The watch: whenever nothing has come for a while, the lane asks whether that is right. The stream may be another than
 * before, its beginning may have passed us (retention, a purge), the stream consumer may be gone, or may have messages
 * that it doesn't send. Each of these ends the reading, and it begins again behind `seen`.
 *
 * A message that only refers to the log may outlive its event there. Such an event is lost for this consumer: it is told
 * and counted, and the lane goes on. Only the log's own answer makes it so; where the log can't be asked, the lane tries
 * again, and one that does so time after time and gets no further is `isStuck`.
 */

import {
  AckPolicy,
  type Consumer,
  type ConsumerMessages,
  DeliverPolicy,
  type JsMsg,
} from '@nats-io/jetstream';
import type { Database } from '#db';
import { type Logger, toTypeId } from '#kernel';
import { readEvents } from '../event-log.sql.ts';
import { familyOf } from '../event-type.ts';
import { partitionOf } from '../partition.ts';
import type { EventCursor, LoggedEvent } from '../types.ts';
import { type Absence, readAbsence } from './absence.sql.ts';
import { compareCursors, earlierOf, isAfter } from './cursor.ts';
import type { NatsLink, NatsSession } from './link.ts';
import { type LaneMessage, readMessage } from './message.ts';
import type { PartitionFeed } from './partition-feed.ts';
import { createBackoff, createBell, pause } from './pause.ts';
import { firstPlace, placeAt, sequenceBehind } from './stream.ts';
import { laneFilter } from './subject.ts';

export interface LaneDependencies {
  readonly link: NatsLink;
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
  readonly random: () => number;
}

export interface LaneSettings {
  readonly consumer: string;
  readonly types: readonly string[];
  readonly lane: number;
  /** How long nothing may come before the lane asks why, in ms; 1,000 and up. */
  readonly watchMs: number;
  /** A partition fills the lane and is slow, while others have nothing to do: it should be read for by itself. */
  readonly onSlow: (partition: number) => void;
}

/** Why reading began again; `session` is a lost connection. */
export type RebuildReason = 'session' | 'failed' | 'stream_changed' | 'purged' | 'stalled';

export interface LaneCounts {
  rebuilt: Record<RebuildReason, number>;
  /** Events that came from the log because the stream had lost them. */
  fromLog: number;
  /** Events that the stream only refers to and that the log no longer has, without those of purged tenants. */
  lost: number;
}

class Rebuild extends Error {
  override readonly name = 'Rebuild';
  readonly reason: RebuildReason;

  constructor(reason: RebuildReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Events that wait in a lane's partitions; above it nothing more is asked for. */
const queueLimit = 2048;
/** The same for a partition that a lane is read for by itself. */
const queueLimitApart = 512;
/** So long may a full lane keep those of its partitions waiting that have nothing to do. */
const fullLimitMs = 500;
const fetchLimit = 512;
const logPage = 1000;
const roomCheckMs = 250;
const abandonedAfterMs = 60_000;
const nanosPerMs = 1_000_000;
/** So many readings in a row that failed at one place make a lane stuck; with the pauses that is a third of a second and up. */
const stuckAfter = 3;
const firstPauseMs = 100;
const longestPauseMs = 5000;

/** What is known of one reading of the stream. */
interface Reading {
  readonly session: NatsSession;
  readonly consumer: Consumer;
  readonly name: string;
  readonly created: string;
  readonly over: AbortSignal;
  /** Everything of the lane below this sequence was read. */
  nextSequence: number;
  /** Messages that came over this consumer. */
  received: number;
  isSuspect: boolean;
}

export class Lane {
  readonly lane: number;
  readonly #deps: LaneDependencies;
  readonly #settings: LaneSettings;
  readonly #families: ReadonlySet<string>;
  readonly #feeds: ReadonlyMap<number, PartitionFeed>;
  readonly #counts: LaneCounts;
  readonly #stopping = new AbortController();
  readonly #room = createBell();
  readonly #loop: Promise<void>;
  #seen: EventCursor;
  #pending: number | null = null;
  /** Readings in a row that failed and got no further than the one before, and where they stood. */
  #failures = 0;
  #failedAt: EventCursor | null = null;
  /** Since when the lane has been full, or three quarters of it after that; null where it isn't. Monotonic. */
  #fullSinceMs: number | null = null;

  /** Reads for these partitions until `stop`; begins at the earliest of them. */
  constructor(
    deps: LaneDependencies,
    settings: LaneSettings,
    feeds: readonly PartitionFeed[],
    counts: LaneCounts,
  ) {
    const [first, ...others] = feeds;
    if (first === undefined) throw new RangeError('a lane without partitions');
    this.#deps = deps;
    this.#settings = settings;
    this.lane = settings.lane;
    this.#families = new Set(settings.types.map(familyOf));
    this.#feeds = new Map(feeds.map((feed) => [feed.partition, feed]));
    this.#counts = counts;
    this.#seen = others.reduce((cursor, feed) => earlierOf(cursor, feed.taken), first.taken);
    this.#loop = this.#run();
  }

  /** Messages of the lane that the stream holds behind what was read, as of the last look; null before the first. */
  get pending(): number | null {
    return this.#pending;
  }

  /** Reading fails again and again at one place, though the connection is well. */
  get isStuck(): boolean {
    return this.#failures >= stuckAfter;
  }

  has(feeds: readonly PartitionFeed[]): boolean {
    return (
      feeds.length === this.#feeds.size && feeds.every((feed) => this.#feeds.get(feed.partition) === feed)
    );
  }

  reads(partition: number): boolean {
    return this.#feeds.has(partition);
  }

  /** A partition has become shorter. */
  makeRoom(): void {
    this.#room.ring();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = createBackoff(firstPauseMs, longestPauseMs, this.#deps.random);
    for (;;) {
      const session = await this.#deps.link.session(signal);
      if (session === null) return;
      const over = AbortSignal.any([signal, session.ended]);
      try {
        await this.#read(session, over, () => backoff.reset());
      } catch (error) {
        this.#noteEnd(error, session);
        if (!over.aborted) await session.doubt();
      }
      await pause(backoff.next(), signal);
    }
  }

  #noteEnd(error: unknown, session: NatsSession): void {
    if (this.#stopping.signal.aborted) return;
    const reason = session.ended.aborted ? 'session' : error instanceof Rebuild ? error.reason : 'failed';
    this.#counts.rebuilt[reason] += 1;
    if (reason === 'session') return;
    const { consumer, lane } = this.#settings;
    const told = { err: error, consumer, lane, reason };
    this.#deps.logger.warn(told, 'reading the stream begins anew behind what was read');
    const isSamePlace = this.#failedAt !== null && compareCursors(this.#failedAt, this.#seen) === 0;
    if (!isSamePlace) this.#noteProgress();
    this.#failedAt = this.#seen;
    this.#failures += 1;
    if (this.#failures === stuckAfter)
      this.#deps.logger.error(told, 'reading the stream fails again and again at one place');
  }

  /** Reading got further, or to the end. */
  #noteProgress(): void {
    const wasStuck = this.isStuck;
    this.#failures = 0;
    this.#failedAt = null;
    const { consumer, lane } = this.#settings;
    if (wasStuck) this.#deps.logger.info({ consumer, lane }, 'reading the stream goes on');
  }

  async #read(session: NatsSession, over: AbortSignal, started: () => void): Promise<void> {
    const reading = await this.#open(session, over);
    try {
      while (!over.aborted) {
        const room = this.#lookForRoom();
        if (room <= 0) {
          await this.#room.wait(roomCheckMs, over);
          continue;
        }
        const received = await this.#fetch(reading, Math.min(room, fetchLimit));
        if (received > 0) {
          reading.isSuspect = false;
          this.#noteProgress();
          started();
        } else if (!over.aborted) {
          await this.#watch(reading);
          if (!reading.isSuspect) this.#noteProgress();
          started();
        }
      }
    } finally {
      const { stream } = this.#deps.link.settings;
      // The server forgets an abandoned one by itself.
      if (!session.ended.aborted)
        await session.jsm.consumers.delete(stream, reading.name).catch(() => undefined);
    }
  }

  async #open(session: NatsSession, over: AbortSignal): Promise<Reading> {
    const { jsm, js } = session;
    const { stream, subject } = this.#deps.link.settings;
    await this.#closeHole(session, over);
    const { state, created } = await jsm.streams.info(stream);
    const start = await sequenceBehind(jsm, stream, state, this.#seen);
    const { name, num_pending } = await jsm.consumers.add(stream, {
      filter_subject: laneFilter(subject, this.#settings.lane),
      deliver_policy: DeliverPolicy.StartSequence,
      opt_start_seq: start,
      ack_policy: AckPolicy.None,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: abandonedAfterMs * nanosPerMs,
    });
    // Known from here on, so that a lane that fails at its first message shows what waits behind it.
    this.#pending = num_pending;
    const consumer = await js.consumers.get(stream, name);
    return { session, consumer, name, created, over, nextSequence: start, received: 0, isSuspect: false };
  }

  /** Reads from the log what lies between `seen` and the first message that the stream still has. */
  async #closeHole(session: NatsSession, over: AbortSignal): Promise<void> {
    const first = await firstPlace(session.jsm, this.#deps.link.settings.stream);
    await this.#readLog(first?.cursor ?? null, over);
  }

  /** Takes what comes until the time is over or the batch is full; answers how many messages that were. */
  async #fetch(reading: Reading, limit: number): Promise<number> {
    const { over } = reading;
    const { watchMs } = this.#settings;
    const messages: ConsumerMessages = await reading.consumer.fetch({
      max_messages: limit,
      expires: watchMs,
      idle_heartbeat: Math.max(500, Math.floor(watchMs / 3)),
      bind: true,
    });
    const end = (): void => messages.stop();
    over.addEventListener('abort', end, { once: true });
    let last: JsMsg | null = null;
    let received = 0;
    try {
      for await (const message of messages) {
        if (over.aborted) break;
        await this.#take(reading, message);
        last = message;
        received += 1;
      }
    } finally {
      over.removeEventListener('abort', end);
      messages.stop();
    }
    if (last !== null) this.#pending = last.info.pending;
    return received;
  }

  async #take(reading: Reading, message: JsMsg): Promise<void> {
    const read = readMessage({ headers: message.headers, data: message.data });
    reading.nextSequence = Math.max(reading.nextSequence, message.seq + 1);
    reading.received += 1;
    if (read === null) {
      this.#deps.logger.warn(
        { subject: message.subject, sequence: message.seq },
        'a message of somebody else was passed over',
      );
      return;
    }
    if (!isAfter(read.cursor, this.#seen)) return;
    if (isAfter(read.previous, this.#seen)) await this.#readLog(read.cursor, reading.over);
    if (reading.over.aborted) return;
    await this.#offer(read);
    this.#seen = read.cursor;
  }

  async #offer(read: LaneMessage): Promise<void> {
    const feed = this.#feeds.get(read.partition);
    if (feed === undefined || !this.#families.has(familyOf(read.type))) return;
    const event = (read.hasBody ? read.open() : null) ?? (await this.#fetchFromLog(read));
    if (event === 'unreadable')
      throw new Error('the log has an event of the stream and does not give it yet');
    if (typeof event !== 'string') {
      feed.offer(event);
      return;
    }
    this.#noteAbsence(read, event);
    // All that came before it in the lane was offered: the place moves past what will never come.
    feed.passOver(read.cursor);
  }

  /** An event whose data is too large for a message, or why the log doesn't have it. Rejects where that can't be asked. */
  async #fetchFromLog(read: LaneMessage): Promise<LoggedEvent | Absence> {
    const { cursor } = read;
    const before = { xid: cursor.xid, seq: String(BigInt(cursor.seq) - 1n) };
    return this.#deps.db.withSystem('relay', async (tx) => {
      const [event] = await readEvents(tx, before, 1);
      const isIt = event !== undefined && compareCursors(event.cursor, cursor) === 0;
      return isIt ? event : readAbsence(tx, read);
    });
  }

  #noteAbsence(read: LaneMessage, absence: 'purged' | 'lost'): void {
    const { consumer, lane } = this.#settings;
    const { partition, type, eventId } = read;
    const tenant_id = toTypeId('ten', read.tenantId);
    const told = { consumer, lane, partition, type, event_id: eventId, tenant_id };
    if (absence === 'purged') {
      this.#deps.logger.debug(told, 'an event of a purged tenant was passed over');
      return;
    }
    this.#counts.lost += 1;
    this.#deps.logger.error(
      told,
      'an event is lost to a consumer: the stream only refers to it, and the log no longer has it',
    );
  }

  /** Reads the log behind `seen` up to `until`, that excluded, or to its end where that is null. */
  async #readLog(until: EventCursor | null, over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      if (until !== null && !isAfter(until, this.#seen)) return;
      if (this.#lookForRoom() <= 0) {
        await this.#room.wait(roomCheckMs, over);
        continue;
      }
      const after = this.#seen;
      const page = await this.#deps.db.withSystem('relay', (tx) => readEvents(tx, after, logPage));
      for (const event of page) {
        if (until !== null && !isAfter(until, event.cursor)) return;
        this.#offerFromLog(event);
      }
      if (page.length === 0) return;
    }
  }

  #offerFromLog(event: LoggedEvent): void {
    const partition = partitionOf(event.tenantId, event.key);
    const feed = this.#feeds.get(partition);
    if (feed !== undefined && this.#families.has(familyOf(event.type))) {
      feed.offer(event);
      this.#counts.fromLog += 1;
    }
    this.#seen = event.cursor;
  }

  #queued(): number {
    let sum = 0;
    for (const feed of this.#feeds.values()) sum += feed.queued;
    return sum;
  }

  /**
   * How many events there is room for. A lane that stays full while a partition of it has nothing to do is full of
   * another's that hangs or is slow: that one is told of. A backlog alone leaves none idle.
   */
  #lookForRoom(): number {
    const limit = this.#feeds.size === 1 ? queueLimitApart : queueLimit;
    const room = limit - this.#queued();
    const nowMs = performance.now();
    if (room <= 0) this.#fullSinceMs ??= nowMs;
    else if (room > limit / 4) this.#fullSinceMs = null;
    const isStuck = this.#fullSinceMs !== null && nowMs - this.#fullSinceMs > fullLimitMs;
    if (!isStuck || ![...this.#feeds.values()].some((feed) => feed.isIdle)) return room;
    const [slowest] = [...this.#feeds.values()].toSorted((left, right) => right.queued - left.queued);
    this.#fullSinceMs = null;
    if (slowest !== undefined) this.#settings.onSlow(slowest.partition);
    return room;
  }

  /** Whether it is right that nothing comes. Ends the reading where it isn't. */
  async #watch(reading: Reading): Promise<void> {
    const { jsm } = reading.session;
    const { stream } = this.#deps.link.settings;
    const { state, created } = await jsm.streams.info(stream);
    if (created !== reading.created || state.last_seq + 1 < reading.nextSequence) {
      throw new Rebuild('stream_changed', 'the stream was made anew');
    }
    const first = state.messages > 0 ? state.first_seq : state.last_seq + 1;
    if (first > reading.nextSequence)
      throw new Rebuild('purged', 'the stream has lost what was not read yet');
    const info = await jsm.consumers.info(stream, reading.name);
    this.#pending = info.num_pending;
    // By its own count: the stream's sequence, which idle consumers are told as well, counts what belongs to other lanes.
    const isBehind = info.num_pending > 0 || info.delivered.consumer_seq > reading.received;
    if (isBehind && reading.isSuspect) throw new Rebuild('stalled', 'the stream has messages and sends none');
    reading.isSuspect = isBehind;
    if (isBehind || (state.num_deleted ?? 0) > 0) return;
    await this.#skipOthers(reading, state.last_seq);
  }

  /** The lane was read to the end of the stream: its place is where the whole stream is, so that no restart looks back. */
  async #skipOthers(reading: Reading, lastSequence: number): Promise<void> {
    if (reading.nextSequence === lastSequence + 1) return;
    const last = await placeAt(reading.session.jsm, this.#deps.link.settings.stream, lastSequence);
    if (last === null || last.cursor === null || !isAfter(last.cursor, this.#seen)) return;
    this.#seen = last.cursor;
    reading.nextSequence = lastSequence + 1;
  }

  /** Tells the partitions that nothing up to `seen` is still to come for them. */
  settle(): void {
    for (const feed of this.#feeds.values()) feed.passOver(this.#seen);
  }
}
