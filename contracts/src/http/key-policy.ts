import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { timestamp, typeId } from './shared.ts';

const maxLifetimeDays = z
  .number()
  .int()
  .min(1)
  .max(3650)
  .nullable()
  .describe('Days that a key may live from when it was made or last rotated; null for any number');
const allowNoExpiry = z.boolean().describe('Whether a key may have no expiry at all');

/** How long a tenant's keys may live. What it forbids is refused for new, changed and rotated keys; others go on. */
export const keyPolicy = z.object({
  object: z.literal('key_policy'),
  max_lifetime_days: maxLifetimeDays,
  allow_no_expiry: allowNoExpiry,
  keys_beyond: z
    .number()
    .int()
    .min(0)
    .describe('Keys that still work and live longer than the policy allows; see `beyond_policy` of the list'),
  version: z.number().int().min(0).describe('0 while nothing was ever set'),
  updated_at: timestamp.nullable(),
});
export type KeyPolicyObject = z.infer<typeof keyPolicy>;

const body = z.strictObject({
  max_lifetime_days: maxLifetimeDays.default(null),
  allow_no_expiry: allowNoExpiry.default(true),
});
export type KeyPolicyBody = z.output<typeof body>;

const params = z.object({ id: typeId('ten') });
const exampleTenant = 'ten_01h455vb4pex5vsknk084sn02q';
const examplePolicy = { max_lifetime_days: 90, allow_no_expiry: false };
const thePolicy = { 200: { description: 'The policy', schema: keyPolicy } } as const;
const theNewPolicy = { 200: { description: 'The policy as it is now', schema: keyPolicy } } as const;

export const readTenantKeyPolicy = endpoint({
  id: 'tenant_key_policy.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/key-policy',
  summary: "Read how long a tenant's keys may live, and how many live longer",
  access: { permission: 'control:read' },
  params,
  responses: thePolicy,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant } },
});

export const replaceTenantKeyPolicy = endpoint({
  id: 'tenant_key_policy.replace',
  listener: 'admin',
  method: 'PUT',
  path: '/control/v1/tenants/{id}/key-policy',
  summary: "Set how long a tenant's keys may live",
  access: { permission: 'control:write' },
  params,
  body,
  responses: theNewPolicy,
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant }, body: examplePolicy },
});

export const readKeyPolicy = endpoint({
  id: 'key_policy.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/key-policy',
  summary: "Read how long your tenant's keys may live, and how many live longer",
  access: { permission: 'policy:read' },
  responses: thePolicy,
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const replaceKeyPolicy = endpoint({
  id: 'key_policy.replace',
  listener: 'public',
  method: 'PUT',
  path: '/v1/key-policy',
  summary: "Set how long your tenant's keys may live",
  access: { permission: 'policy:write' },
  body,
  responses: theNewPolicy,
  errors: ['invalid_request', 'version_conflict'],
  idempotent: 'yes',
  example: { body: examplePolicy },
});
