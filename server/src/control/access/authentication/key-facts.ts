import type { Role, TenantState } from '@stoa/contracts';
import { type AppError, asTenantId, type OperatorPrincipal, type TenantPrincipal } from '#kernel';
import { allowedNetworks } from '../keys/allowed-ips.ts';
import { scopesFrom, tagsFrom } from '../keys/key-object.ts';
import { memberRoleIn, narrowerRole, projectsFrom } from '../members/member-role.ts';
import { invalidApiKey, keyRevoked, memberFell, tenantSuspended } from '../refusals.ts';
import type { KeyFacts, PreviousSecret } from './key-cache.ts';
import type { OperatorKeyLookupRow, TenantKeyRow } from './lookup.sql.ts';

const refusalByState: Readonly<Record<TenantState, AppError | null>> = {
  active: null,
  suspended: tenantSuspended,
  // Like a key that never was: the tenant is no more.
  deleted: invalidApiKey,
};

/** What a row says of a tenant's key, of its tenant and of its member. */
export function tenantKeyFacts(row: TenantKeyRow): KeyFacts<TenantPrincipal> {
  const tenantId = asTenantId(row.tenant_id);
  const scopes = scopesFrom(row.scopes);
  const ofTenant = refusalByState[row.state];
  const role = roleWithMember(row);
  const ofKey = row.revoked_at !== null ? keyRevoked : role === null ? memberFell : null;
  return {
    keyId: row.key_id,
    tenantId,
    hash: row.hash,
    previous: previousSecret(row),
    networks: allowedNetworks(row.allowed_ips),
    expiresAtMs: row.expires_at?.getTime() ?? Infinity,
    refusal: ofTenant === invalidApiKey ? ofTenant : (ofKey ?? ofTenant),
    version: Number(row.version),
    tenantVersion: Number(row.tenant_version),
    principal: (standing) => ({
      kind: 'tenant',
      tenantId,
      keyId: row.key_id,
      role: role ?? row.role,
      scopes: scopes && new Set(scopes),
      projectId: row.project_id,
      tags: tagsFrom(row.tags),
      standing,
      memberId: row.member_id ?? undefined,
      tokenId: undefined,
      endUser: undefined,
    }),
  };
}

/** The narrower of the key's role and its member's where the key works; null where the member has none there. */
function roleWithMember(row: TenantKeyRow): Role | null {
  if (row.member_id === null) return row.role;
  const { member_role: role, member_projects: projects, member_removed_at: removedAt } = row;
  const own =
    removedAt === null
      ? memberRoleIn({ role, projects: projectsFrom(projects ?? '[]') }, row.project_id)
      : null;
  return own && narrowerRole(own, row.role);
}

function previousSecret({
  previous_hash: hash,
  previous_until: until,
}: Pick<TenantKeyRow, 'previous_hash' | 'previous_until'>): PreviousSecret | null {
  return hash === null || until === null ? null : { hash, untilMs: until.getTime() };
}

/** What a row says of an operator's key. */
export function operatorKeyFacts(row: OperatorKeyLookupRow): KeyFacts<OperatorPrincipal> {
  const { key_id: keyId, role } = row;
  return {
    keyId,
    tenantId: null,
    hash: row.hash,
    previous: previousSecret(row),
    networks: null,
    expiresAtMs: row.expires_at?.getTime() ?? Infinity,
    refusal: row.revoked_at === null ? null : keyRevoked,
    version: Number(row.version),
    tenantVersion: 0,
    principal: () => ({ kind: 'operator', keyId, role }),
  };
}
