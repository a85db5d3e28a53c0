import type { OperatorRole, Role, TenantState } from '@stoa/contracts';
import { sql } from 'kysely';
import type { SystemHandle } from '#db';

export interface TenantKeyRow {
  readonly key_id: string;
  readonly tenant_id: string;
  readonly hash: Uint8Array;
  readonly role: Role;
  readonly scopes: readonly string[] | null;
  readonly project_id: string | null;
  readonly tags: string;
  readonly allowed_ips: readonly string[] | null;
  readonly previous_hash: Uint8Array | null;
  readonly previous_until: Date | null;
  readonly member_id: string | null;
  /** Null where the key has no member, or the member has no role in the whole tenant. */
  readonly member_role: Role | null;
  /** JSON text; null where the key has no member. */
  readonly member_projects: string | null;
  readonly member_removed_at: Date | null;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly version: bigint;
  readonly state: TenantState;
  readonly tenant_version: bigint;
}

/** Keys with the state of their tenants and members. By api_keys_by_key_id, then the others' primary keys. */
export async function selectTenantKeys(
  tx: SystemHandle,
  keyIds: readonly string[],
): Promise<readonly TenantKeyRow[]> {
  const { rows } = await sql<TenantKeyRow>`
    select k.key_id, k.tenant_id, k.hash, k.role, k.scopes, k.project_id, k.tags, k.allowed_ips,
           k.previous_hash, k.previous_until, k.expires_at, k.revoked_at, k.version,
           k.member_id::text, m.role as member_role, m.projects as member_projects,
           m.removed_at as member_removed_at, t.state, t.version as tenant_version
    from tenant.api_keys k join tenant.tenants t on t.tenant_id = k.tenant_id
    left join tenant.members m on m.tenant_id = k.tenant_id and m.member_id = k.member_id
    where k.key_id = any(${keyIds}::text[])
  `.execute(tx);
  return rows;
}

export interface OperatorKeyLookupRow {
  readonly key_id: string;
  readonly role: OperatorRole;
  readonly hash: Uint8Array;
  readonly previous_hash: Uint8Array | null;
  readonly previous_until: Date | null;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly version: bigint;
}

/** By primary key. */
export async function selectOperatorKeysById(
  tx: SystemHandle,
  keyIds: readonly string[],
): Promise<readonly OperatorKeyLookupRow[]> {
  const { rows } = await sql<OperatorKeyLookupRow>`
    select key_id, role, hash, previous_hash, previous_until, expires_at, revoked_at, version
    from platform.operator_keys where key_id = any(${keyIds}::text[])
  `.execute(tx);
  return rows;
}

export interface ChangeRow {
  readonly kind: 'key' | 'operator_key' | 'tenant';
  readonly id: string;
  readonly version: bigint;
}

/**
 * What was changed in the last `windowMs` by the database's clock. By the partial indexes on changed_at, so its cost
 * follows the number of changes, not of rows; a first version is left out, since nobody can have it cached.
 */
export async function selectChanges(tx: SystemHandle, windowMs: number): Promise<readonly ChangeRow[]> {
  const window = sql`now() - ${windowMs / 1000}::double precision * interval '1 second'`;
  const { rows } = await sql<ChangeRow>`
    select 'key' as kind, key_id as id, version from tenant.api_keys where version > 1 and changed_at > ${window}
    union all
    select 'operator_key', key_id, version from platform.operator_keys where version > 1 and changed_at > ${window}
    union all
    select 'tenant', tenant_id::text, version from tenant.tenants where version > 1 and changed_at > ${window}
  `.execute(tx);
  return rows;
}

/**
 * Notes when keys were last used. A row is written at most once a minute, whatever number of processes serve the key;
 * one that somebody else is changing now is passed by, so two processes never wait for each other here.
 */
export async function updateTenantKeyUses(
  tx: SystemHandle,
  uses: readonly { tenantId: string; keyId: string; usedAt: Date }[],
): Promise<number> {
  const result = await sql`
    with used as (
      select k.tenant_id, k.key_id, u.used_at
      from unnest(${uses.map((use) => use.tenantId)}::uuid[], ${uses.map((use) => use.keyId)}::text[],
                  ${uses.map((use) => use.usedAt)}::timestamptz[]) as u (tenant_id, key_id, used_at)
      join tenant.api_keys k on k.tenant_id = u.tenant_id and k.key_id = u.key_id
      where k.last_used_at is null or k.last_used_at <= u.used_at - interval '1 minute'
      for update of k skip locked
    )
    update tenant.api_keys k set last_used_at = used.used_at
    from used where k.tenant_id = used.tenant_id and k.key_id = used.key_id
  `.execute(tx);
  return Number(result.numAffectedRows ?? 0n);
}

/** The same for the operator's keys. */
export async function updateOperatorKeyUses(
  tx: SystemHandle,
  uses: readonly { keyId: string; usedAt: Date }[],
): Promise<number> {
  const result = await sql`
    with used as (
      select k.key_id, u.used_at
      from unnest(${uses.map((use) => use.keyId)}::text[], ${uses.map((use) => use.usedAt)}::timestamptz[])
        as u (key_id, used_at)
      join platform.operator_keys k on k.key_id = u.key_id
      where k.last_used_at is null or k.last_used_at <= u.used_at - interval '1 minute'
      for update of k skip locked
    )
    update platform.operator_keys k set last_used_at = used.used_at
    from used where k.key_id = used.key_id
  `.execute(tx);
  return Number(result.numAffectedRows ?? 0n);
}
