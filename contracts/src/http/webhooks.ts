import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { eventTable } from '../events/table.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/** Outgoing webhooks, as https://www.standardwebhooks.com has them. */

/** What `event_types` may name beside the types of the table of events: all of them, those to come too. */
export const everyEventType = '*';

/** The type of a test delivery, which no endpoint subscribes to. */
export const webhookTestType = 'webhook.test.v1';

/** Waits between a failed attempt and the next, in ms: the schedule of Standard Webhooks. The first attempt is at once. */
export const webhookRetryDelaysMs: readonly number[] = [
  5_000,
  5 * 60_000,
  30 * 60_000,
  2 * 3_600_000,
  5 * 3_600_000,
  10 * 3_600_000,
  14 * 3_600_000,
  20 * 3_600_000,
  24 * 3_600_000,
];

export const webhookSchemes = ['v1', 'v1a'] as const;
export type WebhookScheme = (typeof webhookSchemes)[number];

export const webhookDisabledReasons = ['tenant', 'gone', 'failing'] as const;
export type WebhookDisabledReason = (typeof webhookDisabledReasons)[number];

export const webhookDeliveryStates = ['waiting', 'delivered', 'failed'] as const;
export type WebhookDeliveryState = (typeof webhookDeliveryStates)[number];

const url = storableText({ min: 1, max: 2048 }).describe(
  'Where events are sent by POST. It must be reachable from the internet; redirects are not followed',
);
const description = storableText({ max: 500 });
const eventTypes = z
  .array(
    z.string().refine((type) => type === everyEventType || Object.hasOwn(eventTable, type), {
      message: 'must be a type of event with its version, such as run.changed.v1, or *',
    }),
  )
  .min(1)
  .max(50)
  .refine((types) => new Set(types).size === types.length, 'must name each type once')
  .describe('The types that are sent, with their versions; `*` for all');

export const webhook = z.object({
  id: typeId('whe'),
  object: z.literal('webhook'),
  url: z.string(),
  description: z.string(),
  event_types: z.array(z.string()),
  enabled: z.boolean(),
  disabled_reason: z
    .enum(webhookDisabledReasons)
    .nullable()
    .describe(
      'tenant: by a call of yours. gone: the endpoint answered 410. failing: nothing was delivered for five days. Null while it is enabled',
    ),
  signature: z.enum(webhookSchemes).describe('v1: HMAC-SHA256 with a shared secret. v1a: Ed25519'),
  public_key: z
    .string()
    .nullable()
    .describe('What v1a signatures are verified with (`whpk_...`); null for v1'),
  previous_secret_until: timestamp
    .nullable()
    .describe('Until when the secret that was before is signed with too; null where there is none'),
  failing_since: timestamp
    .nullable()
    .describe('Since when every attempt has failed; null where the last did not'),
  version: z.number().int().min(1),
  created_at: timestamp,
  updated_at: timestamp,
});
export type WebhookObject = z.infer<typeof webhook>;

const secret = z
  .string()
  .nullable()
  .describe('What v1 signatures are made with (`whsec_...`), shown this once; null for v1a');
export const webhookWithSecret = webhook.extend({ secret });
export type WebhookWithSecret = z.infer<typeof webhookWithSecret>;

export const webhookAttempt = z.object({
  started_at: timestamp,
  duration_ms: z.number().min(0),
  status: z.number().int().nullable().describe('Of the answer; null where none came'),
  error: z
    .object({ code: z.string(), message: z.string() })
    .nullable()
    .describe('Why there was no answer; null where there was one'),
  response_excerpt: z.string().nullable().describe('The first KiB of the answer; null where none came'),
});
export type WebhookAttempt = z.infer<typeof webhookAttempt>;

export const webhookDelivery = z.object({
  id: typeId('whd'),
  object: z.literal('webhook_delivery'),
  webhook_id: typeId('whe'),
  event_id: typeId('evt').describe('What the header `webhook-id` has, in every attempt'),
  event_type: z.string(),
  state: z.enum(webhookDeliveryStates),
  attempts: z.number().int().min(0),
  next_attempt_at: timestamp.nullable().describe('Null where none is to come'),
  last_attempt: webhookAttempt.nullable(),
  created_at: timestamp,
  delivered_at: timestamp.nullable(),
});
export type WebhookDelivery = z.infer<typeof webhookDelivery>;

export const webhookDeliveryInFull = webhookDelivery.extend({
  attempt_log: z.array(webhookAttempt).describe('The last twenty attempts, oldest first'),
  payload: z.string().describe('The body as it is sent'),
});
export type WebhookDeliveryInFull = z.infer<typeof webhookDeliveryInFull>;

const webhookParams = z.object({ id: typeId('whe') });
const deliveryParams = z.object({ id: typeId('whe'), delivery_id: typeId('whd') });
const exampleId = 'whe_01jz4x5t2sfkb8m6q0v9c3d7ea';
const exampleDelivery = { id: exampleId, delivery_id: 'whd_01jz4x5t2sfkb8m6q0v9c3d7eb' };

export const createWebhook = endpoint({
  id: 'webhooks.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/webhooks',
  summary:
    'Have events sent to an endpoint. The answer holds the secret that its signatures are made with, this once. Needs ' +
    '`events:read` as well',
  access: { permission: 'webhooks:write' },
  body: z.strictObject({
    url,
    description: description.default(''),
    event_types: eventTypes,
    enabled: z.boolean().default(true),
    signature: z.enum(webhookSchemes).default('v1'),
  }),
  responses: { 201: { description: 'The webhook, with its secret', schema: webhookWithSecret } },
  errors: [
    'invalid_request',
    'invalid_text',
    'invalid_json',
    'conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: {
    body: { url: 'https://hooks.example.com/stoa', event_types: ['run.changed.v1', 'invoice.changed.v1'] },
  },
});
export type CreateWebhookBody = z.output<NonNullable<(typeof createWebhook)['body']>>;

export const listWebhooks = endpoint({
  id: 'webhooks.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/webhooks',
  summary: 'List your webhooks, newest first',
  access: { permission: 'webhooks:read' },
  query: listQuery,
  responses: { 200: { description: 'A page of webhooks', schema: listOf(webhook) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readWebhook = endpoint({
  id: 'webhooks.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/webhooks/{id}',
  summary: 'Read one webhook',
  access: { permission: 'webhooks:read' },
  params: webhookParams,
  responses: { 200: { description: 'The webhook', schema: webhook } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleId } },
});

export const changeWebhook = endpoint({
  id: 'webhooks.change',
  listener: 'public',
  method: 'PATCH',
  path: '/v1/webhooks/{id}',
  summary:
    'Change a webhook. Enabled again it starts anew: what failed is redelivered only on demand. Another URL or other ' +
    'types need `events:read` as well',
  access: { permission: 'webhooks:write' },
  params: webhookParams,
  body: z
    .strictObject({
      url: url.optional(),
      description: description.optional(),
      event_types: eventTypes.optional(),
      enabled: z.boolean().optional(),
    })
    .refine((body) => Object.values(body).some((value) => value !== undefined), 'must change something'),
  responses: { 200: { description: 'The webhook after the change', schema: webhook } },
  errors: ['invalid_request', 'invalid_text', 'invalid_json', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleId }, body: { enabled: false } },
});
export type ChangeWebhookBody = z.output<NonNullable<(typeof changeWebhook)['body']>>;

export const deleteWebhook = endpoint({
  id: 'webhooks.delete',
  listener: 'public',
  method: 'DELETE',
  path: '/v1/webhooks/{id}',
  summary: 'Delete a webhook with its deliveries; what waits is not sent any more',
  access: { permission: 'webhooks:write' },
  params: webhookParams,
  responses: { 204: { description: 'Deleted' } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleId } },
});

export const rotateWebhookSecret = endpoint({
  id: 'webhooks.rotate-secret',
  listener: 'public',
  method: 'POST',
  path: '/v1/webhooks/{id}/rotate-secret',
  summary: 'Give a webhook a new secret. For the overlap every message is signed with both',
  access: { permission: 'webhooks:write' },
  params: webhookParams,
  body: z.strictObject({
    overlap_seconds: z
      .number()
      .int()
      .min(0)
      .max(7 * 86_400)
      .default(86_400)
      .describe('How long the present secret is signed with too'),
  }),
  responses: { 200: { description: 'The webhook, with its new secret', schema: webhookWithSecret } },
  errors: [
    'invalid_request',
    'invalid_json',
    'not_found',
    'version_conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleId }, body: { overlap_seconds: 3600 } },
});

/** What sends a message now answers with the delivery, before anything has come of it. */
const sending = {
  body: z.strictObject({}),
  responses: { 202: { description: 'The delivery, under way', schema: webhookDelivery } },
  errors: [
    'invalid_request',
    'invalid_json',
    'not_found',
    'conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
} as const;

export const testWebhook = endpoint({
  id: 'webhooks.test',
  listener: 'public',
  method: 'POST',
  path: '/v1/webhooks/{id}/test',
  summary: `Send a message of the type ${webhookTestType} now. It is tried once; the delivery tells what came of it`,
  access: { permission: 'webhooks:write' },
  params: webhookParams,
  ...sending,
  example: { params: { id: exampleId }, body: {} },
});

export const listWebhookDeliveries = endpoint({
  id: 'webhooks.deliveries.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/webhooks/{id}/deliveries',
  summary: 'List what was sent to a webhook, and what waits, newest first. Kept for thirty days',
  access: { permission: 'webhooks:read' },
  params: webhookParams,
  query: listQuery.extend({
    after: typeId('whd').optional().describe('The `last_id` of the page before'),
    state: z.enum(webhookDeliveryStates).optional(),
    event_type: storableText({ min: 1, max: 200 }).optional(),
  }),
  responses: { 200: { description: 'A page of deliveries', schema: listOf(webhookDelivery) } },
  errors: ['invalid_request', 'invalid_text', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleId }, query: { state: 'failed' } },
});

export const readWebhookDelivery = endpoint({
  id: 'webhooks.deliveries.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/webhooks/{id}/deliveries/{delivery_id}',
  summary: 'Read one delivery: its payload and every attempt',
  access: { permission: 'webhooks:read' },
  params: deliveryParams,
  responses: { 200: { description: 'The delivery', schema: webhookDeliveryInFull } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: exampleDelivery },
});

export const redeliverWebhook = endpoint({
  id: 'webhooks.deliveries.redeliver',
  listener: 'public',
  method: 'POST',
  path: '/v1/webhooks/{id}/deliveries/{delivery_id}/redeliver',
  summary:
    'Send a message again, at once, whatever came of it before; where it fails, by the schedule from its beginning',
  access: { permission: 'webhooks:write' },
  params: deliveryParams,
  ...sending,
  example: { params: exampleDelivery, body: {} },
});
