/**
 * The relay copies the log to the stream, in the order of the log's cursor. One process at a time does it, under a
 * lease; the others wait for the lease to end.
 *
 * The stream itself is the truth about what was copied: each publish says which sequence the stream must be at (the
 * chain), so the server takes events in our order or not at all. One that is lost on the way makes it refuse all that
 * were sent behind it; a relay that slept through the end of its lease and wakes up is refused as soon as the new one
 * has published anything, and what it got in before stands in the right order. After any failure the relay reads the
 * last message of the stream and goes on behind it. So the stream is always sorted by cursor and holds each event once.
 *
 * The stored place says how far copying was known to be; every write of it checks the lease's fence. It is needed only
 * where the stream is empty: then the relay begins anew at the earliest place of any consumer, or at its own if that is
 * earlier. What a stream has lost otherwise (purged, discarded by its limits) the readers fetch from the log
 * (`stoa-prev` in message.ts).
 *
 *   waiting for NATS -> waiting for the lease -> found the stream's end -> copying -> (failure) pause -> waiting ...
 */

import type { PubAck } from '@nats-io/jetstream';
import type { Database } from '#db';
import type { Clock, Lifecycle, Logger } from '#kernel';
import { logStart, readEvents } from '../event-log.sql.ts';
import { partitionOf } from '../partition.ts';
import type { EventCursor, LoggedEvent } from '../types.ts';
import { compareCursors, earlierOf } from './cursor.ts';
import type { NatsLink, NatsSession } from './link.ts';
import { encodeEvent } from './message.ts';
import { type Backoff, type Bell, createBackoff, createBell, pause } from './pause.ts';
import { claimRelayPlace, earliestPlace, moveRelayPlace, type RelayLag, readRelayLag } from './relay.sql.ts';
import { lastOfLane, type StreamPlace, streamEnd } from './stream.ts';
import { laneCount, laneOf, subjectOf } from './subject.ts';

/** Leases as platform/jobs gives them; times are the database's. */
export interface LeasePort {
  /** Takes or renews; null where somebody else holds it. `fence` grows with every new holder. */
  take(name: string, holder: string, durationMs: number): Promise<{ readonly fence: bigint } | null>;
  giveBack(name: string, holder: string): Promise<void>;
}

export interface RelayDependencies {
  readonly link: NatsLink;
  readonly db: Pick<Database, 'withSystem'>;
  readonly leases: LeasePort;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Names this process in the lease: a UUID. */
  readonly holder: string;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface RelaySettings {
  /** After this time without renewal another process takes over; default 15,000 ms. */
  readonly leaseMs?: number;
  /** How often the log is looked at where no wake-up comes; default 250 ms. */
  readonly pollMs?: number;
  /** Events read at once, and published without waiting for their acknowledgements; default 1,000. */
  readonly batch?: number;
}

export interface RelayState {
  readonly isLeading: boolean;
  /** Since the process started. */
  readonly relayed: number;
  /** Times that publishing stopped and began again behind the stream's last message. */
  readonly restarts: number;
  /** Where this process leads, as of some seconds ago; else null. */
  readonly lag: RelayLag | null;
}

export interface Relay extends Lifecycle {
  /** A hint that something was committed. */
  wake(): void;
  state(): RelayState;
  /** False while this process should relay and fails again and again. */
  isHealthy(): boolean;
}

class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

const placeEveryMs = 200;
const lagEveryMs = 5000;
/** More than this many events behind are shown as this many. */
const lagLimit = 100_000;
const shortestIdleMs = 5;
const firstPauseMs = 100;
const longestPauseMs = 5000;
/** So many failures in a row are no longer a hiccup. */
const failuresOfHealth = 3;

interface Pending {
  readonly event: LoggedEvent;
  readonly sequence: number;
  readonly ack: Promise<PubAck>;
}

/** What is known while one lease and one session last. */
interface Term {
  readonly session: NatsSession;
  readonly fence: bigint;
  /** Aborts when the session ends or the relay stops. */
  readonly over: AbortSignal;
  readonly previous: EventCursor[];
  /** Put behind each message id where the stream was emptied and may still remember the ids of what it lost. */
  readonly idSuffix: string;
  place: EventCursor;
  sequence: number;
  renewAtMs: number;
  storedPlace: EventCursor;
  placeAtMs: number;
  lagAtMs: number;
}

class StreamRelay implements Relay {
  readonly #deps: RelayDependencies;
  readonly #settings: Required<RelaySettings>;
  readonly #stopping = new AbortController();
  readonly #bell: Bell = createBell();
  readonly #backoff: Backoff;
  #loop: Promise<void> = Promise.resolve();
  #isLeading = false;
  #relayed = 0;
  #restarts = 0;
  #failures = 0;
  #lag: RelayLag | null = null;

  constructor(deps: RelayDependencies, settings: RelaySettings) {
    this.#deps = deps;
    this.#settings = { leaseMs: 15_000, pollMs: 250, batch: 1000, ...settings };
    this.#backoff = createBackoff(firstPauseMs, longestPauseMs, deps.random ?? Math.random);
  }

  get #name(): string {
    return `event-relay:${this.#deps.link.settings.stream}`;
  }

  wake(): void {
    this.#bell.ring();
  }

  state(): RelayState {
    return {
      isLeading: this.#isLeading,
      relayed: this.#relayed,
      restarts: this.#restarts,
      lag: this.#lag,
    };
  }

  isHealthy(): boolean {
    return this.#failures < failuresOfHealth;
  }

  async start(): Promise<void> {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the relay is stopping'));
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      const session = await this.#deps.link.session(signal);
      if (session === null) return;
      const waitMs = await this.#serve(session);
      await pause(waitMs, signal);
    }
  }

  /** One try to lead; answers how long to wait before the next. */
  async #serve(session: NatsSession): Promise<number> {
    const { leases, holder, logger, clock } = this.#deps;
    const { leaseMs } = this.#settings;
    const askedAtMs = clock.monotonic();
    let isHeld = false;
    try {
      const lease = await leases.take(this.#name, holder, leaseMs);
      if (lease === null) {
        // Another process relays, so what this one could not do is no trouble any more.
        this.#failures = 0;
        return leaseMs / 5;
      }
      isHeld = true;
      const over = AbortSignal.any([session.ended, this.#stopping.signal]);
      await this.#lead(await this.#begin(session, lease.fence, over, askedAtMs + leaseMs / 3));
    } catch (error) {
      if (error instanceof LeaseLost) {
        isHeld = false;
        this.#failures = 0;
        logger.warn({}, 'another process relays events now');
      } else if (!session.ended.aborted) {
        logger.warn(
          { err: error },
          'relaying was interrupted; it goes on behind the last message of the stream',
        );
        this.#failures += 1;
        await session.doubt();
      }
    } finally {
      if (this.#isLeading && !this.#stopping.signal.aborted) this.#restarts += 1;
      this.#isLeading = false;
      this.#lag = null;
    }
    // Another process may reach NATS, or the database, where this one does not.
    if (isHeld) await leases.giveBack(this.#name, holder).catch(() => undefined);
    return this.#backoff.next();
  }

  /** Finds the end of the stream and where the log goes on behind it. */
  async #begin(session: NatsSession, fence: bigint, over: AbortSignal, renewAtMs: number): Promise<Term> {
    const { db, link, clock } = this.#deps;
    const stored = await db.withSystem('relay', (tx) => claimRelayPlace(tx, link.settings.stream, fence));
    if (stored === null) throw new LeaseLost('a later relay has claimed the place');
    const end = await streamEnd(session.jsm, link.settings.stream);
    const place = end.cursor ?? (await this.#beginningAnew(stored));
    const isWhole = end.cursor !== null && !end.hasHoles;
    const last = await Promise.all(
      Array.from({ length: laneCount }, (_, lane): Promise<StreamPlace | null> => {
        return isWhole ? lastOfLane(session.jsm, link.settings, lane) : Promise.resolve(null);
      }),
    );
    return {
      session,
      fence,
      over,
      previous: last.map((found) => found?.cursor ?? place),
      idSuffix: end.hasHoles && end.sequence > 0 ? `~${end.sequence}` : '',
      place,
      sequence: end.sequence,
      renewAtMs,
      storedPlace: stored,
      placeAtMs: clock.monotonic(),
      lagAtMs: 0,
    };
  }

  /** Where an empty stream begins: so that no consumer has to go to the log for what it has not read yet. */
  async #beginningAnew(stored: EventCursor): Promise<EventCursor> {
    const earliest = await this.#deps.db.withSystem('relay', earliestPlace);
    if (earliest === null) return stored;
    const isFirst = compareCursors(stored, logStart) === 0;
    return isFirst ? earliest : earlierOf(earliest, stored);
  }

  /** Copies until the session ends, the lease is lost or something fails. */
  async #lead(term: Term): Promise<void> {
    this.#isLeading = true;
    let idleMs = shortestIdleMs;
    let events = await this.#read(term.place);
    while (!term.over.aborted) {
      await this.#renew(term);
      if (events.length === 0) {
        this.#failures = 0;
        await this.#storePlace(term);
        await this.#measureLag(term);
        idleMs = (await this.#bell.wait(idleMs, term.over))
          ? shortestIdleMs
          : Math.min(idleMs * 2, this.#settings.pollMs);
        events = await this.#read(term.place);
        continue;
      }
      idleMs = shortestIdleMs;
      const next = this.#read(events.at(-1)?.cursor ?? logStart);
      next.catch(() => undefined); // awaited below, unless publishing fails first
      await this.#publish(term, events);
      if (this.#deps.clock.monotonic() - term.placeAtMs >= placeEveryMs) await this.#storePlace(term);
      await this.#measureLag(term);
      events = await next;
    }
    await this.#storePlace(term);
  }

  #read(after: EventCursor): Promise<readonly LoggedEvent[]> {
    return this.#deps.db.withSystem('relay', (tx) => readEvents(tx, after, this.#settings.batch));
  }

  /** Sends all, then waits for the acknowledgements in their order. The place is behind the last that was given. */
  async #publish(term: Term, events: readonly LoggedEvent[]): Promise<void> {
    const pending = events.map((event, index) => this.#send(term, event, term.sequence + index));
    for (const { event, sequence, ack } of pending) {
      const { seq } = await ack;
      if (seq !== sequence)
        throw new Error(`an event was to be message ${sequence} of the stream, and is ${seq}`);
      term.sequence = sequence;
      term.place = event.cursor;
      this.#relayed += 1;
    }
    this.#failures = 0;
    this.#backoff.reset();
  }

  #send(term: Term, event: LoggedEvent, lastSequence: number): Pending {
    const { session, previous } = term;
    const partition = partitionOf(event.tenantId, event.key);
    const lane = laneOf(partition);
    const { headers, data } = encodeEvent(event, previous[lane] ?? logStart, session.maxPayload);
    previous[lane] = event.cursor;
    const subject = subjectOf(this.#deps.link.settings.subject, partition, event.type);
    const ack = session.js.publish(subject, data, {
      msgID: event.eventId + term.idSuffix,
      headers,
      expect: { lastSequence },
      retries: 0,
    });
    ack.catch(() => undefined); // awaited in its turn, unless an earlier one fails
    return { event, sequence: lastSequence + 1, ack };
  }

  async #renew(term: Term): Promise<void> {
    const { clock, leases, holder } = this.#deps;
    const nowMs = clock.monotonic();
    if (nowMs < term.renewAtMs) return;
    const { leaseMs } = this.#settings;
    const lease = await leases.take(this.#name, holder, leaseMs);
    if (lease?.fence !== term.fence) throw new LeaseLost('the lease ended before it was renewed');
    term.renewAtMs = nowMs + leaseMs / 3;
  }

  async #storePlace(term: Term): Promise<void> {
    const { place } = term;
    term.placeAtMs = this.#deps.clock.monotonic();
    if (place.xid === term.storedPlace.xid && place.seq === term.storedPlace.seq) return;
    const { db, link } = this.#deps;
    const isMine = await db.withSystem('relay', (tx) =>
      moveRelayPlace(tx, link.settings.stream, term.fence, place),
    );
    if (!isMine) throw new LeaseLost('a later relay has claimed the place');
    term.storedPlace = place;
  }

  async #measureLag(term: Term): Promise<void> {
    const nowMs = this.#deps.clock.monotonic();
    if (this.#lag !== null && nowMs - term.lagAtMs < lagEveryMs) return;
    term.lagAtMs = nowMs;
    this.#lag = await this.#deps.db.withSystem('relay', (tx) => readRelayLag(tx, term.place, lagLimit));
  }
}

/**
 * The relay of this process: it copies while it holds the lease. `start` waits for nothing; `stop` ends the batch at
 * hand (5 s at the most, where NATS is silent), stores the place and gives the lease back.
 */
export function createRelay(deps: RelayDependencies, settings: RelaySettings = {}): Relay {
  return new StreamRelay(deps, settings);
}
