import { eventDeclaration, isEventType } from '@stoa/contracts';
import { z } from 'zod';
import { AppError, fromTypeId, type IdPrefix, parseJsonBody, toTypeId } from '#kernel';
import type { CarriedEvent } from './types.ts';

/**
 * CloudEvents 1.0 over HTTP, for consumers outside of Stoa: the structured form (one JSON object) and the binary form
 * (attributes as `ce-` headers, the data as the body), by the JSON format and the HTTP binding, version 1.0.2.
 *
 * Ids among the attributes are TypeIDs: `id` and `causationid` are `evt_...`, `tenantid` is `ten_...`. The data is what
 * the log holds, ids as UUIDs. `source` is the module that tells (`/gateway`). `keyversion` is a string of digits, since
 * an integer of CloudEvents has 32 bits. The binary form keeps the data byte for byte, the structured form its value.
 */
export interface CloudEventMessage {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Headers as Node has them. */
export type HeadersIn = Readonly<Record<string, string | readonly string[] | undefined>>;

const structuredType = 'application/cloudevents+json';
const jsonType = 'application/json';
const largestKeyversion = 2n ** 63n - 1n;

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

/**
 * Reads either form, told by the content type. Errors: `invalid_event` with the attribute or header at fault as `param`;
 * `invalid_encoding`, `invalid_json` and `json_too_deep` for the body. Attributes that are not ours are passed over.
 */
export function parseCloudEvent(headers: HeadersIn, body: Buffer): CarriedEvent {
  const type = mediaTypeOf(headers);
  if (type === structuredType) return parseStructuredCloudEvent(body);
  if (type.startsWith('application/cloudevents')) {
    throw invalid('content-type', `${type} is not taken, only ${structuredType} and the binary form`);
  }
  return parseBinaryCloudEvent(headers, body);
}

/** The inverse of `structuredCloudEvent`, but for the spelling of the data's JSON. Errors as of `parseCloudEvent`. */
export function parseStructuredCloudEvent(body: Buffer): CarriedEvent {
  const value = parseJsonBody(body);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError('invalid_event', 'An event in the structured form is one JSON object.');
  }
  const members = new Map(Object.entries<unknown>({ ...value }));
  const contentType = members.get('datacontenttype');
  if (contentType !== undefined && contentType !== jsonType)
    throw invalid('datacontenttype', `must be ${jsonType}`);
  if (members.has('data_base64')) throw invalid('data_base64', 'the data is JSON and stands in `data`');
  if (!members.has('data')) throw invalid('data', 'is missing');
  const attributes = Object.fromEntries(attributeNames.map((name) => [name, members.get(name)]));
  return eventOf(attributes, '', JSON.stringify(members.get('data')));
}

/** The inverse of `binaryCloudEvent`. Errors as of `parseCloudEvent`. */
export function parseBinaryCloudEvent(headers: HeadersIn, body: Buffer): CarriedEvent {
  if (mediaTypeOf(headers) !== jsonType) throw invalid('content-type', `must be ${jsonType}`);
  const found = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const attributes = Object.fromEntries(
    attributeNames.map((name) => {
      const value = found.get(`ce-${name}`);
      if (Array.isArray(value)) throw invalid(`ce-${name}`, 'is sent more than once');
      return [name, typeof value === 'string' ? decodeHeader(`ce-${name}`, value) : undefined];
    }),
  );
  const event = eventOf(attributes, 'ce-', '');
  parseJsonBody(body);
  return { ...event, data: body.toString('utf8') };
}

function uuidOf(prefix: IdPrefix) {
  return z.string().transform((text, context) => {
    const uuid = fromTypeId(prefix, text);
    if (uuid !== null) return uuid;
    context.addIssue({ code: 'custom', message: `must be an id of the form ${prefix}_...`, input: text });
    return z.NEVER;
  });
}

const attributeShape = z.object({
  specversion: z.literal('1.0'),
  id: uuidOf('evt'),
  source: z.string().min(1),
  type: z.string().min(1),
  time: z.iso.datetime({ offset: true }),
  tenantid: uuidOf('ten'),
  partitionkey: z.string().min(1),
  keyversion: z
    .string()
    .regex(/^[1-9]\d{0,18}$/, 'must be decimal digits, 1 and up')
    .transform(BigInt)
    .refine((version) => version <= largestKeyversion, 'is too large'),
  causationid: uuidOf('evt').optional(),
  traceparent: z
    .string()
    .regex(/^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/, 'must have the form of W3C Trace Context')
    .optional(),
});
const attributeNames = Object.keys(attributeShape.shape);

function eventOf(attributes: Record<string, unknown>, prefix: string, data: string): CarriedEvent {
  const result = attributeShape.safeParse(attributes);
  if (!result.success) {
    const [issue] = result.error.issues;
    const name = String(issue?.path[0] ?? '');
    const isMissing = attributes[name] === undefined;
    throw invalid(`${prefix}${name}`, isMissing ? 'is missing' : (issue?.message ?? 'is not valid'));
  }
  const { id, type, time, tenantid, partitionkey, keyversion, causationid, traceparent } = result.data;
  return {
    tenantId: tenantid,
    eventId: id,
    type,
    key: partitionkey,
    keyversion,
    occurredAt: new Date(time),
    causation: causationid ?? null,
    traceparent: traceparent ?? null,
    data,
  };
}

function mediaTypeOf(headers: HeadersIn): string {
  const [, value] = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type') ?? [];
  const [type = ''] = (typeof value === 'string' ? value : '').split(';');
  return type.trim().toLowerCase();
}

/** Printable ASCII but space, quote and percent stands as it is, all else percent-encoded as UTF-8. */
function encodeHeader(value: string): string {
  // encodeURIComponent leaves no byte outside of ASCII and touches more than it must, which decodes to the same.
  return value.replace(/[^\x21\x23\x24\x26-\x7e]+/gu, encodeURIComponent);
}

function decodeHeader(name: string, value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(value)?.[1];
  const text = quoted === undefined ? value : quoted.replace(/\\(.)/g, '$1');
  try {
    return decodeURIComponent(text);
  } catch (cause) {
    throw invalid(name, 'is not percent-encoded UTF-8', cause);
  }
}

function invalid(param: string, message: string, cause?: unknown): AppError {
  return new AppError('invalid_event', `${param}: ${message}.`, { param, cause });
}
