import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, timestamp, typeId } from './shared.ts';

/** One thing that an operator, or the platform by itself, did across the wall between tenants. */
export const auditEntry = z.object({
  id: z.string().regex(/^\d{1,19}$/),
  object: z.literal('audit_entry'),
  occurred_at: timestamp,
  operator: z.string().describe("An operator key's id, or `system:` and what ran by itself"),
  tenant_id: typeId('ten').nullable(),
  request_id: z.string().nullable(),
  reason: z.string(),
});
export type AuditEntryObject = z.infer<typeof auditEntry>;

export const listAuditEntries = endpoint({
  id: 'audit.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/audit',
  summary: 'List what operators did, newest first',
  access: 'operator',
  query: listQuery.extend({ tenant_id: typeId('ten').optional().describe('Only entries about this tenant') }),
  responses: { 200: { description: 'A page of entries', schema: listOf(auditEntry) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});
