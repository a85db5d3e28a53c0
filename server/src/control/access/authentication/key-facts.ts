import type { TenantState } from '@stoa/contracts';
import { type AppError, asTenantId, type OperatorPrincipal, type TenantPrincipal } from '#kernel';
import { scopesFrom, tagsFrom } from '../keys/key-object.ts';
import { invalidApiKey, keyRevoked, tenantSuspended } from '../refusals.ts';
import type { KeyFacts } from './key-cache.ts';
import type { OperatorKeyLookupRow, TenantKeyRow } from './lookup.sql.ts';

const refusalByState: Readonly<Record<TenantState, AppError | null>> = {
  active: null,
  suspended: tenantSuspended,
  // Like a key that never was: the tenant is no more.
  deleted: invalidApiKey,
};

/** What a row says of a tenant's key and of its tenant. */
export function tenantKeyFacts(row: TenantKeyRow): KeyFacts<TenantPrincipal> {
  const tenantId = asTenantId(row.tenant_id);
  const scopes = scopesFrom(row.scopes);
  const ofTenant = refusalByState[row.state];
  return {
    keyId: row.key_id,
    tenantId,
    hash: row.hash,
    expiresAtMs: row.expires_at?.getTime() ?? Infinity,
    refusal: row.revoked_at !== null && ofTenant !== invalidApiKey ? keyRevoked : ofTenant,
    version: Number(row.version),
    tenantVersion: Number(row.tenant_version),
    principal: (standing) => ({
      kind: 'tenant',
      tenantId,
      keyId: row.key_id,
      role: row.role,
      scopes: scopes && new Set(scopes),
      projectId: row.project_id,
      tags: tagsFrom(row.tags),
      standing,
    }),
  };
}

/** What a row says of an operator's key. */
export function operatorKeyFacts(row: OperatorKeyLookupRow): KeyFacts<OperatorPrincipal> {
  const { key_id: keyId } = row;
  return {
    keyId,
    tenantId: null,
    hash: row.hash,
    expiresAtMs: row.expires_at?.getTime() ?? Infinity,
    refusal: row.revoked_at === null ? null : keyRevoked,
    version: Number(row.version),
    tenantVersion: 0,
    principal: () => ({ kind: 'operator', keyId }),
  };
}
