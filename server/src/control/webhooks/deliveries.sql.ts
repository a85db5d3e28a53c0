import type { WebhookDeliveryState } from '@stoa/contracts';
import { type RawBuilder, sql } from 'kysely';
import type { SystemHandle, TenantHandle } from '#db';
import type { EndpointName } from './webhooks.sql.ts';

export interface DeliveryRow {
  readonly tenant_id: string;
  readonly delivery_id: string;
  readonly endpoint_id: string;
  readonly event_id: string;
  readonly event_type: string;
  readonly payload: string;
  readonly is_test: boolean;
  readonly traceparent: string | null;
  readonly state: WebhookDeliveryState;
  readonly attempts: number;
  readonly failures: number;
  readonly next_attempt_at: Date | null;
  /** A JSON array. */
  readonly attempt_log: string;
  readonly created_at: Date;
  readonly delivered_at: Date | null;
}

export interface NewDelivery {
  readonly tenantId: string;
  readonly deliveryId: string;
  readonly endpointId: string;
  readonly eventId: string;
  readonly eventType: string;
  readonly payload: string;
  readonly traceparent: string | null;
}

/** What came of an attempt. */
export interface Settlement {
  readonly deliveryId: string;
  readonly state: WebhookDeliveryState;
  /** Whether an attempt was made at all. */
  readonly isCounted: boolean;
  readonly failures: number;
  readonly nextAttemptAt: Date | null;
  readonly attemptLog: string;
  readonly deliveredAt: Date | null;
}

const columns = sql`tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, is_test, traceparent, state, attempts,
  failures, next_attempt_at, attempt_log, created_at, delivered_at`;

/** Many at once, over any number of tenants. One statement. */
export async function insertDeliveries(tx: SystemHandle, made: readonly NewDelivery[]): Promise<void> {
  const column = <Value>(pick: (delivery: NewDelivery) => Value): Value[] => made.map(pick);
  await sql`
    insert into tenant.webhook_deliveries
      (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, traceparent, next_attempt_at)
    select tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, traceparent, clock_timestamp()
    from unnest(
      ${column((one) => one.tenantId)}::uuid[], ${column((one) => one.deliveryId)}::uuid[],
      ${column((one) => one.endpointId)}::uuid[], ${column((one) => one.eventId)}::uuid[],
      ${column((one) => one.eventType)}::text[], ${column((one) => one.payload)}::text[],
      ${column((one) => one.traceparent)}::text[]
    ) as made (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, traceparent)
  `.execute(tx);
}

/** One delivery of a test message, due now. */
export async function insertTestDelivery(
  tx: TenantHandle,
  made: Omit<NewDelivery, 'traceparent'>,
): Promise<DeliveryRow> {
  const { rows } = await sql<DeliveryRow>`
    insert into tenant.webhook_deliveries
      (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, is_test, next_attempt_at)
    values
      (${made.tenantId}, ${made.deliveryId}, ${made.endpointId}, ${made.eventId}, ${made.eventType}, ${made.payload}, true,
       clock_timestamp())
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

export interface DeliveryPage {
  readonly after: string | null;
  readonly limit: number;
  readonly state: string | null;
  readonly eventType: string | null;
}

/** A page and one more, newest first; null where `after` is none of the endpoint's. */
export async function selectDeliveries(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  page: DeliveryPage,
): Promise<readonly DeliveryRow[] | null> {
  if (page.after !== null && (await selectDelivery(tx, tenantId, endpointId, page.after)) === undefined)
    return null;
  const { rows } = await deliveriesQuery(tenantId, endpointId, page).execute(tx);
  return rows;
}

/** By webhook_deliveries_by_endpoint; what failed by webhook_deliveries_failed. A type that is rare is a walk over the rest. */
export function deliveriesQuery(
  tenantId: string,
  endpointId: string,
  page: DeliveryPage,
): RawBuilder<DeliveryRow> {
  return sql<DeliveryRow>`
    select ${columns} from tenant.webhook_deliveries
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
      and ${given(page.after, (after) => sql`delivery_id < ${after}::uuid`)}
      and ${given(page.state, (state) => sql`state = ${state}`)}
      and ${given(page.eventType, (type) => sql`event_type = ${type}`)}
    order by delivery_id desc limit ${page.limit + 1}
  `;
}

function given(value: string | null, condition: (value: string) => RawBuilder<unknown>): RawBuilder<unknown> {
  return value === null ? sql`true` : condition(value);
}

/** By primary key. */
export async function selectDelivery(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  deliveryId: string,
): Promise<DeliveryRow | undefined> {
  const { rows } = await sql<DeliveryRow>`
    select ${columns} from tenant.webhook_deliveries
    where tenant_id = ${tenantId} and delivery_id = ${deliveryId} and endpoint_id = ${endpointId}
  `.execute(tx);
  return rows[0];
}

/** Makes a delivery due now, from the schedule's beginning. By primary key. */
export async function beginAnew(
  tx: TenantHandle,
  tenantId: string,
  deliveryId: string,
): Promise<DeliveryRow> {
  const { rows } = await sql<DeliveryRow>`
    update tenant.webhook_deliveries
    set state = 'waiting', failures = 0, next_attempt_at = clock_timestamp(), delivered_at = null
    where tenant_id = ${tenantId} and delivery_id = ${deliveryId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/**
 * Takes what is due of an endpoint, oldest first, and puts it aside for `leaseMs`: whoever dies with it loses it to the
 * next round after that time. By webhook_deliveries_due.
 */
export async function claimDue(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  { limit, leaseMs }: { readonly limit: number; readonly leaseMs: number },
): Promise<readonly DeliveryRow[]> {
  const { rows } = await sql<DeliveryRow>`
    update tenant.webhook_deliveries
    set next_attempt_at = clock_timestamp() + ${leaseMs}::float8 * interval '1 millisecond'
    where tenant_id = ${tenantId} and delivery_id in (
      select delivery_id from tenant.webhook_deliveries
      where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and state = 'waiting'
        and next_attempt_at <= clock_timestamp()
      order by next_attempt_at limit ${limit}
      for update skip locked
    )
    returning ${columns}
  `.execute(tx);
  return rows.toSorted((first, second) => (first.delivery_id < second.delivery_id ? -1 : 1));
}

/** Writes what came of a claimed delivery. By primary key. */
export async function settle(tx: TenantHandle, tenantId: string, settled: Settlement): Promise<void> {
  await sql`
    update tenant.webhook_deliveries
    set state = ${settled.state}, attempts = attempts + ${settled.isCounted ? 1 : 0}, failures = ${settled.failures},
        next_attempt_at = ${settled.nextAttemptAt}, attempt_log = ${settled.attemptLog},
        delivered_at = ${settled.deliveredAt}
    where tenant_id = ${tenantId} and delivery_id = ${settled.deliveryId}
  `.execute(tx);
}

/** When the next delivery of an endpoint is due, and whether that is now; null where none waits. By webhook_deliveries_due. */
export async function nextDue(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
): Promise<{ readonly at: Date; readonly isNow: boolean } | null> {
  const { rows } = await sql<{ at: Date; is_now: boolean }>`
    select next_attempt_at as at, next_attempt_at <= clock_timestamp() as is_now from tenant.webhook_deliveries
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and state = 'waiting'
    order by next_attempt_at limit 1
  `.execute(tx);
  const [row] = rows;
  return row === undefined ? null : { at: row.at, isNow: row.is_now };
}

const givenUpAtOnce = 1_000;

/**
 * Gives up what waits for an endpoint, or the part of it that was made up to the endpoint's `given_up_until`: up to a
 * thousand, so that a backlog of days fits no transaction's deadline but many. False where more may be left. By
 * webhook_deliveries_due.
 */
export async function failWaiting(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
  part: 'all' | 'given_up',
): Promise<boolean> {
  const isMeant =
    part === 'all'
      ? sql`true`
      : sql`created_at <= (
          select given_up_until from tenant.webhook_endpoints
          where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
        )`;
  const { numAffectedRows } = await sql`
    update tenant.webhook_deliveries set state = 'failed', next_attempt_at = null
    where tenant_id = ${tenantId} and delivery_id in (
      select delivery_id from tenant.webhook_deliveries
      where tenant_id = ${tenantId} and endpoint_id = ${endpointId} and state = 'waiting' and ${isMeant}
      limit ${givenUpAtOnce}
    )
  `.execute(tx);
  return Number(numAffectedRows ?? 0n) < givenUpAtOnce;
}

/** Whether an endpoint has more deliveries than are deleted with it in one transaction. By webhook_deliveries_by_endpoint. */
export async function hasManyDeliveries(
  tx: TenantHandle,
  tenantId: string,
  endpointId: string,
): Promise<boolean> {
  const { rows } = await sql`
    select 1 from tenant.webhook_deliveries
    where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
    order by delivery_id offset ${givenUpAtOnce} limit 1
  `.execute(tx);
  return rows.length > 0;
}

/** Up to `limit` of an endpoint that is deleted. By webhook_deliveries_by_endpoint. */
export async function deleteDeliveriesOf(
  tx: SystemHandle,
  { tenant_id: tenantId, endpoint_id: endpointId }: EndpointName,
  limit: number,
): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from tenant.webhook_deliveries where tenant_id = ${tenantId} and delivery_id in (
      select delivery_id from tenant.webhook_deliveries
      where tenant_id = ${tenantId} and endpoint_id = ${endpointId}
      order by delivery_id limit ${limit}
    )
  `.execute(tx);
  return Number(numAffectedRows ?? 0n);
}

/** Up to `limit` of the oldest past `days`, whatever their state. By webhook_deliveries_by_age. */
export async function deleteOldDeliveries(tx: SystemHandle, days: number, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from tenant.webhook_deliveries where (tenant_id, delivery_id) in (
      select tenant_id, delivery_id from tenant.webhook_deliveries
      where created_at < clock_timestamp() - ${days}::integer * interval '1 day'
      order by created_at limit ${limit}
    )
  `.execute(tx);
  return Number(numAffectedRows ?? 0n);
}

function one(rows: readonly DeliveryRow[]): DeliveryRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a delivery returned none');
  return row;
}
