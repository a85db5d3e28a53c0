import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/** What an act came with: a tenant's key or a token, an operator's key; or the platform did it by itself. */
export const auditActorTypes = ['key', 'token', 'operator', 'system'] as const;
export const auditOutcomes = ['succeeded', 'denied'] as const;

const resource = z.object({ type: z.string(), id: z.string() });

const entryFields = {
  id: typeId('aud'),
  object: z.literal('audit_entry'),
  occurred_at: timestamp,
  action: z
    .string()
    .describe(
      "The named act, mostly an operation's id; of what was denied, the permission that was missing, or that of the operation where something else was at fault",
    ),
  resource: resource.nullable().describe('What it was done to'),
  outcome: z.enum(auditOutcomes),
  count: z
    .number()
    .int()
    .min(1)
    .describe('How many acts the entry stands for; denied ones of a minute are one entry'),
  before: z.unknown().describe('The resource before, without secrets; null where there was none'),
  after: z.unknown().describe('The resource after, without secrets; null where it is gone'),
  client_address: z.string().nullable(),
  user_agent: z.string().nullable(),
  request_id: z.string().nullable().describe('Of denied acts, the last one'),
} as const;

const actorFields = {
  type: z.enum(auditActorTypes),
  role: z.string().nullable().describe('As whom'),
  member_id: z.string().nullable().describe('Whose key or token it was, where it is a member’s'),
  token_id: z.string().nullable(),
  end_user: z.string().nullable().describe('Of a denied act, the end user that its token was for'),
} as const;

/** What a tenant sees: its own acts, and what was done to it from outside, without who it was and from where. */
export const ownAuditEntry = z.object({
  ...entryFields,
  actor: z.object({
    ...actorFields,
    id: z.string().nullable().describe("Null for the operator, whose keys are no tenant's business"),
  }),
});
export type OwnAuditEntryObject = z.infer<typeof ownAuditEntry>;

/** What the operator sees: acts of tenants, of operators, and of the platform by itself. */
export const auditEntry = z.object({
  ...entryFields,
  actor: z.object({
    ...actorFields,
    id: z.string().describe('A key, an issuer of tokens, or `system:` and a name'),
  }),
  operator: z
    .string()
    .nullable()
    .describe("An operator key's id, or `system:` and what ran by itself; null where a tenant acted"),
  tenant_id: typeId('ten').nullable().describe('Whose it is, where it is a tenant’s'),
  reason: z.string().describe('The act in words; of a tenant’s act, its name'),
});
export type AuditEntryObject = z.infer<typeof auditEntry>;

const word = storableText({ min: 1, max: 200 });

const filterFields = {
  from: timestamp.optional().describe('At this time or later'),
  to: timestamp.optional().describe('Before this time'),
  actor: word.optional().describe('The key that was used, also by a token that was made with it'),
  member: typeId('mem').optional(),
  action: word.optional(),
  resource_type: word.optional(),
  resource_id: word.optional().describe('Needs resource_type'),
  outcome: z.enum(auditOutcomes).optional(),
} as const;

const place = { after: typeId('aud').optional().describe('The `last_id` of the page before') } as const;
const tenantFilter = {
  tenant_id: typeId('ten').optional().describe('Only entries about this tenant'),
} as const;

const exported = {
  200: {
    description: 'One entry a line, newest first; an answer that is cut off is not whole',
    contentType: 'application/x-ndjson',
  },
} as const;

export const listAuditEntries = endpoint({
  id: 'audit.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/audit',
  summary: 'List what was changed, denied, and done by operators, newest first',
  access: { permission: 'control:read' },
  query: listQuery.extend({ ...place, ...filterFields, ...tenantFilter }),
  responses: { 200: { description: 'A page of entries', schema: listOf(auditEntry) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const exportAuditEntries = endpoint({
  id: 'audit.export',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/audit/export',
  summary: 'All entries of a filter, as lines of JSON, newest first',
  access: { permission: 'control:read' },
  query: z.object({ ...place, ...filterFields, ...tenantFilter }),
  responses: exported,
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { outcome: 'denied' } },
});

export const listOwnAuditEntries = endpoint({
  id: 'audit.list-own',
  listener: 'public',
  method: 'GET',
  path: '/v1/audit',
  summary: 'List what was changed and denied in this tenant, newest first',
  access: { permission: 'audit:read' },
  query: listQuery.extend({ ...place, ...filterFields }),
  responses: { 200: { description: 'A page of entries', schema: listOf(ownAuditEntry) } },
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { action: 'keys.create' } },
});

export const exportOwnAuditEntries = endpoint({
  id: 'audit.export-own',
  listener: 'public',
  method: 'GET',
  path: '/v1/audit/export',
  summary: 'All entries of this tenant that a filter names, as lines of JSON, newest first',
  access: { permission: 'audit:read' },
  query: z.object({ ...place, ...filterFields }),
  responses: exported,
  errors: ['invalid_request', 'invalid_text'],
  idempotent: 'yes',
  example: { query: { from: '2026-11-01T00:00:00Z' } },
});
