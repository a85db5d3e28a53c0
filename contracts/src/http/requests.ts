import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { outcomes, usageShape } from '../events/request-completed.v1.ts';
import { decimalAmount, listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

const fault = z.object({ code: z.string(), message: z.string() }).nullable();

/** One call to one target. */
export const explainedAttempt = z.object({
  target: z.string(),
  provider: z.string(),
  started_at: timestamp,
  duration_ms: z.number().min(0),
  time_to_first_token_ms: z.number().min(0).nullable().describe('Null where no answer byte came'),
  status: z.number().int().nullable().describe('HTTP status of the provider, null where none came'),
  error: fault,
});

/** Everything that Stoa knows of one request. */
export const explainedRequest = z.object({
  id: typeId('req'),
  object: z.literal('request'),
  endpoint: z.enum(['chat.completions', 'embeddings']),
  model: z.string().describe('What the request asked for: the name of a target, or `auto`'),
  stream: z.boolean(),
  outcome: z.enum(outcomes),
  error: fault.describe('What the request ended with, null where it completed'),
  decision: z
    .object({
      target: z.string(),
      probability: z.number().min(0).max(1).describe('Of this target being chosen'),
      reason: z.string(),
    })
    .nullable()
    .describe('Null where nothing was decided: the request was refused before, or its process ended'),
  attempts: z.array(explainedAttempt).describe('In the order in which they were made'),
  usage: usageShape,
  priced: z.boolean().describe('False where the target has no price; cost and charge are then null'),
  cost: decimalAmount.nullable().describe('What the provider takes, in USD; null where that is unknown'),
  charge: decimalAmount.nullable().describe('What the tenant pays, in USD; null where that is unknown'),
  currency: z.literal('USD'),
  price_version: z.string().nullable(),
  price: z
    .object({ hash: z.string(), tier: z.string(), unit: z.string() })
    .nullable()
    .describe('The entry of the price book that was applied'),
  key_id: z.string(),
  project_id: z.string().nullable(),
  end_user: z.string().nullable(),
  tags: z.record(z.string(), z.string()),
  client_request_id: z.string().nullable().describe("The caller's own x-request-id"),
  trace_id: z.string(),
  created_at: timestamp,
  completed_at: timestamp,
});
export type ExplainedRequest = z.infer<typeof explainedRequest>;

const filterText = storableText({ min: 1, max: 512 });

const requestsQuery = listQuery.extend({
  after: typeId('req').optional().describe('The `last_id` of the page before'),
  from: timestamp.optional().describe('Requests made at this time or later'),
  to: timestamp.optional().describe('Requests made before this time'),
  model: filterText.optional().describe('What the request asked for'),
  target: filterText.optional().describe('What answered, or was tried last'),
  outcome: z.enum(outcomes).optional(),
  key_id: filterText.optional(),
  project_id: filterText.optional(),
  end_user: filterText.optional(),
});
export type RequestsQuery = z.output<typeof requestsQuery>;

const retention = 'Kept for 90 days.';

export const listRequests = endpoint({
  id: 'requests.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/requests',
  summary: `List requests that have ended, newest first. ${retention} A key of a project sees that project's only`,
  access: { permission: 'requests:read' },
  query: requestsQuery,
  responses: { 200: { description: 'A page of requests', schema: listOf(explainedRequest) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { limit: '20', outcome: 'failed' } },
});

export const readRequest = endpoint({
  id: 'requests.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/requests/{id}',
  summary:
    'Explain one request: decision, attempts, tokens, cost. At once in the process that served it, within a second ' +
    `elsewhere; not found while the request runs. ${retention}`,
  access: { permission: 'requests:read' },
  params: z.object({ id: typeId('req') }),
  responses: { 200: { description: 'The request', schema: explainedRequest } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: 'req_01jz4x5t2sfkb8m6q0v9c3d7ea' } },
});
