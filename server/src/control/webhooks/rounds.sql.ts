import { sql } from 'kysely';
import type { SystemHandle, TenantHandle } from '#db';
import { endpointColumns, type EndpointName, type EndpointRow } from './webhooks.sql.ts';

/** A round of deliveries of one endpoint: at most one is under way or planned, the one whose token its row holds. */

export interface Subscriber extends EndpointName {
  readonly event_types: readonly string[];
  readonly created_at: Date;
}

/**
 * Locks the endpoints of these tenants that are enabled (of a deleted tenant none is), until the transaction ends. So a round that looks for more to do
 * waits for what is being written, and sees it. In the order of the key, so that two never wait for each other.
 */
export async function lockEnabled(
  tx: SystemHandle,
  tenantIds: readonly string[],
): Promise<readonly Subscriber[]> {
  const { rows } = await sql<Subscriber>`
    select tenant_id, endpoint_id, event_types, created_at from tenant.webhook_endpoints
    where tenant_id = any(${tenantIds}::uuid[]) and disabled_reason is null
      and tenant_id not in (
        select tenant_id from tenant.tenants where tenant_id = any(${tenantIds}::uuid[]) and state = 'deleted'
      )
    order by tenant_id, endpoint_id
    for update
  `.execute(tx);
  return rows;
}

/** Plans a round now for each of these endpoints that has none due; answers those, with their tokens. */
export async function planRounds(
  tx: SystemHandle,
  endpoints: readonly EndpointName[],
): Promise<readonly (EndpointName & { readonly round_token: string })[]> {
  const { rows } = await sql<EndpointName & { round_token: string }>`
    update tenant.webhook_endpoints e
    set round_at = clock_timestamp(), round_token = gen_random_uuid()
    from unnest(
      ${endpoints.map((one) => one.tenant_id)}::uuid[], ${endpoints.map((one) => one.endpoint_id)}::uuid[]
    ) as wanted (tenant_id, endpoint_id)
    where e.tenant_id = wanted.tenant_id and e.endpoint_id = wanted.endpoint_id
      and (e.round_at is null or e.round_at > clock_timestamp())
    returning e.tenant_id, e.endpoint_id, e.round_token
  `.execute(tx);
  return rows;
}

/** Whether the handle's tenant is suspended, so that nothing is sent now, or deleted, so that nothing is sent any more. By primary key. */
export async function standingOf(tx: TenantHandle, tenantId: string): Promise<string> {
  const { rows } = await sql<{ state: string }>`
    select state from tenant.tenants where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0]?.state ?? 'deleted';
}

/** Plans the next round of an endpoint, or (`at` null) none. The caller holds the lock of its row. */
export async function planRound(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  round: { readonly at: Date; readonly token: string } | null,
): Promise<void> {
  await sql`
    update tenant.webhook_endpoints set round_at = ${round?.at ?? null}, round_token = ${round?.token ?? null}
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
  `.execute(tx);
}

/** What attempts say of their endpoint, unless it has moved since; the caller holds no lock. By primary key. */
export async function noteHealth(
  tx: TenantHandle,
  tenantId: string,
  { endpoint_id: endpointId, url }: Pick<EndpointRow, 'endpoint_id' | 'url'>,
  { hasFailed, durationMs }: { readonly hasFailed: boolean; readonly durationMs: number },
): Promise<Date | null> {
  const { rows } = await sql<{ failing_since: Date | null }>`
    update tenant.webhook_endpoints
    set failing_since = case when ${hasFailed} then coalesce(failing_since, clock_timestamp()) end,
        last_duration_ms = ${durationMs}
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and url = ${url}
    returning failing_since
  `.execute(tx);
  return rows[0]?.failing_since ?? null;
}

/**
 * Endpoints whose round is due for so long that its job must have been lost, and those with a backlog to give up that
 * nothing else would come to soon. A pass over the endpoints.
 */
export async function takeLostRounds(
  tx: SystemHandle,
  lostAfterMs: number,
): Promise<readonly (EndpointName & { readonly round_token: string })[]> {
  const { rows } = await sql<EndpointName & { round_token: string }>`
    update tenant.webhook_endpoints set round_at = clock_timestamp(), round_token = gen_random_uuid()
    where (tenant_id, endpoint_id) in (
      select tenant_id, endpoint_id from tenant.webhook_endpoints
      where deleted_at is null
        and (round_at < clock_timestamp() - ${lostAfterMs}::float8 * interval '1 millisecond'
          or given_up_until is not null and (round_at is null or round_at > clock_timestamp()))
      order by round_at limit 1000
      for update skip locked
    )
    returning tenant_id, endpoint_id, round_token
  `.execute(tx);
  return rows;
}

/** Secrets whose overlap is over. Nobody signs with them any more; this is so that they lie nowhere. A pass over the endpoints. */
export async function forgetOldSecrets(tx: SystemHandle): Promise<void> {
  await sql`
    update tenant.webhook_endpoints set previous_secret = null, previous_until = null
    where previous_until < clock_timestamp()
  `.execute(tx);
}

/** Endpoints that are gone for their tenants and still have rows, longest first. A pass over the endpoints. */
export async function selectDeleted(tx: SystemHandle, limit: number): Promise<readonly EndpointName[]> {
  const { rows } = await sql<EndpointName>`
    select tenant_id, endpoint_id from tenant.webhook_endpoints where deleted_at is not null
    order by deleted_at limit ${limit}
  `.execute(tx);
  return rows;
}

/** The row of an endpoint that is deleted and has no deliveries any more. By primary key. */
export async function removeEndpoint(
  tx: SystemHandle,
  { tenant_id: tenantId, endpoint_id: endpointId }: EndpointName,
): Promise<void> {
  await sql`
    delete from tenant.webhook_endpoints
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and deleted_at is not null
  `.execute(tx);
}

/** By primary key; the caller holds the lock. */
export async function disableEndpoint(
  tx: SystemHandle,
  tenantId: string,
  endpointId: string,
  reason: 'gone' | 'failing',
): Promise<EndpointRow> {
  const { rows } = await sql<EndpointRow>`
    update tenant.webhook_endpoints
    set disabled_reason = ${reason}, version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
    returning ${endpointColumns}
  `.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new Error('a webhook that is locked was not there');
  return row;
}
