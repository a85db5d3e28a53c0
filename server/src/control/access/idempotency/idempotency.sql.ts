import { type RawBuilder, sql } from 'kysely';
import type { OperatorHandle, SystemHandle, TenantHandle } from '#db';

/** What names a remembered answer. `tenantId` null: a caller of the operator's. */
export interface IdempotencyPlace {
  readonly tenantId: string | null;
  readonly keyId: string;
  readonly endpointId: string;
  readonly idempotencyKey: string;
}

export interface StoredRequest {
  readonly body_hash: string;
  readonly claim_id: string;
  readonly answer: string | null;
}

/** Claims go through a door of their own. */
type ClaimHandle = TenantHandle | SystemHandle;

/** The row of a place, in the table of its kind of caller. By primary key. */
function isPlace(place: IdempotencyPlace): RawBuilder<boolean> {
  const own = sql<boolean>`stored.key_id = ${place.keyId} and stored.endpoint_id = ${place.endpointId}
    and stored.idempotency_key = ${place.idempotencyKey}`;
  return place.tenantId === null ? own : sql`stored.tenant_id = ${place.tenantId} and ${own}`;
}

/**
 * Claims a place for whoever wants to run its request: one that is free, one that has expired, and one whose claim is
 * older than `abandonedBefore`, has no answer and was for the same body. The answer is the row as it is afterwards: the
 * caller holds the claim where `claim_id` is its own. One statement, so of two that claim at once one wins.
 */
export async function claimPlace(
  tx: ClaimHandle,
  place: IdempotencyPlace,
  claim: {
    claimId: string;
    bodyHash: string;
    now: Date;
    abandonedBefore: Date;
    expiresAt: Date;
  },
): Promise<StoredRequest | null> {
  const table = place.tenantId === null ? sql`platform.idempotency_keys` : sql`tenant.idempotency_keys`;
  const identity = place.tenantId === null ? sql`key_id` : sql`tenant_id, key_id`;
  const identityValues =
    place.tenantId === null ? sql`${place.keyId}` : sql`${place.tenantId}, ${place.keyId}`;
  const { rows } = await sql<StoredRequest>`
    insert into ${table} as stored
      (${identity}, endpoint_id, idempotency_key, body_hash, claim_id, claimed_at, expires_at)
    values (${identityValues}, ${place.endpointId}, ${place.idempotencyKey}, ${claim.bodyHash}, ${claim.claimId},
      ${claim.now}, ${claim.expiresAt})
    on conflict (${identity}, endpoint_id, idempotency_key) do update
      set body_hash = excluded.body_hash, claim_id = excluded.claim_id, claimed_at = excluded.claimed_at,
          expires_at = excluded.expires_at, answer = null
      where stored.expires_at <= ${claim.now}
        or (stored.answer is null and stored.claimed_at <= ${claim.abandonedBefore}
            and stored.body_hash = excluded.body_hash)
    returning body_hash, claim_id, answer
  `.execute(tx);
  const [claimed] = rows;
  if (claimed !== undefined) return claimed;
  const { rows: present } = await sql<StoredRequest>`
    select body_hash, claim_id, answer from ${table} stored where ${isPlace(place)}
  `.execute(tx);
  return present[0] ?? null;
}

/**
 * Keeps the answer under a claim, in the caller's transaction; false where the claim was taken over. Until the commit,
 * whoever would take the claim over or give it back waits for the row. By primary key.
 */
export async function storeAnswer(
  tx: TenantHandle | OperatorHandle,
  place: IdempotencyPlace,
  claimId: string,
  answer: string,
): Promise<boolean> {
  const table = place.tenantId === null ? sql`platform.idempotency_keys` : sql`tenant.idempotency_keys`;
  const { rows } = await sql`
    update ${table} stored set answer = ${answer}
    where ${isPlace(place)} and stored.claim_id = ${claimId}
    returning stored.claim_id
  `.execute(tx);
  return rows.length === 1;
}

/** Gives a claim back, so that the request may be sent again at once. By primary key. */
export async function releaseClaim(tx: ClaimHandle, place: IdempotencyPlace, claimId: string): Promise<void> {
  const table = place.tenantId === null ? sql`platform.idempotency_keys` : sql`tenant.idempotency_keys`;
  await sql`
    delete from ${table} stored where ${isPlace(place)} and stored.claim_id = ${claimId} and stored.answer is null
  `.execute(tx);
}

/** Deletes up to `limit` expired rows of each table; answers how many went. By the indexes on expires_at. */
export async function deleteExpired(tx: SystemHandle, now: Date, limit: number): Promise<number> {
  const ofTenants = await sql`
    delete from tenant.idempotency_keys where (tenant_id, key_id, endpoint_id, idempotency_key) in (
      select tenant_id, key_id, endpoint_id, idempotency_key from tenant.idempotency_keys
      where expires_at <= ${now} order by expires_at limit ${limit}
    )
  `.execute(tx);
  const ofOperator = await sql`
    delete from platform.idempotency_keys where (key_id, endpoint_id, idempotency_key) in (
      select key_id, endpoint_id, idempotency_key from platform.idempotency_keys
      where expires_at <= ${now} order by expires_at limit ${limit}
    )
  `.execute(tx);
  return Number((ofTenants.numAffectedRows ?? 0n) + (ofOperator.numAffectedRows ?? 0n));
}
