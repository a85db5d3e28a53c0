import { z } from 'zod';

/**
 * What Stoa records of one request: the line of the journal, the row of the usage table, the data of the event
 * `request.completed.v1` and the source of the explanation. Written once, never changed.
 *
 * Money is integer femto-dollars (1e-15 USD) as decimal digits, because JSON has no integers of that size.
 * Token counts are kept apart by kind and never overlap in price: `input_tokens` and `output_tokens` are the totals as
 * the provider counts them; the other kinds say how much of those totals was of that kind.
 */
export const outcomes = ['completed', 'failed', 'client_cancelled', 'refused'] as const;
export type Outcome = (typeof outcomes)[number];

const femto = z.string().regex(/^-?\d+$/);
const count = z.number().int().min(0);

export const usageShape = z.object({
  input_tokens: count,
  output_tokens: count,
  cached_input_tokens: count.default(0),
  cache_write_tokens: count.default(0),
  reasoning_tokens: count.default(0),
  input_audio_tokens: count.default(0),
  output_audio_tokens: count.default(0),
  estimated: z
    .boolean()
    .describe('True where the provider sent no usage and the counts are estimates from bytes'),
});
export type Usage = z.infer<typeof usageShape>;

export const attemptShape = z.object({
  target: z.string(),
  provider: z.string(),
  started_at: z.iso.datetime(),
  duration_ms: z.number().min(0),
  time_to_first_token_ms: z.number().min(0).nullable(),
  status: z.number().int().nullable().describe('HTTP status of the provider, null where none came'),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  provider_request_id: z.string().nullable(),
});
export type AttemptRecord = z.infer<typeof attemptShape>;

export const decisionShape = z.object({
  target: z.string(),
  probability: z.number().min(0).max(1),
  reason: z.string(),
});
export type DecisionRecord = z.infer<typeof decisionShape>;

export const requestCompletedV1 = z.object({
  /** UUID text; the edge shows it as `req_...`. Also the id of the event and of the usage row. */
  request_id: z.uuid(),
  tenant_id: z.uuid(),
  key_id: z.string(),
  project_id: z.string().nullable(),
  end_user: z.string().nullable(),
  tags: z.record(z.string(), z.string()),
  endpoint: z.enum(['chat.completions', 'embeddings']),
  requested_model: z.string(),
  stream: z.boolean(),
  outcome: z.enum(outcomes),
  error: z.object({ code: z.string(), message: z.string() }).nullable(),
  decision: decisionShape.nullable(),
  attempts: z.array(attemptShape),
  usage: usageShape,
  priced: z.boolean(),
  cost_femto: femto.nullable(),
  charge_femto: femto.nullable(),
  price_version: z.string().nullable(),
  price: z
    .object({ hash: z.string(), tier: z.string(), unit: z.string() })
    .nullable()
    .describe('Which entry of the price book was applied: its hash, tier and unit'),
  reserved_femto: femto.nullable(),
  trace_id: z.string(),
  client_request_id: z.string().nullable(),
  created_at: z.iso.datetime(),
  completed_at: z.iso.datetime(),
});
export type RequestCompletedV1 = z.infer<typeof requestCompletedV1>;
