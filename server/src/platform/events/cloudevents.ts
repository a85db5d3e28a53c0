import { eventDeclaration, isEventType } from '@stoa/contracts';
import { toTypeId } from '#kernel';
import type { CarriedEvent } from './types.ts';

/**
 * CloudEvents 1.0 over HTTP, for consumers outside of Stoa: the structured form (one JSON object) and the binary form
 * (attributes as `ce-` headers, the data as the body), by the JSON format and the HTTP binding, version 1.0.2.
 *
 * Ids among the attributes are TypeIDs: `id` and `causationid` are `evt_...`, `tenantid` is `ten_...`. The data is what
 * the log holds, ids as UUIDs. `source` is the module that tells (`/gateway`). `keyversion` is a string of digits, since
 * an integer of CloudEvents has 32 bits. Both forms keep the data byte for byte.
 */
export interface CloudEventMessage {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const structuredType = 'application/cloudevents+json';
const jsonType = 'application/json';

type Attributes = Readonly<Record<string, string>>;

function attributesOf(event: CarriedEvent): Attributes {
  const { type, causation, traceparent } = event;
  const toldBy = isEventType(type) ? eventDeclaration(type).toldBy[0] : 'stoa';
  return {
    specversion: '1.0',
    id: toTypeId('evt', event.eventId),
    source: `/${toldBy}`,
    type,
    time: event.occurredAt.toISOString(),
    tenantid: toTypeId('ten', event.tenantId),
    partitionkey: event.key,
    keyversion: String(event.keyversion),
    ...(causation === null ? {} : { causationid: toTypeId('evt', causation) }),
    ...(traceparent === null ? {} : { traceparent }),
  };
}

/** The event as one JSON object. */
export function structuredCloudEvent(event: CarriedEvent): CloudEventMessage {
  const attributes = JSON.stringify({ ...attributesOf(event), datacontenttype: jsonType });
  return {
    headers: { 'content-type': `${structuredType}; charset=utf-8` },
    body: `${attributes.slice(0, -1)},"data":${event.data}}`,
  };
}

/** The event with its attributes in headers; the body is the data, byte for byte. */
export function binaryCloudEvent(event: CarriedEvent): CloudEventMessage {
  const headers: Record<string, string> = { 'content-type': jsonType };
  for (const [name, value] of Object.entries(attributesOf(event)))
    headers[`ce-${name}`] = encodeHeader(value);
  return { headers, body: event.data };
}

/** Printable ASCII but space, quote and percent stands as it is, all else percent-encoded as UTF-8. */
function encodeHeader(value: string): string {
  // encodeURIComponent leaves no byte outside of ASCII and touches more than it must, which decodes to the same.
  return value.replace(/[^\x21\x23\x24\x26-\x7e]+/gu, encodeURIComponent);
}
