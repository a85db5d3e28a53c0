import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { permissions, roles } from '../permissions.ts';
import { listOf, listQuery, storableText, tags, timestamp, typeId } from './shared.ts';

/** A tenant's key: `stoa_sk_`, id (12), `_`, secret (30) and check (6), all in base62. */
export const tenantKeyPattern = /^stoa_sk_[0-9A-Za-z]{12}_[0-9A-Za-z]{36}$/;
/** An operator's key, of the same form. */
export const operatorKeyPattern = /^stoa_op_[0-9A-Za-z]{12}_[0-9A-Za-z]{36}$/;

export const keyId = z
  .string()
  .regex(/^[0-9A-Za-z]{12}$/)
  .describe('The part of the key that names it; the first two characters name the cell');

const keyName = storableText({ min: 1, max: 200 });
const keyProject = storableText({ min: 1, max: 128 }).describe('A project id, or any text of yours');
const keyScopes = z
  .array(z.enum(permissions))
  .min(1)
  .max(64)
  .describe('Permissions that narrow the role; null for all of the role');

const keyNetworks = z
  .array(
    z
      .string()
      .regex(
        /^[0-9A-Fa-f.:]{2,45}(?:\/\d{1,3})?$/,
        'must be an address or a CIDR block, such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32',
      ),
  )
  .min(1)
  .max(64)
  .describe('The only networks that the key may be used from, IPv4 and IPv6; null for all');

/** What is known of a key after its plaintext was shown. */
export const apiKey = z.object({
  id: keyId,
  object: z.literal('api_key'),
  name: keyName,
  role: z.enum(roles),
  scopes: z.array(z.enum(permissions)).nullable(),
  project_id: z.string().nullable(),
  member_id: typeId('mem').nullable().describe('Whose key it is; it may do no more than its member'),
  tags,
  allowed_ips: z
    .array(z.string())
    .nullable()
    .describe('CIDR blocks that the key may be used from; null for all'),
  last_four: z.string().length(4).describe('The last four characters of the key'),
  created_by: z.string().describe('`operator`, or `key:` and the id of the key that made it'),
  version: z.number().int().min(1),
  created_at: timestamp,
  updated_at: timestamp,
  expires_at: timestamp.nullable(),
  revoked_at: timestamp.nullable(),
  last_used_at: timestamp.nullable().describe('To the minute'),
  rotated_at: timestamp.nullable().describe('When its secret was last replaced; null where it never was'),
  previous_secret_expires_at: timestamp
    .nullable()
    .describe('Until when the secret before is accepted as well; null where none is'),
});
export type ApiKeyObject = z.infer<typeof apiKey>;

/** The one answer that holds the plaintext. */
export const createdApiKey = apiKey.extend({
  key: z.string().regex(tenantKeyPattern).describe('The key itself; it is shown this once'),
});

const createBody = z.strictObject({
  name: keyName,
  role: z.enum(roles),
  scopes: keyScopes.nullable().default(null),
  project_id: keyProject.nullable().default(null),
  member_id: typeId('mem')
    .nullable()
    .default(null)
    .describe('Makes it a key of this member, for good: it may do no more than the member'),
  tags: tags.default({}),
  allowed_ips: keyNetworks.nullable().default(null),
  expires_at: timestamp.nullable().default(null).describe('Must lie in the future'),
});
export type CreateKeyBody = z.output<typeof createBody>;

const changeBody = z
  .strictObject({
    name: keyName.optional(),
    role: z.enum(roles).optional(),
    scopes: keyScopes.nullable().optional(),
    project_id: keyProject.nullable().optional(),
    tags: tags.optional(),
    allowed_ips: keyNetworks.nullable().optional(),
    expires_at: timestamp.nullable().optional().describe('Must lie in the future'),
  })
  .refine((body) => Object.keys(body).length > 0, { message: 'must hold at least one field' });
export type ChangeKeyBody = z.output<typeof changeBody>;

/** Of a tenant's key and of the operator's. */
export const rotateKeyBody = z.strictObject({
  overlap_seconds: z
    .number()
    .int()
    .min(0)
    .max(30 * 24 * 60 * 60)
    .default(24 * 60 * 60)
    .describe('How long the present secret is accepted beside the new one; 0 ends it at once'),
  expires_at: timestamp
    .nullable()
    .optional()
    .describe('The new end of the key, in the future; left out, it stays as it is'),
});
export type RotateKeyBody = z.output<typeof rotateKeyBody>;

const keyListQuery = listQuery.extend({
  unused_days: z.coerce
    .number()
    .int()
    .min(1)
    .max(3650)
    .optional()
    .describe('Only keys that still work and were neither used nor made for so many days'),
  beyond_policy: z
    .enum(['true', 'false'])
    .optional()
    .describe("`true`: only keys that still work and live longer than the tenant's key policy allows"),
});
export type KeyListQuery = z.output<typeof keyListQuery>;

const tenantParams = z.object({ id: typeId('ten') });
const tenantKeyParams = z.object({ id: typeId('ten'), key_id: z.string().max(100) });
const ownKeyParams = z.object({ id: z.string().max(100) });

const exampleTenant = 'ten_01h455vb4pex5vsknk084sn02q';
const exampleKey = '00a1B2c3D4e5';
const keyPage = { 200: { description: 'A page of keys', schema: listOf(apiKey) } } as const;
const oneKey = { 200: { description: 'The key, without its plaintext', schema: apiKey } } as const;
const rotatedKey = {
  200: { description: 'The key, with its new plaintext', schema: createdApiKey },
} as const;
const newKey = { 201: { description: 'The key, with its plaintext', schema: createdApiKey } } as const;

export const createTenantKey = endpoint({
  id: 'tenant_keys.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/tenants/{id}/keys',
  summary: 'Create a key for a tenant; the plaintext is shown this once',
  access: { permission: 'control:write' },
  params: tenantParams,
  body: createBody,
  responses: newKey,
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'key_lifetime_exceeded',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleTenant }, body: { name: 'Back end', role: 'developer' } },
});

export const rotateTenantKey = endpoint({
  id: 'tenant_keys.rotate',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/tenants/{id}/keys/{key_id}/rotate',
  summary: 'Give a key of a tenant a new secret, shown this once; both are accepted for the overlap',
  access: { permission: 'control:write' },
  params: tenantKeyParams,
  body: rotateKeyBody,
  responses: rotatedKey,
  errors: [
    'invalid_request',
    'not_found',
    'conflict',
    'key_lifetime_exceeded',
    'version_conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleTenant, key_id: exampleKey }, body: { overlap_seconds: 3600 } },
});

export const listTenantKeys = endpoint({
  id: 'tenant_keys.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/keys',
  summary: "List a tenant's keys, newest first, the revoked among them",
  access: { permission: 'control:read' },
  params: tenantParams,
  query: keyListQuery,
  responses: keyPage,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant }, query: { limit: '20' } },
});

export const readTenantKey = endpoint({
  id: 'tenant_keys.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/keys/{key_id}',
  summary: 'Read one key of a tenant',
  access: { permission: 'control:read' },
  params: tenantKeyParams,
  responses: oneKey,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, key_id: exampleKey } },
});

export const changeTenantKey = endpoint({
  id: 'tenant_keys.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/tenants/{id}/keys/{key_id}',
  summary: 'Change a key of a tenant; effective within one second',
  access: { permission: 'control:write' },
  params: tenantKeyParams,
  body: changeBody,
  responses: oneKey,
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'key_lifetime_exceeded',
    'version_conflict',
  ],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, key_id: exampleKey }, body: { role: 'viewer' } },
});

export const revokeTenantKey = endpoint({
  id: 'tenant_keys.revoke',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/tenants/{id}/keys/{key_id}',
  summary: 'Revoke a key of a tenant for good; effective within one second',
  access: { permission: 'control:write' },
  params: tenantKeyParams,
  responses: oneKey,
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, key_id: exampleKey } },
});

export const createKey = endpoint({
  id: 'keys.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/keys',
  summary: 'Create a key of your tenant that may do no more than yours; the plaintext is shown this once',
  access: { permission: 'keys:write' },
  body: createBody,
  responses: newKey,
  errors: [
    'invalid_request',
    'invalid_text',
    'key_lifetime_exceeded',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { body: { name: 'Back end', role: 'developer', scopes: ['chat:create', 'models:read'] } },
});

export const rotateKey = endpoint({
  id: 'keys.rotate',
  listener: 'public',
  method: 'POST',
  path: '/v1/keys/{id}/rotate',
  summary:
    'Give a key that grants no more than yours a new secret, shown this once; both are accepted for the overlap',
  access: { permission: 'keys:write' },
  params: ownKeyParams,
  body: rotateKeyBody,
  responses: rotatedKey,
  errors: [
    'invalid_request',
    'not_found',
    'conflict',
    'key_lifetime_exceeded',
    'version_conflict',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleKey }, body: { overlap_seconds: 3600 } },
});

export const listKeys = endpoint({
  id: 'keys.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/keys',
  summary: "List your tenant's keys, newest first, the revoked among them",
  access: { permission: 'keys:read' },
  query: keyListQuery,
  responses: keyPage,
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readKey = endpoint({
  id: 'keys.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/keys/{id}',
  summary: 'Read one key of your tenant',
  access: { permission: 'keys:read' },
  params: ownKeyParams,
  responses: oneKey,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleKey } },
});

export const changeKey = endpoint({
  id: 'keys.change',
  listener: 'public',
  method: 'PATCH',
  path: '/v1/keys/{id}',
  summary: 'Change a key of your tenant to what yours may grant; effective within one second',
  access: { permission: 'keys:write' },
  params: ownKeyParams,
  body: changeBody,
  responses: oneKey,
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'key_lifetime_exceeded',
    'version_conflict',
  ],
  idempotent: 'yes',
  example: { params: { id: exampleKey }, body: { name: 'Front end' } },
});

export const revokeKey = endpoint({
  id: 'keys.revoke',
  listener: 'public',
  method: 'DELETE',
  path: '/v1/keys/{id}',
  summary: 'Revoke a key of your tenant for good; effective within one second',
  access: { permission: 'keys:write' },
  params: ownKeyParams,
  responses: oneKey,
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleKey } },
});
