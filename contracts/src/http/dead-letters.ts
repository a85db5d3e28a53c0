import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/**
 * `dead` failed for good; `parked` failed again after three redrives, and only a forced one moves it; `retrying` failed
 * and is tried again by itself; `held` waits for an earlier event of its key.
 */
export const deliveryStates = ['dead', 'parked', 'retrying', 'held'] as const;

/** Codes that a dead letter may have beside those of the error table. */
export const deadLetterCodes = {
  handler_failed: 'The consumer threw something that has no code.',
  handler_deadline: 'The consumer did not finish within a second; what it had done was rolled back.',
  process_died: 'The process ended while the consumer handled the event.',
  event_version_unknown: 'The consumer knows the type, and not this version of it.',
  event_invalid: 'The data does not fit the schema of its type.',
  event_version_missing: 'An earlier version of the key has not arrived for an hour.',
} as const satisfies Record<string, string>;

const letterParams = z.object({ id: typeId('dlt') });
const word = storableText({ min: 1, max: 200 });

const event = z.object({
  id: z.uuid(),
  type: z.string(),
  key: z.string().describe('What the event is about'),
  keyversion: z.number().int().min(1).describe('Its place among the events of its key'),
  occurred_at: timestamp,
  causation: z.uuid().nullable(),
  traceparent: z.string().nullable(),
});
const eventWithData = event.extend({
  data: z.unknown().describe('As it was told; text where it is no JSON'),
});

const letterFields = {
  id: typeId('dlt'),
  object: z.literal('dead_letter'),
  state: z.enum(deliveryStates),
  consumer: z.string(),
  attempts: z.number().int().min(0).describe('All attempts that were made'),
  redrives: z.number().int().min(0),
  first_seen_at: timestamp,
  last_seen_at: timestamp,
  next_attempt_at: timestamp.nullable().describe('When it is tried by itself; null where it is not'),
  held_by: typeId('dlt')
    .nullable()
    .describe(
      'Of a held one, the earlier one of its key that it waits for; null where none does, or an earlier version has not arrived',
    ),
} as const;

const publicError = z.object({ code: z.string(), message: z.string() }).nullable();
const fullError = z
  .object({ code: z.string(), message: z.string(), stack: z.string().nullable() })
  .nullable()
  .describe('Of the last attempt; null where there was none');

/** As lists show it: without data and stack. */
export const deadLetterSummary = z.object({
  ...letterFields,
  tenant_id: typeId('ten'),
  event,
  error: publicError,
});
export type DeadLetterSummary = z.infer<typeof deadLetterSummary>;

export const deadLetter = z.object({
  ...letterFields,
  tenant_id: typeId('ten'),
  event: eventWithData,
  error: fullError,
  followers: z.number().int().min(0).describe('Events of the same key that wait for it'),
});
export type DeadLetter = z.infer<typeof deadLetter>;

/** What a tenant sees of its own. */
export const ownDeadLetterSummary = z.object({ ...letterFields, event, error: publicError });
export const ownDeadLetter = z.object({ ...letterFields, event: eventWithData, error: publicError });
export type OwnDeadLetter = z.infer<typeof ownDeadLetter>;

const filterFields = {
  type: word.optional().describe('With its version: request.completed.v1'),
  consumer: word.optional(),
  error_code: word.optional(),
  tenant_id: typeId('ten').optional(),
  from: timestamp.optional().describe('First seen at this time or later'),
  to: timestamp.optional().describe('First seen before this time'),
} as const;

const lettersQuery = listQuery.extend({
  after: typeId('dlt').optional().describe('The `last_id` of the page before'),
  state: z.enum(deliveryStates).optional().describe('Default: dead and parked'),
  ...filterFields,
});

export const listDeadLetters = endpoint({
  id: 'dead-letters.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/dead-letters',
  summary: 'List events that consumers could not handle, newest first',
  access: { permission: 'control:read' },
  query: lettersQuery,
  responses: { 200: { description: 'A page of dead letters', schema: listOf(deadLetterSummary) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { limit: '20', consumer: 'billing.usage' } },
});

const exampleId = 'dlt_01jz4x5t2sfkb8m6q0v9c3d7ea';

export const readDeadLetter = endpoint({
  id: 'dead-letters.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/dead-letters/{id}',
  summary: 'Read one dead letter: the whole event, why it failed, and how many events of its key wait for it',
  access: { permission: 'control:read' },
  params: letterParams,
  responses: { 200: { description: 'The dead letter', schema: deadLetter } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleId } },
});

const choice = {
  ids: z
    .array(typeId('dlt'))
    .min(1)
    .max(1000)
    .optional()
    .describe('Only these; where one of them is neither dead nor parked, nothing is done (`not_found`)'),
  ...filterFields,
  dry_run: z.boolean().default(false).describe('Only say what would be done'),
} as const;

const isNarrowed = (body: Readonly<Record<string, unknown>>): boolean =>
  ['ids', ...Object.keys(filterFields)].some((name) => body[name] !== undefined);
const narrowed = { message: 'name at least one of ids, type, consumer, error_code, tenant_id, from, to' };

const chosenLetters = {
  dry_run: z.boolean(),
  matched: z.number().int().min(0).describe('How many the filter matches, parked ones among them'),
  first_ids: z.array(typeId('dlt')).describe('Of the first ten, oldest first'),
} as const;

/** At most 10,000 are moved by one call; where `matched` is more, the call is made again. */
export const redriveResult = z.object({
  object: z.literal('redrive'),
  ...chosenLetters,
  redriven: z.number().int().min(0),
  parked: z
    .number()
    .int()
    .min(0)
    .describe('Left alone: they were redriven three times, and `force` was not set'),
  takes_seconds: z.number().min(0).describe('Until the last of them is handed over, by the rate'),
});
export type RedriveResult = z.infer<typeof redriveResult>;

export const redriveDeadLetters = endpoint({
  id: 'dead-letters.redrive',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/dead-letters/redrive',
  summary:
    'Hand dead letters to their consumers again, oldest first. Each has one attempt; what waits for its key follows ' +
    'once it is handled. Written to the audit',
  access: { permission: 'control:write' },
  body: z
    .strictObject({
      ...choice,
      rate_per_second: z.number().int().min(1).max(1000).default(50),
      force: z
        .boolean()
        .default(false)
        .describe('Parked ones too; one whose earlier version is missing goes on without it'),
    })
    .refine(isNarrowed, narrowed),
  responses: { 200: { description: 'What was done, or would be', schema: redriveResult } },
  errors: ['invalid_request', 'invalid_text', 'not_found'],
  idempotent: 'no',
  example: { body: { consumer: 'billing.usage', error_code: 'handler_failed', dry_run: true } },
});

export const discardResult = z.object({
  object: z.literal('discard'),
  ...chosenLetters,
  discarded: z.number().int().min(0),
});
export type DiscardResult = z.infer<typeof discardResult>;

export const discardDeadLetters = endpoint({
  id: 'dead-letters.discard',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/dead-letters/discard',
  summary:
    'Give dead letters up: their consumers never see them again, and what waited for their keys goes on. The reason is ' +
    'written to the audit',
  access: { permission: 'control:write' },
  body: z
    .strictObject({ ...choice, reason: storableText({ min: 1, max: 500 }).regex(/\S/, 'must say why') })
    .refine(isNarrowed, narrowed),
  responses: { 200: { description: 'What was done, or would be', schema: discardResult } },
  errors: ['invalid_request', 'invalid_text', 'not_found'],
  idempotent: 'no',
  example: {
    body: {
      consumer: 'billing.usage',
      error_code: 'event_invalid',
      reason: 'Told by a version that was withdrawn',
    },
  },
});

export const listOwnDeadLetters = endpoint({
  id: 'dead-letters.list-own',
  listener: 'public',
  method: 'GET',
  path: '/v1/dead-letters',
  summary: "List the tenant's own events that could not be handled, newest first. Not for a project's key",
  access: { permission: 'events:read' },
  query: lettersQuery.omit({ tenant_id: true }),
  responses: { 200: { description: 'A page of dead letters', schema: listOf(ownDeadLetterSummary) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readOwnDeadLetter = endpoint({
  id: 'dead-letters.read-own',
  listener: 'public',
  method: 'GET',
  path: '/v1/dead-letters/{id}',
  summary: "Read one of the tenant's own dead letters. Not for a project's key",
  access: { permission: 'events:read' },
  params: letterParams,
  responses: { 200: { description: 'The dead letter', schema: ownDeadLetter } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleId } },
});
