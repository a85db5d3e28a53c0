import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, storableText, timestamp, typeId } from './shared.ts';

const word = storableText({ min: 1, max: 200 });
const notAPlace = 'must be a place in the log, as `last_id` of an answer';
const latestTransaction = 2n ** 64n - 1n;
const latestNumber = 2n ** 63n - 1n;
/** Plain decimal digits within what the log can count: PostgreSQL would read leading zeros as octal. */
const placePattern = /^(?:0|[1-9]\d{0,19})\.(?:0|[1-9]\d{0,18})$/;
const place = z
  .string()
  .regex(placePattern, notAPlace)
  .refine((text) => !placePattern.test(text) || isWithinLog(text), notAPlace);

function isWithinLog(text: string): boolean {
  const [transaction = '', number = ''] = text.split('.');
  return BigInt(transaction) <= latestTransaction && BigInt(number) <= latestNumber;
}

/** An event as it lies in the log. */
export const loggedEvent = z.object({
  id: z.uuid(),
  object: z.literal('event'),
  place: z.string().describe('Its place in the log, for `after`'),
  tenant_id: typeId('ten'),
  type: z.string(),
  key: z.string(),
  keyversion: z.number().int().min(1),
  occurred_at: timestamp,
  causation: z.uuid().nullable(),
  traceparent: z.string().nullable(),
  data: z.unknown().describe('As it was told; text where it is no JSON'),
});
export type LoggedEventObject = z.infer<typeof loggedEvent>;

export const followEvents = endpoint({
  id: 'events.follow',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/events',
  summary:
    'Read on in the event log, oldest first. Without `after` it begins at its present end. Waits up to `wait_seconds` ' +
    'for an event. `last_id` is where reading ended, also where nothing was found: the `after` of the next call',
  access: { permission: 'control:read' },
  query: z.object({
    after: place.optional(),
    type: word.optional().describe('With or without its version: run.changed.v1 or run.changed'),
    tenant_id: typeId('ten').optional(),
    limit: z.coerce.number().int().min(1).max(100).default(100),
    wait_seconds: z.coerce.number().int().min(0).max(20).default(0),
  }),
  responses: { 200: { description: 'The next events', schema: listOf(loggedEvent) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { type: 'run.changed', wait_seconds: '0' } },
});

/** The structured form of CloudEvents 1.0: the attributes of an event and its data in one object. */
export const cloudEvent = z.object({
  specversion: z.literal('1.0'),
  id: typeId('evt'),
  source: z.string().describe('The module that tells: /gateway'),
  type: z.string().describe('With its version: request.completed.v1'),
  time: timestamp,
  tenantid: typeId('ten'),
  partitionkey: z.string().describe('What the event is about'),
  keyversion: z.string().describe('Its place among the events of its key, in digits'),
  causationid: typeId('evt').optional(),
  traceparent: z.string().optional(),
  datacontenttype: z.literal('application/json'),
  data: z.unknown().describe('By the schema of its type; ids in it are UUIDs'),
});

export const readOwnEvent = endpoint({
  id: 'events.read-own',
  listener: 'public',
  method: 'GET',
  path: '/v1/events/{id}',
  summary:
    "Read one of the tenant's own events as a CloudEvent 1.0, as far as the log holds it: in the structured form, or in the " +
    "binary one, whose attributes are `ce-` headers and whose body is the data, byte for byte. Not for a project's key",
  access: { permission: 'events:read' },
  params: z.object({ id: typeId('evt').describe('As in `webhook-id`') }),
  query: z.object({ form: z.enum(['structured', 'binary']).default('structured') }),
  responses: {
    200: {
      description: 'The event; `application/json` in the binary form',
      contentType: 'application/cloudevents+json',
      schema: cloudEvent,
    },
  },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: 'evt_01jz4x5t2sfkb8m6q0v9c3d7ea' }, query: { form: 'structured' } },
});

export const eventReplay = z.object({
  id: typeId('rpl'),
  object: z.literal('event_replay'),
  tenant_id: typeId('ten'),
  consumer: z.string(),
  from: timestamp,
  state: z.enum(['running', 'done']),
  handled: z.number().int().min(0).describe('Events that had their effect again'),
  put_aside: z
    .number()
    .int()
    .min(0)
    .describe('Events that failed or have to wait; they lie in the delivery store'),
  created_at: timestamp,
  finished_at: timestamp.nullable(),
});
export type EventReplay = z.infer<typeof eventReplay>;

export const createEventReplay = endpoint({
  id: 'event-replays.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/event-replays',
  summary:
    "Hand a tenant's events from a point in time on to one consumer again, as far as the log holds them. Effects happen " +
    'again: only consumers that are made for it take part. Written to the audit',
  access: { permission: 'control:write' },
  body: z.strictObject({ tenant_id: typeId('ten'), consumer: word, from: timestamp }),
  responses: { 202: { description: 'The replay, under way', schema: eventReplay } },
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: {
    body: {
      tenant_id: 'ten_01h455vb4pex5vsknk084sn02q',
      consumer: 'billing.usage',
      from: '2026-03-01T00:00:00.000Z',
    },
  },
});

export const readEventReplay = endpoint({
  id: 'event-replays.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/event-replays/{id}',
  summary: 'Read how far a replay is',
  access: { permission: 'control:read' },
  params: z.object({ id: typeId('rpl') }),
  responses: { 200: { description: 'The replay', schema: eventReplay } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: 'rpl_01jz4x5t2sfkb8m6q0v9c3d7ea' } },
});
