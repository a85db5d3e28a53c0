import { z } from 'zod';
import type { Endpoint } from '../endpoint.ts';
import { endpoint } from '../endpoint.ts';
import { timestamp, typeId } from './shared.ts';

/** What a limit can be narrowed to. Every operation belongs to one of them, by `routeClassOf`. */
export const routeClasses = ['chat', 'embeddings', 'read', 'write', 'auth'] as const;
export type RouteClass = (typeof routeClasses)[number];

/** Chats, embeddings, the making of access tokens, and of the rest what only reads and what does not. */
export function routeClassOf({ access, method }: Pick<Endpoint, 'access' | 'method'>): RouteClass {
  const permission = access === 'anyone' ? null : access.permission;
  if (permission === 'chat:create') return 'chat';
  if (permission === 'embeddings:create') return 'embeddings';
  if (permission === 'tokens:create') return 'auth';
  return method === 'GET' ? 'read' : 'write';
}

export const limitMeters = ['requests', 'tokens'] as const;
export type LimitMeter = (typeof limitMeters)[number];

export const limitSubjects = ['tenant', 'key', 'member', 'ip'] as const;
export type LimitSubject = (typeof limitSubjects)[number];

const amount = z.number().int().min(1).max(1_000_000_000);
const shared = {
  meter: z.enum(limitMeters).describe('What is counted'),
  route_class: z
    .enum(['any', ...routeClasses])
    .default('any')
    .describe('Which requests are counted; tokens are counted of `any`, `chat` and `embeddings` alone'),
  limit: amount.describe('So much in `period_s`, in the long run'),
  period_s: z.number().int().min(1).max(86_400).describe('Seconds'),
};

const tokensFit = {
  check: ({
    meter,
    route_class: routeClass,
  }: {
    meter: LimitMeter;
    route_class: 'any' | RouteClass;
  }): boolean => meter === 'requests' || ['any', 'chat', 'embeddings'].includes(routeClass),
  fault: { path: ['route_class'], message: 'tokens are counted of any, chat and embeddings alone' },
};

const burstGiven = amount.optional().describe('So much at once; by default `limit`');
const burst = amount.describe('So much at once');
const per = z
  .enum(limitSubjects)
  .describe(
    "Counted together for the tenant, or apart for each of its keys, members (of requests that are a member's) or client addresses (IPv6 by /64)",
  );

/** One limit of a tenant, as sent. */
const tenantRuleGiven = z
  .strictObject({ ...shared, per: per.default('tenant'), burst: burstGiven })
  .refine(tokensFit.check, tokensFit.fault);
/** One limit of a key, as sent. */
const keyRuleGiven = z
  .strictObject({ ...shared, burst: burstGiven })
  .refine(tokensFit.check, tokensFit.fault);

const tenantRule = z.object({ ...shared, per, burst });
const keyRule = z.object({ ...shared, burst });
export type TenantLimitRule = z.infer<typeof tenantRule>;
export type KeyLimitRule = z.infer<typeof keyRule>;

const version = z.number().int().min(0).describe('0 while nothing was ever set');

/** A tenant's limits as the operator sees them. A request has to keep all of them. */
export const tenantLimits = z.object({
  object: z.literal('limits'),
  rules: z.array(tenantRule).nullable().describe("As set; null where the deployment's defaults hold"),
  effective: z.array(tenantRule).describe('What holds now'),
  version,
  updated_at: timestamp.nullable(),
});
export type TenantLimitsObject = z.infer<typeof tenantLimits>;

/** What one key may, beside the limits of its tenant. */
export const keyLimits = z.object({
  object: z.literal('key_limits'),
  key_id: z.string(),
  rules: z.array(keyRule),
  version,
  updated_at: timestamp.nullable(),
});
export type KeyLimitsObject = z.infer<typeof keyLimits>;

const tenantBody = z.strictObject({
  rules: z
    .array(tenantRuleGiven)
    .max(16)
    .nullable()
    .describe("Empty for no limits at all; null for the deployment's defaults"),
});
export type TenantLimitsBody = z.output<typeof tenantBody>;

const keyBody = z.strictObject({
  rules: z
    .array(keyRuleGiven)
    .max(8)
    .describe('Beside those of the tenant, never in their place; empty for none'),
});
export type KeyLimitsBody = z.output<typeof keyBody>;

const tenantParams = z.object({ id: typeId('ten') });
const keyParams = z.object({ id: z.string().min(1).max(64) });
const exampleTenant = 'ten_01h455vb4pex5vsknk084sn02q';
const exampleTenantRules = {
  rules: [
    { meter: 'requests', route_class: 'any', per: 'tenant', limit: 6000, period_s: 60, burst: 1000 },
    { meter: 'tokens', route_class: 'chat', per: 'key', limit: 200_000, period_s: 60 },
  ],
};
const exampleKeyRules = {
  rules: [{ meter: 'requests', route_class: 'chat', limit: 60, period_s: 60, burst: 10 }],
};

export const readTenantLimits = endpoint({
  id: 'tenant_limits.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/limits',
  summary: "Read a tenant's rate limits",
  access: { permission: 'control:read' },
  params: tenantParams,
  responses: { 200: { description: 'The limits', schema: tenantLimits } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant } },
});

export const replaceTenantLimits = endpoint({
  id: 'tenant_limits.replace',
  listener: 'admin',
  method: 'PUT',
  path: '/control/v1/tenants/{id}/limits',
  summary: "Set a tenant's rate limits",
  access: { permission: 'control:write' },
  params: tenantParams,
  body: tenantBody,
  responses: { 200: { description: 'The limits as they are now', schema: tenantLimits } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant }, body: exampleTenantRules },
});

export const readOwnLimits = endpoint({
  id: 'limits.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/limits',
  summary: "Read your tenant's rate limits",
  access: { permission: 'policy:read' },
  responses: { 200: { description: 'The limits', schema: tenantLimits } },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const readKeyLimits = endpoint({
  id: 'key_limits.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/keys/{id}/limits',
  summary: "Read a key's own rate limits",
  access: { permission: 'keys:read' },
  params: keyParams,
  responses: { 200: { description: 'The limits', schema: keyLimits } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: '00a1B2c3D4e5' } },
});

export const replaceKeyLimits = endpoint({
  id: 'key_limits.replace',
  listener: 'public',
  method: 'PUT',
  path: '/v1/keys/{id}/limits',
  summary: "Set a key's own rate limits, which hold beside those of the tenant",
  access: { permission: 'keys:write' },
  params: keyParams,
  body: keyBody,
  responses: { 200: { description: 'The limits as they are now', schema: keyLimits } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: '00a1B2c3D4e5' }, body: exampleKeyRules },
});
