/**
 * One event as one message: the binary form of CloudEvents 1.0 (`cloudevents.ts`), with headers of our own:
 *
 *   stoa-cursor  where the event lies in the log, `<xid>.<seq>`
 *   stoa-prev    a place in the log behind which nothing of the same lane comes before this event. A reader that has
 *                seen the lane up to there knows that nothing is missing in between; any other reads the log first.
 *   stoa-body    `log`, where the data is larger than the server takes: the reader fetches it from the log.
 */

import { type MsgHdrs, headers } from '@nats-io/nats-core';
import { fromTypeId } from '#kernel';
import { binaryCloudEvent } from '../cloudevents.ts';
import { partitionOf } from '../partition.ts';
import type { EventCursor, LoggedEvent } from '../types.ts';
import { readCursor, writeCursor } from './cursor.ts';

/** A message as it was read, before anybody looks at its data. */
export interface LaneMessage {
  readonly tenantId: string;
  /** As the header has it, a TypeID; for logs. */
  readonly eventId: string;
  readonly partition: number;
  readonly cursor: EventCursor;
  readonly previous: EventCursor;
  readonly type: string;
  /** False where the data has to be read from the log. */
  readonly hasBody: boolean;
  /** Decodes the rest; null where the message is none of ours after all. */
  readonly open: () => LoggedEvent | null;
}

/** What a server counts into the size of a message beside its data: headers and subject, with room to spare. */
const headerAllowance = 8192;

function fitsInto(maxPayload: number, event: LoggedEvent): boolean {
  const length = Buffer.byteLength(event.data) + 3 * (event.key.length + event.type.length);
  return length + headerAllowance <= maxPayload;
}

export interface EncodedEvent {
  readonly headers: MsgHdrs;
  readonly data: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const empty = new Uint8Array(0);

export function encodeEvent(event: LoggedEvent, previous: EventCursor, maxPayload: number): EncodedEvent {
  const fields = headers();
  const { headers: attributes } = binaryCloudEvent(event);
  for (const [name, value] of Object.entries(attributes)) fields.append(name, value);
  fields.append('stoa-cursor', writeCursor(event.cursor));
  fields.append('stoa-prev', writeCursor(previous));
  if (fitsInto(maxPayload, event)) return { headers: fields, data: encoder.encode(event.data) };
  fields.append('stoa-body', 'log');
  return { headers: fields, data: empty };
}

function decodeText(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** Reads what routing needs; null for a message that the relay didn't write. */
export function readMessage(message: {
  readonly headers?: MsgHdrs | undefined;
  readonly data: Uint8Array;
}): LaneMessage | null {
  const fields = message.headers;
  const cursor = readCursor(fields?.get('stoa-cursor') ?? '');
  const previous = readCursor(fields?.get('stoa-prev') ?? '');
  if (fields === undefined || cursor === null || previous === null) return null;
  const tenantId = fromTypeId('ten', fields.get('ce-tenantid'));
  const key = decodeText(fields.get('ce-partitionkey'));
  const type = decodeText(fields.get('ce-type'));
  if (key === null || type === null || type === '' || tenantId === null) return null;
  return {
    tenantId,
    eventId: fields.get('ce-id'),
    partition: partitionOf(tenantId, key),
    cursor,
    previous,
    type,
    hasBody: fields.get('stoa-body') !== 'log',
    open: () => openMessage(fields, message.data, { tenantId, key, type, cursor }),
  };
}

type Known = Pick<LoggedEvent, 'tenantId' | 'key' | 'type' | 'cursor'>;

function openMessage(fields: MsgHdrs, data: Uint8Array, known: Known): LoggedEvent | null {
  const eventId = fromTypeId('evt', fields.get('ce-id'));
  const occurredAt = new Date(fields.get('ce-time'));
  const keyversion = fields.get('ce-keyversion');
  if (eventId === null || Number.isNaN(occurredAt.getTime()) || !/^\d{1,19}$/.test(keyversion)) return null;
  return {
    ...known,
    eventId,
    keyversion: BigInt(keyversion),
    occurredAt,
    causation: fromTypeId('evt', fields.get('ce-causationid')),
    traceparent: decodeText(fields.get('ce-traceparent')) || null,
    data: decoder.decode(data),
  };
}
