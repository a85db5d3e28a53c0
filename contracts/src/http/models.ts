import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { providerName, registrySources } from './providers.ts';
import { decimalAmount, listOf, listQuery, timestamp, typeId } from './shared.ts';

export const targetKinds = ['chat', 'embedding'] as const;

/** The name that lets the platform choose; no target can bear it. */
export const automaticModel = 'auto';

/** What tenants write in `model`: printable ASCII (it travels in the header `x-stoa-target`), no space at the ends. */
export const targetIdPattern = /^[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?$/;

export const targetId = z
  .string()
  .regex(targetIdPattern, 'must be 1 to 200 printable ASCII characters without a space at either end')
  .refine((id) => id !== automaticModel, `"${automaticModel}" is taken`);

const perTokenPrice = z
  .object({ input: decimalAmount, output: decimalAmount })
  .nullable()
  .describe('USD per token, null without a price');

/** OpenAI's model object, with what Stoa knows besides. */
export const listedModel = z.object({
  id: z.string(),
  object: z.literal('model'),
  created: z.number().int().describe('Unix seconds'),
  owned_by: z.string(),
  kind: z.enum(targetKinds),
  generative: z.boolean().describe('False for the extractive engine, which only quotes'),
  priced: z.boolean(),
  price: perTokenPrice,
});
export type ListedModelObject = z.infer<typeof listedModel>;

export const listModels = endpoint({
  id: 'models.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/models',
  summary: 'List what this tenant can write in `model`, in the shape of OpenAI',
  access: { permission: 'models:read' },
  responses: {
    200: {
      description: 'All models',
      schema: z.object({ object: z.literal('list'), data: z.array(listedModel) }),
    },
  },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const readModel = endpoint({
  id: 'models.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/models/{id*}',
  summary: 'Read one model; slashes in its id may be sent as they are',
  access: { permission: 'models:read' },
  params: z.object({ id: z.string().min(1).max(200) }),
  responses: { 200: { description: 'The model', schema: listedModel } },
  errors: ['invalid_request', 'model_not_found'],
  idempotent: 'yes',
  example: { params: { id: 'extractive' } },
});

const milliseconds = z.number().int().min(1).max(3_600_000);

/** How long the provider may take, in milliseconds; what is left out has the platform's default. */
export const targetDeadlines = z.strictObject({
  whole_ms: milliseconds.optional().describe('To an answer in one piece; default 600000'),
  first_frame_ms: milliseconds.optional().describe("To a stream's first frame; default 120000"),
  between_frames_ms: milliseconds.optional().describe('Between two frames; default 60000'),
});

/** How the price book knows the model, where its own name does not say it. */
export const priceAs = z.strictObject({
  provider: z.string().min(1).max(100).nullable().default(null).describe('Such as openai or anthropic'),
  model: z.string().min(1).max(200),
});

const tokenCount = z.number().int().min(1).max(100_000_000);
const providerModel = z.string().regex(targetIdPattern, 'must be 1 to 200 printable ASCII characters');

/** One entry of `models:` in stoa.yaml. */
export const modelFileEntry = z.strictObject({
  id: targetId,
  provider: providerName.describe('Name of a provider of the same file'),
  model: providerModel.optional().describe("The provider's own name; default the id"),
  kind: z.enum(targetKinds).default('chat'),
  context_tokens: tokenCount.optional(),
  max_output_tokens: tokenCount.optional(),
  deadlines: targetDeadlines.default({}),
  price_as: priceAs.optional(),
});
export type ModelFileEntry = z.infer<typeof modelFileEntry>;

/** A model as the operator sees it. */
export const controlModel = z.object({
  id: typeId('mod'),
  object: z.literal('model'),
  target: z.string().describe('What tenants write in `model`'),
  provider_id: typeId('prov'),
  provider: z.string().describe("The provider's name"),
  model: z.string().describe("The provider's own name of it"),
  kind: z.enum(targetKinds),
  generative: z.boolean(),
  context_tokens: tokenCount.nullable(),
  max_output_tokens: tokenCount.nullable(),
  deadlines: z.object({ whole_ms: z.number(), first_frame_ms: z.number(), between_frames_ms: z.number() }),
  price_as: z.object({ provider: z.string().nullable(), model: z.string() }),
  priced: z.boolean(),
  enabled: z.boolean(),
  active: z
    .boolean()
    .describe('Whether this very entry answers for the target: enabled, its provider too, not hidden'),
  source: z.enum(registrySources),
  discovered: z.boolean().describe('True where the provider listed it'),
  version: z.number().int().min(0),
  created_at: timestamp.nullable(),
  updated_at: timestamp.nullable(),
});
export type ControlModel = z.infer<typeof controlModel>;

const modelParams = z.object({ id: typeId('mod') });

export const createControlModel = endpoint({
  id: 'control_models.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/models',
  summary: 'Add a model of a provider under a name for tenants',
  access: { permission: 'control:write' },
  body: z.strictObject({
    target: targetId,
    provider_id: typeId('prov'),
    model: providerModel.optional().describe("The provider's own name; default the target"),
    kind: z.enum(targetKinds).default('chat'),
    context_tokens: tokenCount.nullable().default(null),
    max_output_tokens: tokenCount.nullable().default(null),
    deadlines: targetDeadlines.default({}),
    price_as: priceAs.nullable().default(null),
    enabled: z.boolean().default(true),
  }),
  responses: { 201: { description: 'The model', schema: controlModel } },
  errors: ['invalid_request', 'already_exists', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: { body: { target: 'fast', provider_id: 'prov_01h455vb4pex5vsknk084sn02q', model: 'gpt-4o-mini' } },
});

export const listControlModels = endpoint({
  id: 'control_models.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/models',
  summary: 'List the models of every source, by target',
  access: { permission: 'control:read' },
  query: listQuery,
  responses: { 200: { description: 'A page of models', schema: listOf(controlModel) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readControlModel = endpoint({
  id: 'control_models.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/models/{id}',
  summary: 'Read one model',
  access: { permission: 'control:read' },
  params: modelParams,
  responses: { 200: { description: 'The model', schema: controlModel } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: 'mod_01h455vb4pex5vsknk084sn02q' } },
});

export const changeControlModel = endpoint({
  id: 'control_models.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/models/{id}',
  summary: 'Change a model',
  access: { permission: 'control:write' },
  params: modelParams,
  body: z
    .strictObject({
      target: targetId.optional(),
      model: providerModel.optional(),
      kind: z.enum(targetKinds).optional(),
      context_tokens: tokenCount.nullable().optional(),
      max_output_tokens: tokenCount.nullable().optional(),
      deadlines: targetDeadlines.optional().describe('Replaces all three'),
      price_as: priceAs.nullable().optional(),
      enabled: z.boolean().optional(),
    })
    .refine((body) => Object.keys(body).length > 0, 'must hold at least one field'),
  responses: { 200: { description: 'The model as it is now', schema: controlModel } },
  errors: ['invalid_request', 'not_found', 'already_exists', 'managed_by_file', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: 'mod_01h455vb4pex5vsknk084sn02q' }, body: { enabled: false } },
});

export const deleteControlModel = endpoint({
  id: 'control_models.delete',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/models/{id}',
  summary: 'Delete a model',
  access: { permission: 'control:write' },
  params: modelParams,
  responses: { 204: { description: 'Deleted' } },
  errors: ['invalid_request', 'not_found', 'managed_by_file', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: 'mod_01h455vb4pex5vsknk084sn02q' } },
});
