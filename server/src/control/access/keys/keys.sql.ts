import type { Role, TenantState } from '@stoa/contracts';
import { type RawBuilder, sql } from 'kysely';
import type { OperatorHandle, TenantHandle } from '#db';

/** Keys are managed by the operator and by a tenant's own keys; every query names the tenant for both. */
export type KeyHandle = OperatorHandle | TenantHandle;

export interface KeyRow {
  readonly tenant_id: string;
  readonly key_id: string;
  readonly last_four: string;
  readonly name: string;
  readonly role: Role;
  readonly scopes: readonly string[] | null;
  readonly project_id: string | null;
  /** UUID text. */
  readonly member_id: string | null;
  readonly tags: string;
  /** CIDR blocks; null for everywhere. */
  readonly allowed_ips: readonly string[] | null;
  readonly created_by: string;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
  readonly rotated_at: Date | null;
  readonly previous_until: Date | null;
}

export interface KeyValues {
  readonly name: string;
  readonly role: Role;
  readonly scopes: readonly string[] | null;
  readonly projectId: string | null;
  /** JSON text. */
  readonly tags: string;
  /** CIDR blocks in their one text; null for everywhere. */
  readonly allowedIps: readonly string[] | null;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
}

/** A new secret in the place of the present one. */
export interface NewSecret {
  readonly hash: Uint8Array;
  readonly lastFour: string;
  readonly rotatedAt: Date;
  /** Until when the secret that was is accepted too. */
  readonly previousUntil: Date;
}

/** Which keys a list shows; null for all. */
export type KeyFilter =
  | { readonly kind: 'unused'; readonly since: Date; readonly now: Date }
  | {
      readonly kind: 'beyond_policy';
      readonly maxLifetimeDays: number | null;
      readonly allowNoExpiry: boolean;
      readonly now: Date;
    };

const columns = sql`tenant_id, key_id, last_four, name, role, scopes, project_id, member_id, tags, allowed_ips, created_by, version,
  created_at, changed_at, expires_at, revoked_at, last_used_at, rotated_at, previous_until`;

export async function selectTenantState(tx: KeyHandle, tenantId: string): Promise<TenantState | null> {
  const { rows } = await sql<{ state: TenantState }>`
    select state from tenant.tenants where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0]?.state ?? null;
}

/** By primary key. */
export async function insertKey(
  tx: KeyHandle,
  key: {
    tenantId: string;
    keyId: string;
    hash: Uint8Array;
    lastFour: string;
    createdBy: string;
    memberId: string | null;
    createdAt: Date;
  },
  values: KeyValues,
): Promise<KeyRow> {
  const { rows } = await sql<KeyRow>`
    insert into tenant.api_keys
      (tenant_id, key_id, hash, last_four, name, role, scopes, project_id, member_id, tags, allowed_ips, created_by,
       created_at, expires_at)
    values
      (${key.tenantId}, ${key.keyId}, ${key.hash}, ${key.lastFour}, ${values.name}, ${values.role}, ${values.scopes},
       ${values.projectId}, ${key.memberId}, ${values.tags}, ${values.allowedIps}, ${key.createdBy}, ${key.createdAt}, ${values.expiresAt})
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/**
 * A page of a tenant's keys and one more, newest first; null where `after` is no key of the tenant.
 * By api_keys_by_age, backwards.
 */
export async function selectKeys(
  tx: KeyHandle,
  tenantId: string,
  page: { after: string | null; limit: number; filter: KeyFilter | null },
): Promise<readonly KeyRow[] | null> {
  const shown = page.filter === null ? sql`true` : condition(page.filter);
  if (page.after === null) {
    const { rows } = await sql<KeyRow>`
      select ${columns} from tenant.api_keys where tenant_id = ${tenantId} and ${shown}
      order by created_at desc, key_id desc limit ${page.limit + 1}
    `.execute(tx);
    return rows;
  }
  if ((await selectKey(tx, tenantId, page.after)) === undefined) return null;
  const { rows } = await sql<KeyRow>`
    select ${columns} from tenant.api_keys
    where tenant_id = ${tenantId} and ${shown} and (created_at, key_id) < (
      select cursor.created_at, cursor.key_id from tenant.api_keys cursor
      where cursor.tenant_id = ${tenantId} and cursor.key_id = ${page.after}
    )
    order by created_at desc, key_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

/** How many keys of a tenant a filter shows: by the primary key, over the tenant's keys. */
export async function countKeys(tx: KeyHandle, tenantId: string, filter: KeyFilter): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from tenant.api_keys where tenant_id = ${tenantId} and ${condition(filter)}
  `.execute(tx);
  return Number(rows[0]?.count ?? 0n);
}

/** Only keys that still work are shown by any filter. */
function condition(filter: KeyFilter): RawBuilder<unknown> {
  const works = sql`revoked_at is null and (expires_at is null or expires_at > ${filter.now})`;
  if (filter.kind === 'unused')
    return sql`${works} and coalesce(last_used_at, created_at) <= ${filter.since}`;
  const { maxLifetimeDays: days, allowNoExpiry } = filter;
  return sql`${works} and (
    (expires_at is null and not ${allowNoExpiry}::boolean)
    or expires_at > coalesce(rotated_at, created_at) + ${days}::integer * interval '24 hours'
  )`;
}

/** By primary key. */
export async function selectKey(tx: KeyHandle, tenantId: string, keyId: string): Promise<KeyRow | undefined> {
  const { rows } = await sql<KeyRow>`
    select ${columns} from tenant.api_keys where tenant_id = ${tenantId} and key_id = ${keyId}
  `.execute(tx);
  return rows[0];
}

/** Reads a key and keeps others from changing it until the transaction ends. By primary key. */
export async function lockKey(tx: KeyHandle, tenantId: string, keyId: string): Promise<KeyRow | undefined> {
  const { rows } = await sql<KeyRow>`
    select ${columns} from tenant.api_keys where tenant_id = ${tenantId} and key_id = ${keyId} for update
  `.execute(tx);
  return rows[0];
}

/** Writes what may change of a key; the caller holds its lock. By primary key. */
export async function updateKey(
  tx: KeyHandle,
  tenantId: string,
  keyId: string,
  values: KeyValues,
): Promise<KeyRow> {
  const { rows } = await sql<KeyRow>`
    update tenant.api_keys
    set name = ${values.name}, role = ${values.role}, scopes = ${values.scopes}, project_id = ${values.projectId},
        tags = ${values.tags}, allowed_ips = ${values.allowedIps}, expires_at = ${values.expiresAt}, revoked_at = ${values.revokedAt},
        version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and key_id = ${keyId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** Gives a key another secret; the caller holds its lock. The secret before the one that was is no more. By primary key. */
export async function replaceSecret(
  tx: KeyHandle,
  tenantId: string,
  keyId: string,
  { hash, lastFour, rotatedAt, previousUntil }: NewSecret,
  expiresAt: Date | null,
): Promise<KeyRow> {
  const { rows } = await sql<KeyRow>`
    update tenant.api_keys
    set previous_hash = hash, previous_until = ${previousUntil}, hash = ${hash}, last_four = ${lastFour},
        rotated_at = ${rotatedAt}, expires_at = ${expiresAt}, version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and key_id = ${keyId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

function one(rows: readonly KeyRow[]): KeyRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a key returned none');
  return row;
}
