import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { roles } from '../permissions.ts';
import { listOf, listQuery, storableText, timestamp, typeId } from './shared.ts';

/**
 * Members of a tenant: people, and what stands for them. A member's role holds for the whole tenant, or for listed
 * projects, or both; in a project the wider of the two counts. A key that belongs to a member may do no more than the
 * member may where the key works: in the key's project, or, where it has none, in the whole tenant.
 */
const memberName = storableText({ min: 1, max: 200 });
const memberRole = z.enum(roles).describe('In the whole tenant; null for a member of listed projects only');
const memberProject = z.strictObject({
  project_id: storableText({ min: 1, max: 128 }),
  role: z.enum(roles),
});
const memberProjects = z
  .array(memberProject)
  .max(100)
  .refine((list) => new Set(list.map((each) => each.project_id)).size === list.length, {
    message: 'must name each project once',
  });
const email = storableText({ min: 3, max: 254 }).regex(/^[^\s@]+@[^\s@]+$/, 'must be an e-mail address');
const externalId = storableText({ min: 1, max: 255 }).describe(
  "What an outside issuer's tokens name the member by; no two members of a tenant share one",
);

export const member = z.object({
  id: typeId('mem'),
  object: z.literal('member'),
  name: z.string(),
  email: z.string().nullable(),
  external_id: z.string().nullable(),
  role: memberRole.nullable(),
  projects: z.array(z.object({ project_id: z.string(), role: z.enum(roles) })),
  created_by: z.string().describe('`operator`, or `key:` and the id of the key that made the member'),
  version: z.number().int().min(1),
  created_at: timestamp,
  updated_at: timestamp,
  removed_at: timestamp.nullable(),
});
export type MemberObject = z.infer<typeof member>;

const createBody = z
  .strictObject({
    name: memberName,
    email: email.nullable().default(null),
    external_id: externalId.nullable().default(null),
    role: memberRole.nullable().default(null),
    projects: memberProjects.default([]),
  })
  .refine((body) => body.role !== null || body.projects.length > 0, {
    message: 'must hold a role in the tenant or in at least one project',
    path: ['role'],
  });
export type CreateMemberBody = z.output<typeof createBody>;

const changeBody = z
  .strictObject({
    name: memberName.optional(),
    email: email.nullable().optional(),
    external_id: externalId.nullable().optional(),
    role: memberRole.nullable().optional(),
    projects: memberProjects.optional(),
  })
  .refine((body) => Object.keys(body).length > 0, { message: 'must hold at least one field' });
export type ChangeMemberBody = z.output<typeof changeBody>;

const tenantParams = z.object({ id: typeId('ten') });
const tenantMemberParams = z.object({ id: typeId('ten'), member_id: z.string().max(100) });
const ownMemberParams = z.object({ id: z.string().max(100) });

const exampleTenant = 'ten_01h455vb4pex5vsknk084sn02q';
const exampleMember = 'mem_01h455vb4pex5vsknk084sn02q';
const exampleBody = { name: 'Ada', email: 'ada@example.com', role: 'developer' } as const;
const memberPage = { 200: { description: 'A page of members', schema: listOf(member) } } as const;
const oneMember = { 200: { description: 'The member', schema: member } } as const;
const newMember = { 201: { description: 'The member', schema: member } } as const;

export const createTenantMember = endpoint({
  id: 'tenant_members.create',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/tenants/{id}/members',
  summary: 'Add a member to a tenant',
  access: { permission: 'control:write' },
  params: tenantParams,
  body: createBody,
  responses: newMember,
  errors: [
    'invalid_request',
    'invalid_text',
    'not_found',
    'conflict',
    'already_exists',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { params: { id: exampleTenant }, body: exampleBody },
});

export const listTenantMembers = endpoint({
  id: 'tenant_members.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/members',
  summary: "List a tenant's members, newest first, the removed among them",
  access: { permission: 'control:read' },
  params: tenantParams,
  query: listQuery,
  responses: memberPage,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant }, query: { limit: '20' } },
});

export const readTenantMember = endpoint({
  id: 'tenant_members.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/tenants/{id}/members/{member_id}',
  summary: 'Read one member of a tenant',
  access: { permission: 'control:read' },
  params: tenantMemberParams,
  responses: oneMember,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, member_id: exampleMember } },
});

export const changeTenantMember = endpoint({
  id: 'tenant_members.change',
  listener: 'admin',
  method: 'PATCH',
  path: '/control/v1/tenants/{id}/members/{member_id}',
  summary: "Change a member of a tenant; the member's keys and tokens follow within one second",
  access: { permission: 'control:write' },
  params: tenantMemberParams,
  body: changeBody,
  responses: oneMember,
  errors: ['invalid_request', 'invalid_text', 'not_found', 'conflict', 'already_exists', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, member_id: exampleMember }, body: { role: 'viewer' } },
});

export const removeTenantMember = endpoint({
  id: 'tenant_members.remove',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/tenants/{id}/members/{member_id}',
  summary: "Remove a member of a tenant for good; the member's keys and tokens end within one second",
  access: { permission: 'control:write' },
  params: tenantMemberParams,
  responses: oneMember,
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleTenant, member_id: exampleMember } },
});

export const createMember = endpoint({
  id: 'members.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/members',
  summary: 'Add a member to your tenant who may do no more than you',
  access: { permission: 'members:write' },
  body: createBody,
  responses: newMember,
  errors: [
    'invalid_request',
    'invalid_text',
    'conflict',
    'already_exists',
    'idempotency_conflict',
    'idempotency_in_progress',
  ],
  idempotent: 'key',
  example: { body: exampleBody },
});

export const listMembers = endpoint({
  id: 'members.list',
  listener: 'public',
  method: 'GET',
  path: '/v1/members',
  summary: "List your tenant's members, newest first, the removed among them",
  access: { permission: 'members:read' },
  query: listQuery,
  responses: memberPage,
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const readMember = endpoint({
  id: 'members.read',
  listener: 'public',
  method: 'GET',
  path: '/v1/members/{id}',
  summary: 'Read one member of your tenant',
  access: { permission: 'members:read' },
  params: ownMemberParams,
  responses: oneMember,
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { id: exampleMember } },
});

export const changeMember = endpoint({
  id: 'members.change',
  listener: 'public',
  method: 'PATCH',
  path: '/v1/members/{id}',
  summary: "Change a member of your tenant; the member's keys and tokens follow within one second",
  access: { permission: 'members:write' },
  params: ownMemberParams,
  body: changeBody,
  responses: oneMember,
  errors: ['invalid_request', 'invalid_text', 'not_found', 'conflict', 'already_exists', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleMember }, body: { role: 'viewer' } },
});

export const removeMember = endpoint({
  id: 'members.remove',
  listener: 'public',
  method: 'DELETE',
  path: '/v1/members/{id}',
  summary: "Remove a member of your tenant for good; the member's keys and tokens end within one second",
  access: { permission: 'members:write' },
  params: ownMemberParams,
  responses: oneMember,
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: exampleMember } },
});
