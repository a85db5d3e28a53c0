import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import type { ErrorCode } from '../errors.ts';

/**
 * The endpoints of OpenAI's protocol. A request's body reaches the provider as the client wrote it; the schemas name the
 * fields that Stoa itself reads, and let every other field through.
 */
const count = z.number().int().min(1);

const message = z
  .looseObject({
    role: z.string().describe('`system`, `developer`, `user`, `assistant`, `tool`'),
    content: z.unknown().optional().describe('Text, or a list of parts (text, image_url, input_audio, file)'),
  })
  .describe('As with OpenAI; checked further by the provider');

const metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .describe('At most 16 tags of the request; they come back in its explanation and group its usage');

const endUser = z
  .string()
  .max(512)
  .describe('Your own end user; comes back in the explanation and groups the usage');

const model = z.string().min(1).max(200).describe('The id of a target, or `auto`');

export const chatCompletionRequest = z.looseObject({
  model,
  messages: z.array(message).min(1),
  stream: z.boolean().nullish().describe('Answer as server-sent events; default false'),
  stream_options: z
    .looseObject({ include_usage: z.boolean().nullish() })
    .nullish()
    .describe('With `include_usage` the last frame before `[DONE]` tells the usage'),
  max_tokens: count.nullish().describe('Limit of output tokens'),
  max_completion_tokens: count.nullish().describe('The same under its newer name'),
  n: z.number().int().min(1).max(128).nullish().describe('How many choices; default 1'),
  tools: z.array(z.looseObject({})).nullish(),
  response_format: z.looseObject({}).nullish(),
  user: endUser.nullish(),
  metadata: metadata.nullish(),
});

const tokenCounts = z.looseObject({
  prompt_tokens: z.number().int(),
  completion_tokens: z.number().int().optional(),
  total_tokens: z.number().int(),
});

export const chatCompletion = z.looseObject({
  id: z.string(),
  object: z.string(),
  created: z.number().describe('Unix seconds'),
  model: z.string(),
  choices: z.array(
    z.looseObject({
      index: z.number().int(),
      message: z.looseObject({ role: z.string() }),
      finish_reason: z.string().nullable(),
    }),
  ),
  usage: tokenCounts.optional(),
});

/** One frame of a streamed answer: what a provider sent, of which only the members that clients need are named. */
export const chatCompletionChunk = z.looseObject({
  id: z.string().optional(),
  model: z.string().optional(),
  choices: z
    .array(
      z.looseObject({
        index: z.number().int(),
        delta: z.looseObject({ role: z.string().optional(), content: z.string().nullish() }).optional(),
        finish_reason: z.string().nullish(),
      }),
    )
    .optional(),
  usage: tokenCounts.nullish(),
});

/** What the chat path can answer beyond the codes of every endpoint. */
const modelErrors: readonly ErrorCode[] = [
  'invalid_encoding',
  'invalid_json',
  'json_too_deep',
  'invalid_request',
  'invalid_text',
  'body_too_large',
  'unsupported_media_type',
  'model_not_found',
  'context_length_exceeded',
  'content_filter',
  'unsupported_parameter',
  'provider_rejected',
  'rate_limit_exceeded',
  'insufficient_quota',
  'target_not_priced',
  'provider_throttled',
  'provider_unreachable',
  'provider_error',
  'provider_unreadable',
  'provider_timeout',
  'provider_misconfigured',
  'target_unavailable',
  'no_target',
  'stream_interrupted',
  'metering_unavailable',
];

export const createChatCompletion = endpoint({
  id: 'chat.completions.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/chat/completions',
  summary: 'Ask a model; the answer comes in one piece or as a stream',
  access: { permission: 'chat:create' },
  body: chatCompletionRequest,
  responses: {
    200: {
      description:
        'The answer, as the target gave it; the header `x-stoa-target` names the target. A stream ends in ' +
        '`data: [DONE]`, or in `data: {"error":{...}}` where it broke.',
      schema: chatCompletion,
    },
  },
  errors: modelErrors,
  idempotent: 'no',
  example: {
    body: { model: 'auto', messages: [{ role: 'user', content: 'How are tenants isolated?' }] },
  },
});

export const embeddingsRequest = z.looseObject({
  model,
  input: z.union([
    z.string().min(1),
    z.array(z.string().min(1)).min(1).max(2_048),
    z.array(z.number().int().min(0)).min(1),
    z
      .array(z.array(z.number().int().min(0)).min(1))
      .min(1)
      .max(2_048),
  ]),
  encoding_format: z
    .enum(['float', 'base64'])
    .nullish()
    .describe('Default `float`; `base64` is 32-bit floats, least significant byte first'),
  dimensions: count.nullish(),
  user: endUser.nullish(),
  metadata: metadata.nullish(),
});

export const embeddingList = z.looseObject({
  object: z.string(),
  data: z.array(
    z.looseObject({ index: z.number().int(), embedding: z.union([z.array(z.number()), z.string()]) }),
  ),
  model: z.string(),
  usage: tokenCounts.optional(),
});

export const createEmbeddings = endpoint({
  id: 'embeddings.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/embeddings',
  summary: 'Turn texts into vectors, in the encoding asked for, whatever the provider sends',
  access: { permission: 'embeddings:create' },
  body: embeddingsRequest,
  responses: { 200: { description: 'One vector for each input', schema: embeddingList } },
  errors: modelErrors.filter((code) => code !== 'stream_interrupted'),
  idempotent: 'no',
  example: { body: { model: 'auto', input: 'How are tenants isolated?' } },
});

export const createResponse = endpoint({
  id: 'responses.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/responses',
  summary: 'Not there yet: answers with a coded error that names chat completions',
  access: { permission: 'chat:create' },
  responses: {},
  errors: ['unsupported_endpoint'],
  idempotent: 'no',
  example: { body: { model: 'auto', input: 'Hello' } },
});
