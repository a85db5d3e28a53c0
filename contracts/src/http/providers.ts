import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/** Kinds of provider that an operator can add; the engines inside the process are built in. */
export const configurableProviderKinds = ['openai-compatible', 'anthropic'] as const;
export const providerKinds = ['openai-compatible', 'anthropic', 'extractive', 'scripted'] as const;
/** Where an entry comes from. Only those of the API can be changed through the API. */
export const registrySources = ['settings', 'file', 'api', 'built-in'] as const;

/** A provider's name: lower case, digits, `-`, `_` and `.`, so that it reads well in explanations and labels. */
export const providerName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    'must be 1 to 63 of a-z, 0-9, ".", "_" and "-", and begin with a letter or digit',
  );

/** An absolute http(s) URL; a trailing slash is dropped. Credentials, query and fragment have no place in it. */
export const providerBaseUrl = z
  .url({ protocol: /^https?$/ })
  .max(2000)
  .refine(
    (text) => !/[?#]/.test(text) && !/^[a-z]+:\/\/[^/]*@/i.test(text),
    'must hold no credentials, query or fragment',
  )
  .transform((text) => text.replace(/\/+$/, ''));

const credential = storableText({ min: 1, max: 4096 }).regex(
  /^[\x21-\x7e]+$/,
  'must be printable ASCII without spaces',
);

/** Extra request headers. Their values are kept as secrets: Azure's key, for one, travels in such a header. */
const providerHeaders = z
  .record(
    z.string().regex(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/, 'must be a header name'),
    z
      .string()
      .max(4096)
      .regex(/^[\x20-\x7e\t]*$/, 'must be printable ASCII'),
  )
  .refine((headers) => Object.keys(headers).length <= 20, 'at most 20 headers')
  .refine(
    (headers) => !Object.keys(headers).some((name) => forbiddenHeaders.has(name.toLowerCase())),
    'may not set host, content-length, transfer-encoding, connection or expect',
  );
const forbiddenHeaders = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'expect',
  'upgrade',
]);

const maxConcurrency = z
  .number()
  .int()
  .min(1)
  .max(100_000)
  .describe('Simultaneous calls of one process to the provider');

/** What a provider gets where nothing is said: calls that one process has under way at once. */
export const defaultMaxConcurrency = 1000;

/** One entry of `providers:` in stoa.yaml. */
export const providerFileEntry = z.strictObject({
  name: providerName,
  kind: z.enum(configurableProviderKinds),
  base_url: providerBaseUrl.optional(),
  api_key: credential.optional().describe('The secret itself; `api_key_env` keeps it out of the file'),
  api_key_env: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be the name of an environment variable')
    .optional(),
  headers: providerHeaders.default({}),
  max_concurrency: maxConcurrency.default(defaultMaxConcurrency),
  discover: z.boolean().default(true).describe('Whether the models that the provider lists become targets'),
});
export type ProviderFileEntry = z.infer<typeof providerFileEntry>;

export const provider = z.object({
  id: typeId('prov'),
  object: z.literal('provider'),
  name: z.string(),
  kind: z.enum(providerKinds),
  base_url: z.string().nullable(),
  header_names: z.array(z.string()).describe('Names of the extra headers; their values are never shown'),
  has_credential: z.boolean(),
  credential_last_four: z.string().nullable().describe('Of credentials of at least 12 characters'),
  max_concurrency: maxConcurrency,
  discover: z.boolean(),
  enabled: z.boolean(),
  source: z.enum(registrySources),
  discovery: z
    .object({
      state: z.enum(['off', 'pending', 'working', 'failing']),
      models: z.number().int().describe('How many models the last good listing held'),
      last_success_at: timestamp.nullable(),
      error: z.string().nullable().describe('What the last listing failed with'),
    })
    .describe('As the answering process sees it'),
  version: z.number().int().min(0),
  created_at: timestamp.nullable(),
  updated_at: timestamp.nullable(),
});
export type Provider = z.infer<typeof provider>;

const providerParams = z.object({ id: typeId('prov') });

export const createProvider = endpoint({
  id: 'providers.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/providers',
  summary: 'Add a provider; its credential is encrypted and never shown again',
  access: { permission: 'control:write' },
  body: z.strictObject({
    name: providerName,
    kind: z.enum(configurableProviderKinds),
    base_url: providerBaseUrl.optional().describe('With its version path; needed for openai-compatible'),
    credential: credential.optional().describe('The API key; write-only'),
    headers: providerHeaders.default({}),
    max_concurrency: maxConcurrency.default(defaultMaxConcurrency),
    discover: z.boolean().default(true),
    enabled: z.boolean().default(true),
  }),
  responses: { 201: { description: 'The provider', schema: provider } },
  errors: ['invalid_request', 'already_exists', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: {
    body: {
      name: 'local',
      kind: 'openai-compatible',
      base_url: 'http://127.0.0.1:11434/v1',
      credential: 'sk-example',
    },
  },
});

export const listProviders = endpoint({
  id: 'providers.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/providers',
  summary: 'List the providers of every source, by name',
  access: { permission: 'control:read' },
  query: listQuery,
  responses: { 200: { description: 'A page of providers', schema: listOf(provider) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readProvider = endpoint({
  id: 'providers.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/providers/{id}',
  summary: 'Read one provider',
  access: { permission: 'control:read' },
  params: providerParams,
  responses: { 200: { description: 'The provider', schema: provider } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: 'prov_01h455vb4pex5vsknk084sn02q' } },
});

export const changeProvider = endpoint({
  id: 'providers.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/providers/{id}',
  summary: 'Change a provider; a new credential starts with a clean breaker',
  access: { permission: 'control:write' },
  params: providerParams,
  body: z
    .strictObject({
      name: providerName.optional(),
      base_url: providerBaseUrl.optional(),
      credential: credential.nullable().optional().describe('null removes it'),
      headers: providerHeaders.optional(),
      max_concurrency: maxConcurrency.optional(),
      discover: z.boolean().optional(),
      enabled: z.boolean().optional(),
    })
    .refine((body) => Object.keys(body).length > 0, 'must hold at least one field'),
  responses: { 200: { description: 'The provider as it is now', schema: provider } },
  errors: ['invalid_request', 'not_found', 'already_exists', 'managed_by_file', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: 'prov_01h455vb4pex5vsknk084sn02q' }, body: { enabled: false } },
});

export const deleteProvider = endpoint({
  id: 'providers.delete',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/providers/{id}',
  summary: 'Delete a provider that no model of the API refers to',
  access: { permission: 'control:write' },
  params: providerParams,
  responses: { 204: { description: 'Deleted' } },
  errors: ['invalid_request', 'not_found', 'conflict', 'managed_by_file', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: 'prov_01h455vb4pex5vsknk084sn02q' } },
});
