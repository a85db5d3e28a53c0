import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { timestamp } from './shared.ts';

const targetList = z
  .array(z.string().min(1).max(200))
  .max(100)
  .refine((ids) => new Set(ids).size === ids.length, 'must not name a target twice');

const order = targetList.describe(
  'The targets that `auto` chooses from, first the one to prefer; empty for the platform order',
);
const inEffect = z.array(z.string()).describe('What `auto` chooses from at this moment, in order');
const version = z.number().int().min(0).describe('0 while nothing was ever set');

export const operatorPolicy = z.object({
  object: z.literal('policy'),
  order,
  in_effect: inEffect,
  version,
  updated_at: timestamp.nullable(),
});

export const tenantPolicy = z.object({
  object: z.literal('policy'),
  order,
  allowed: targetList
    .nullable()
    .describe('The only targets that this tenant uses, by name or by `auto`; null for all'),
  in_effect: inEffect,
  version,
  updated_at: timestamp.nullable(),
});

export const readOperatorPolicy = endpoint({
  id: 'operator_policy.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/policy',
  summary: 'Read the default order for `auto`',
  access: { permission: 'control:read' },
  responses: { 200: { description: 'The policy', schema: operatorPolicy } },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const replaceOperatorPolicy = endpoint({
  id: 'operator_policy.replace',
  listener: 'admin',
  method: 'PUT',
  path: '/control/v1/policy',
  summary: 'Set the default order for `auto`',
  access: { permission: 'control:write' },
  body: z.strictObject({ order }),
  responses: { 200: { description: 'The policy as it is now', schema: operatorPolicy } },
  errors: ['invalid_request', 'version_conflict'],
  idempotent: 'yes',
  example: { body: { order: ['extractive'] } },
});

export const readTenantPolicy = endpoint({
  id: 'policy.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/policy',
  summary: "Read this tenant's order for `auto` and its allowed targets",
  access: { permission: 'policy:read' },
  responses: { 200: { description: 'The policy', schema: tenantPolicy } },
  errors: [],
  idempotent: 'yes',
  example: {},
});

export const replaceTenantPolicy = endpoint({
  id: 'policy.replace',
  listener: 'public',
  method: 'PUT',
  path: '/v1/policy',
  summary: "Set this tenant's order for `auto` and its allowed targets",
  access: { permission: 'policy:write' },
  body: z.strictObject({ order: order.default([]), allowed: targetList.min(1).nullable().default(null) }),
  responses: { 200: { description: 'The policy as it is now', schema: tenantPolicy } },
  errors: ['invalid_request', 'version_conflict'],
  idempotent: 'yes',
  example: { body: { order: ['extractive'], allowed: null } },
});
