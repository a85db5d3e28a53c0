import type { WebhookDisabledReason, WebhookScheme } from '@stoa/contracts';
import { sql } from 'kysely';
import type { SystemHandle, TenantHandle } from '#db';

export interface EndpointRow {
  readonly tenant_id: string;
  readonly endpoint_id: string;
  readonly url: string;
  readonly description: string;
  readonly event_types: readonly string[];
  readonly disabled_reason: WebhookDisabledReason | null;
  readonly signature: WebhookScheme;
  readonly secret: string;
  readonly public_key: string | null;
  readonly previous_secret: string | null;
  readonly previous_until: Date | null;
  readonly failing_since: Date | null;
  readonly last_duration_ms: number | null;
  readonly round_at: Date | null;
  readonly round_token: string | null;
  readonly created_by: string;
  /** What waits and was made up to then is given up; null where nothing of it is left. */
  readonly given_up_until: Date | null;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
}

export interface EndpointName {
  readonly tenant_id: string;
  readonly endpoint_id: string;
}

export interface EndpointValues {
  readonly url: string;
  readonly description: string;
  readonly eventTypes: readonly string[];
  readonly disabledReason: WebhookDisabledReason | null;
}

export const endpointColumns = sql`tenant_id, endpoint_id, url, description, event_types, disabled_reason, signature, secret, public_key,
  previous_secret, previous_until, failing_since, last_duration_ms, round_at, round_token, created_by, given_up_until, version, created_at,
  changed_at`;

/** By primary key. */
export async function insertEndpoint(
  tx: TenantHandle,
  made: {
    readonly tenantId: string;
    readonly endpointId: string;
    readonly signature: WebhookScheme;
    readonly secret: string;
    readonly publicKey: string | null;
    readonly createdBy: string;
  },
  values: EndpointValues,
): Promise<EndpointRow> {
  const { rows } = await sql<EndpointRow>`
    insert into tenant.webhook_endpoints
      (tenant_id, endpoint_id, url, description, event_types, disabled_reason, signature, secret, public_key, created_by)
    values
      (${made.tenantId}, ${made.endpointId}, ${values.url}, ${values.description}, ${values.eventTypes}::text[],
       ${values.disabledReason}, ${made.signature}, ${made.secret}, ${made.publicKey}, ${made.createdBy})
    returning ${endpointColumns}
  `.execute(tx);
  return one(rows);
}

/**
 * How many a tenant has: over its rows of the primary key, of which there are few. Others who ask wait until the
 * transaction ends, by the lock of the oldest, so that of many at once none is counted past the bound.
 */
export async function countEndpoints(tx: TenantHandle, tenantId: string): Promise<number> {
  await sql`
    select 1 from tenant.webhook_endpoints where tenant_id = ${tenantId} and deleted_at is null
    order by created_at, endpoint_id limit 1 for update
  `.execute(tx);
  const { rows } = await sql<{ count: bigint }>`
    select count(*) as count from tenant.webhook_endpoints where tenant_id = ${tenantId} and deleted_at is null
  `.execute(tx);
  return Number(rows[0]?.count ?? 0n);
}

/** A page and one more, newest first; null where `after` is none of the tenant's. By webhook_endpoints_by_age, backwards. */
export async function selectEndpoints(
  tx: TenantHandle,
  tenantId: string,
  page: { readonly after: string | null; readonly limit: number },
): Promise<readonly EndpointRow[] | null> {
  if (page.after !== null && (await selectEndpoint(tx, tenantId, page.after)) === undefined) return null;
  const { rows } = await sql<EndpointRow>`
    select ${endpointColumns} from tenant.webhook_endpoints
    where tenant_id = ${tenantId} and deleted_at is null and (
      ${page.after}::uuid is null or (created_at, endpoint_id) < (
        select cursor.created_at, cursor.endpoint_id from tenant.webhook_endpoints cursor
        where cursor.tenant_id = ${tenantId} and cursor.endpoint_id = ${page.after}::uuid
      )
    )
    order by created_at desc, endpoint_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

/** By primary key. */
export async function selectEndpoint(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
): Promise<EndpointRow | undefined> {
  const { rows } = await sql<EndpointRow>`
    select ${endpointColumns} from tenant.webhook_endpoints
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and deleted_at is null
  `.execute(tx);
  return rows[0];
}

/** By primary key; others wait until the transaction ends. */
export async function lockEndpoint(
  tx: TenantHandle | SystemHandle,
  tenantId: string,
  endpointId: string,
): Promise<EndpointRow | undefined> {
  const { rows } = await sql<EndpointRow>`
    select ${endpointColumns} from tenant.webhook_endpoints
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and deleted_at is null for update
  `.execute(tx);
  return rows[0];
}

/** Writes what may change; the caller holds the lock. An endpoint that is enabled anew or has moved starts without a past. */
export async function updateEndpoint(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  values: EndpointValues,
): Promise<EndpointRow> {
  const { rows } = await sql<EndpointRow>`
    update tenant.webhook_endpoints
    set url = ${values.url}, description = ${values.description}, event_types = ${values.eventTypes}::text[],
        failing_since = case when disabled_reason is null and url = ${values.url} then failing_since end,
        last_duration_ms = case when url = ${values.url} then last_duration_ms end,
        disabled_reason = ${values.disabledReason}, version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
    returning ${endpointColumns}
  `.execute(tx);
  return one(rows);
}

/** The secret that was becomes the previous one; the caller holds the lock. */
export async function replaceSecret(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  made: { readonly secret: string; readonly publicKey: string | null; readonly previousUntil: Date | null },
): Promise<EndpointRow> {
  const { secret, publicKey, previousUntil } = made;
  const { rows } = await sql<EndpointRow>`
    update tenant.webhook_endpoints
    set previous_secret = case when ${previousUntil}::timestamptz is null then null else secret end,
        previous_until = ${previousUntil}, secret = ${secret}, public_key = ${publicKey}, version = version + 1,
        changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
    returning ${endpointColumns}
  `.execute(tx);
  return one(rows);
}

/** From now on nothing that waits now is sent, though it may be given up later only. By primary key; the caller holds the lock. */
export async function giveUpUntilNow(tx: TenantHandle, tenantId: string, endpointId: string): Promise<void> {
  await sql`
    update tenant.webhook_endpoints set given_up_until = clock_timestamp()
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
  `.execute(tx);
}

/** Nothing is left of what was given up. By primary key; the caller holds the lock. */
export async function forgetGivenUp(tx: TenantHandle, tenantId: string, endpointId: string): Promise<void> {
  await sql`
    update tenant.webhook_endpoints set given_up_until = null
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
  `.execute(tx);
}

/** Gone for its tenant, to be deleted with its deliveries by the upkeep. By primary key; the caller holds the lock. */
export async function markDeleted(tx: TenantHandle, tenantId: string, endpointId: string): Promise<void> {
  await sql`
    update tenant.webhook_endpoints
    set deleted_at = clock_timestamp(), disabled_reason = coalesce(disabled_reason, 'tenant'), round_at = null, round_token = null
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
  `.execute(tx);
}

/** With its deliveries. By primary key. */
export async function deleteEndpoint(tx: TenantHandle, tenantId: string, endpointId: string): Promise<void> {
  await sql`
    delete from tenant.webhook_endpoints where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
  `.execute(tx);
}

/** What these tenants' enabled webhooks subscribe to, one row for each webhook. By webhook_endpoints_by_age. */
export async function selectSubscriptions(
  tx: SystemHandle,
  tenantIds: readonly string[],
): Promise<readonly { readonly tenant_id: string; readonly event_types: readonly string[] }[]> {
  const { rows } = await sql<{ tenant_id: string; event_types: readonly string[] }>`
    select tenant_id, event_types from tenant.webhook_endpoints
    where tenant_id = any(${tenantIds}::uuid[]) and disabled_reason is null
  `.execute(tx);
  return rows;
}

function one(rows: readonly EndpointRow[]): EndpointRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a webhook returned none');
  return row;
}
