import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import type { KeyHandle } from '../keys/keys.sql.ts';

/** What a cutoff is about. */
export type CutoffKind = 'tenant' | 'key' | 'member' | 'end_user';

/**
 * One thing that may end or narrow tokens.
 *
 * | kind | id | text | time |
 * | --- | --- | --- | --- |
 * | `token` | the revoked token's id | | |
 * | `cutoff` | the principal's id, empty for a tenant | its kind | not before |
 * | `state` | the tenant | its state | |
 * | `member_changed` | the member | | when it was removed, or null |
 * | `issuer_changed` | the issuer | its claim `iss` | when it fell, or null |
 * | `signing_key` | the key | | |
 */
export interface TokenChangeRow {
  readonly kind: 'token' | 'cutoff' | 'state' | 'member_changed' | 'issuer_changed' | 'signing_key';
  readonly tenant_id: string;
  readonly id: string;
  readonly text: string;
  readonly time: Date | null;
  /** Of the row that changed; 0 where it has none. */
  readonly version: bigint;
  /** From then on it says nothing any more; null for what has no such time. */
  readonly until: Date | null;
}

/** All revocations that may concern a living token, when a process starts. By the indexes on expires_at. */
export async function selectLivingRevocations(tx: SystemHandle): Promise<readonly TokenChangeRow[]> {
  const { rows } = await sql<TokenChangeRow>`
    select 'token' as kind, tenant_id::text, token_id as id, '' as text, null::timestamptz as time, 0::bigint as version,
           expires_at as until
    from tenant.revoked_tokens where expires_at > now()
    union all
    select 'cutoff', tenant_id::text, subject, kind, not_before, 0, expires_at
    from tenant.token_cutoffs where expires_at > now()
  `.execute(tx);
  return rows;
}

/** What changed in the last `windowMs` by the database's clock, each by its index on changed_at. */
export async function selectTokenChanges(
  tx: SystemHandle,
  windowMs: number,
): Promise<readonly TokenChangeRow[]> {
  const window = sql`now() - ${windowMs / 1000}::double precision * interval '1 second'`;
  const { rows } = await sql<TokenChangeRow>`
    select 'token' as kind, tenant_id::text, token_id as id, '' as text, null::timestamptz as time, 0::bigint as version,
           expires_at as until
    from tenant.revoked_tokens where changed_at > ${window}
    union all
    select 'cutoff', tenant_id::text, subject, kind, not_before, 0, expires_at
    from tenant.token_cutoffs where changed_at > ${window}
    union all
    select 'state', tenant_id::text, tenant_id::text, state, null, version, null
    from tenant.tenants where version > 1 and changed_at > ${window}
    union all
    select 'member_changed', tenant_id::text, member_id::text, '', removed_at, version, null
    from tenant.members where version > 1 and changed_at > ${window}
    union all
    select 'issuer_changed', tenant_id::text, issuer_id::text, issuer,
           case when deleted_at is not null or not enabled then changed_at end, version, null
    from tenant.issuers where changed_at > ${window}
    union all
    select 'signing_key', '', key_id, '', null, 0, null
    from platform.signing_keys where changed_at > ${window}
  `.execute(tx);
  return rows;
}

/** How many revocations by id of a tenant are alive, for their bound. By primary key, over the tenant's. */
export async function countRevokedTokens(tx: KeyHandle, tenantId: string): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from tenant.revoked_tokens where tenant_id = ${tenantId} and expires_at > now()
  `.execute(tx);
  return Number(rows[0]?.count ?? 0n);
}

export async function upsertRevokedToken(
  tx: KeyHandle,
  row: { tenantId: string; tokenId: string; revokedBy: string; expiresAt: Date },
): Promise<void> {
  await sql`
    insert into tenant.revoked_tokens (tenant_id, token_id, revoked_by, expires_at)
    values (${row.tenantId}, ${row.tokenId}, ${row.revokedBy}, ${row.expiresAt})
    on conflict (tenant_id, token_id) do update
    set expires_at = greatest(revoked_tokens.expires_at, excluded.expires_at), changed_at = clock_timestamp()
  `.execute(tx);
}

/**
 * How many cutoffs of a kind are alive beside the one of `subject`, for their bound; those that the tenant's own one covers
 * say nothing any more. By primary key, over the tenant's of that kind.
 */
export async function countOtherCutoffs(
  tx: KeyHandle,
  { tenantId, kind, subject }: { tenantId: string; kind: CutoffKind; subject: string },
): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from tenant.token_cutoffs c
    where c.tenant_id = ${tenantId} and c.kind = ${kind} and c.subject <> ${subject} and c.expires_at > now()
      and not exists (
        select from tenant.token_cutoffs t
        where t.tenant_id = ${tenantId} and t.kind = 'tenant' and t.subject = '' and t.not_before >= c.not_before
      )
  `.execute(tx);
  return Number(rows[0]?.count ?? 0n);
}

/** Never moves a cutoff back. */
export async function upsertCutoff(
  tx: KeyHandle,
  row: {
    tenantId: string;
    kind: CutoffKind;
    subject: string;
    notBefore: Date;
    revokedBy: string;
    expiresAt: Date;
  },
): Promise<Date> {
  const { rows } = await sql<{ not_before: Date }>`
    insert into tenant.token_cutoffs (tenant_id, kind, subject, not_before, revoked_by, expires_at)
    values (${row.tenantId}, ${row.kind}, ${row.subject}, ${row.notBefore}, ${row.revokedBy}, ${row.expiresAt})
    on conflict (tenant_id, kind, subject) do update
    set not_before = greatest(token_cutoffs.not_before, excluded.not_before), revoked_by = excluded.revoked_by,
        expires_at = greatest(token_cutoffs.expires_at, excluded.expires_at), changed_at = clock_timestamp()
    returning not_before
  `.execute(tx);
  return rows[0]?.not_before ?? row.notBefore;
}

/** Rows that no living token can meet; answers how many went. */
export async function deleteExpiredRevocations(tx: SystemHandle, now: Date): Promise<number> {
  const tokens = await sql`delete from tenant.revoked_tokens where expires_at < ${now}`.execute(tx);
  const cutoffs = await sql`delete from tenant.token_cutoffs where expires_at < ${now}`.execute(tx);
  return Number((tokens.numAffectedRows ?? 0n) + (cutoffs.numAffectedRows ?? 0n));
}
