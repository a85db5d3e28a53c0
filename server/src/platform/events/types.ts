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
export interface NewEvent {
  readonly tenantId: string;
  readonly eventId: string;
  readonly type: string;
  readonly key: string;
  readonly keyversion: bigint;
  readonly occurredAt: Date;
  readonly causation?: string;
  readonly traceparent?: string;
  /** JSON text. */
  readonly data: string;
}
