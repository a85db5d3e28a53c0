import type { EventData, EventType } from '@stoa/contracts';
import type { SystemHandle, SystemJob, TenantHandle } from '#db';

/** A fact, past tense, as the log holds it; the fields are those of CloudEvents 1.0. */
export interface LoggedEvent {
  readonly tenantId: string;
  readonly eventId: string;
  /** With its version: `request.completed.v1`. */
  readonly type: string;
  /** What the fact is about; events of one key are delivered in the order of `keyversion`. */
  readonly key: string;
  /** 1, 2, 3 within (tenant, type, key). */
  readonly keyversion: bigint;
  readonly occurredAt: Date;
  readonly causation: string | null;
  readonly traceparent: string | null;
  /** JSON, byte for byte as it was written. */
  readonly data: string;
  /** The position behind this event. */
  readonly cursor: EventCursor;
}

/** A position in the log: every event at or before it was seen. Both are decimal digits of 64-bit numbers. */
export interface EventCursor {
  readonly xid: string;
  readonly seq: string;
}

/** An event to be written. */
export type NewEvent = TypedEvent | EncodedEvent;

interface EventToWrite {
  readonly tenantId: string;
  readonly eventId: string;
  readonly keyversion: bigint;
  readonly occurredAt: Date;
  readonly causation?: string;
  readonly traceparent?: string;
}

/** One of the table in contracts: checked against its schema when it is written, and its key taken from the data. */
export type TypedEvent = {
  readonly [Type in EventType]: EventToWrite & { readonly type: Type; readonly data: EventData<Type> };
}[EventType];

/** An event whose writer vouches for its data, key and type: what was checked and encoded before is not parsed again. */
export interface EncodedEvent extends EventToWrite {
  readonly type: string;
  readonly key: string;
  /** JSON text. */
  readonly data: string;
}

/** An event without its place in the log, as it travels to consumers elsewhere. */
export type CarriedEvent = Omit<LoggedEvent, 'cursor'>;

/**
 * Who wants to know. Bound in a module's consumers.ts; the name is lasting, since the inbox, the place in the log and the
 * dead letters go by it. Handlers are quick (a deadline of a second): slow work is a job.
 */
export type EventConsumer = TenantConsumer | SystemConsumer;

interface ConsumerBasics {
  /** Module and purpose: `billing.usage`. */
  readonly name: string;
  /** With their versions: `request.completed.v1`. */
  readonly types: readonly string[];
  /**
   * True where having an event's effect again is right and wanted: the effect replaces what it made before, or is
   * counted by the event's id. Only such a consumer can be given a tenant's past once more. Default false.
   */
  readonly isReplayable?: boolean;
  /**
   * Asked first, of events that are told once for their key (`request.completed.v1`), of which there may be very many:
   * what it leaves out is passed over before it is read or written down. The events are committed, so a reading that
   * begins now sees what was there when they happened. Answers some of the very objects that it was given. Where it rejects, all are
   * wanted. Default: everything is wanted.
   */
  pickWanted?(events: readonly LoggedEvent[]): Promise<readonly LoggedEvent[]>;
}

/** One transaction of the event's tenant for each event. */
export interface TenantConsumer extends ConsumerBasics {
  readonly door: 'tenant';
  /** The effect. It writes through `tx` alone: there the inbox makes sure that it happens once. */
  handle(tx: TenantHandle, event: LoggedEvent, signal: AbortSignal): Promise<void>;
}

/** One system transaction for a batch over many tenants. */
export interface SystemConsumer extends ConsumerBasics {
  readonly door: { readonly system: SystemJob };
  /** The effect of all of them; where it throws, none has happened, and the batch is halved until the culprit is found. */
  handle(tx: SystemHandle, events: readonly LoggedEvent[], signal: AbortSignal): Promise<void>;
}

/**
 * How events reach consumers: the log itself, or NATS JetStream behind a relay. At least once; within a partition in the
 * order of the log. What a consumer needs beyond that (once, in order per key, retries, dead letters) is the dispatcher's.
 */
export interface EventCarrier {
  /**
   * Begins to feed a consumer from its stored place on. One consumer's partitions are shared by all processes that feed
   * it: each partition is fed by one process at a time.
   */
  subscribe(subscription: CarrierSubscription): Promise<RunningSubscription>;
  /** A hint that something was committed; coalesced, may be lost without harm. */
  wake(): void;
}

export interface CarrierSubscription {
  readonly consumer: string;
  /**
   * The types that the consumer knows. A carrier brings every version of their families (`familyOf`): one that the
   * consumer doesn't know belongs into the dead letters, not past it.
   */
  readonly types: readonly string[];
  /** Partitions that are delivered at the same time; default what the carrier is set to, 8. */
  readonly sideBySide?: number;
  /**
   * Takes the next events of one partition. Resolves with how many of them, from the first on, are dealt with: each has
   * had its effect or lies in the delivery store, and the place moves on behind it. The others, where they would take too
   * long for one delivery, come again at once, in the partition's next turn. Where it rejects (the database is away), the
   * same events come again after a pause.
   * @param mayHaveKilled true from the time on when a process that fed the partition has vanished without giving it back,
   *   until a delivery has resolved: one of the events that come now may be what it died of. Default false
   */
  deliver(partition: number, events: readonly LoggedEvent[], mayHaveKilled?: boolean): Promise<number>;
}

export interface RunningSubscription {
  /** Events behind the place, as of the last look; null where it is not known. */
  readonly lag: number | null;
  /** Finishes what is being delivered and lets go of the partitions. */
  stop(): Promise<void>;
}
