import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/**
 * `active` is served; `suspended` is refused with `tenant_suspended`; `deleted` is refused like a tenant that never
 * was, can be restored until `purge_after`, and loses its rows after it.
 */
export const tenantStates = ['active', 'suspended', 'deleted'] as const;
export type TenantState = (typeof tenantStates)[number];

/** Names need not be unique, and come back byte for byte. */
export const tenantName = storableText({ min: 1, max: 200 });

export const tenant = z.object({
  id: typeId('ten'),
  object: z.literal('tenant'),
  name: tenantName,
  state: z.enum(tenantStates),
  version: z.number().int().min(1),
  created_at: timestamp,
  updated_at: timestamp,
  suspended_at: timestamp.nullable(),
  deleted_at: timestamp.nullable(),
  purge_after: timestamp.nullable().describe('Until when a deleted tenant can be restored'),
});
export type TenantObject = z.infer<typeof tenant>;

export const tenantParams = z.object({ id: typeId('ten') });

const exampleParams = { id: 'ten_01h455vb4pex5vsknk084sn02q' } as const;

export const createTenant = endpoint({
  id: 'tenants.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/tenants',
  summary: 'Create a tenant',
  access: { permission: 'control:write' },
  body: z.strictObject({ name: tenantName }),
  responses: { 201: { description: 'The tenant', schema: tenant } },
  errors: ['invalid_request', 'invalid_text', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: { body: { name: 'Acme' } },
});

export const listTenants = endpoint({
  id: 'tenants.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants',
  summary: 'List tenants of every state, newest first',
  access: { permission: 'control:read' },
  query: listQuery.extend({ state: z.enum(tenantStates).optional().describe('Only tenants in this state') }),
  responses: { 200: { description: 'A page of tenants', schema: listOf(tenant) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readTenant = endpoint({
  id: 'tenants.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}',
  summary: 'Read one tenant',
  access: { permission: 'control:read' },
  params: tenantParams,
  responses: { 200: { description: 'The tenant', schema: tenant } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: exampleParams },
});

export const changeTenant = endpoint({
  id: 'tenants.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/tenants/{id}',
  summary: 'Rename, suspend, resume or restore a tenant; effective within one second',
  access: { permission: 'control:write' },
  params: tenantParams,
  body: z
    .strictObject({
      name: tenantName.optional(),
      state: z
        .enum(['active', 'suspended'])
        .optional()
        .describe('`active` also restores a deleted tenant before its `purge_after`'),
      reason: storableText({ min: 1, max: 500 }).optional().describe('Kept in the audit entry'),
    })
    .refine((body) => body.name !== undefined || body.state !== undefined, {
      message: 'must hold a name or a state',
    }),
  responses: { 200: { description: 'The tenant as it is now', schema: tenant } },
  errors: ['invalid_request', 'invalid_text', 'not_found', 'conflict', 'version_conflict'],
  idempotent: 'yes',
  example: { params: exampleParams, body: { state: 'suspended', reason: 'Unpaid invoice' } },
});

export const deleteTenant = endpoint({
  id: 'tenants.delete',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/tenants/{id}',
  summary: 'Delete a tenant: its keys stop working within one second, its rows go after 30 days of grace',
  access: { permission: 'control:write' },
  params: tenantParams,
  responses: { 200: { description: 'The deleted tenant, with the end of its grace', schema: tenant } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: exampleParams },
});
