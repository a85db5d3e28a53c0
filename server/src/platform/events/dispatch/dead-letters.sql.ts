import { type RawBuilder, sql } from 'kysely';
import type { OperatorHandle, TenantHandle } from '#db';
import { isToldOnce } from '../event-type.ts';
import type { DeliveryState, EventColumns } from './deliveries.sql.ts';

export interface DeadLetterRow extends EventColumns {
  readonly delivery_id: string;
  readonly consumer: string;
  readonly state: DeliveryState;
  readonly total_attempts: number;
  readonly redrives: number;
  readonly first_seen_at: Date;
  readonly last_seen_at: Date;
  readonly next_attempt_at: Date | null;
  readonly error_code: string | null;
  readonly error_message: string | null;
  readonly error_stack: string | null;
  readonly public_message: string | null;
  /** Of a held one, the delivery id of the earlier one of its key that it waits for. */
  readonly held_by: string | null;
}

export interface LetterFilter {
  readonly states: readonly DeliveryState[];
  /** Delivery ids as UUID text; null for all. */
  readonly ids: readonly string[] | null;
  readonly type: string | null;
  readonly consumer: string | null;
  readonly errorCode: string | null;
  /** UUID text. */
  readonly tenantId: string | null;
  readonly from: Date | null;
  readonly to: Date | null;
}

/** What an event waits behind: the earliest of its key that failed, of its own type before another. By event_deliveries_by_key. */
const heldBy = sql`case when state = 'held' then (
    select first.delivery_id from tenant.event_deliveries first
    where first.tenant_id = event_deliveries.tenant_id and first.consumer = event_deliveries.consumer
      and first.key = event_deliveries.key and first.state <> 'held'
    order by first.type <> event_deliveries.type, first.keyversion limit 1) end as held_by`;

const columns = sql`delivery_id, tenant_id, consumer, event_id, type, key, keyversion, occurred_at, causation, traceparent,
  data, xid::text as xid, seq, state, total_attempts, redrives, first_seen_at, last_seen_at, next_attempt_at, error_code,
  error_message, error_stack, public_message, ${heldBy}`;

/** Data and stack may be large, and lists don't show them. */
const listColumns = sql`delivery_id, tenant_id, consumer, event_id, type, key, keyversion, occurred_at, causation,
  traceparent, '' as data, xid::text as xid, seq, state, total_attempts, redrives, first_seen_at, last_seen_at,
  next_attempt_at, error_code, error_message, null::text as error_stack, public_message, ${heldBy}`;

function matches(filter: LetterFilter): RawBuilder<unknown> {
  return sql`state = any(${filter.states}::text[])
    and (${filter.ids}::uuid[] is null or delivery_id = any(${filter.ids}::uuid[]))
    and (${filter.type}::text is null or type = ${filter.type}::text)
    and (${filter.consumer}::text is null or consumer = ${filter.consumer}::text)
    and (${filter.errorCode}::text is null or error_code = ${filter.errorCode}::text)
    and (${filter.tenantId}::uuid is null or tenant_id = ${filter.tenantId}::uuid)
    and (${filter.from}::timestamptz is null or first_seen_at >= ${filter.from}::timestamptz)
    and (${filter.to}::timestamptz is null or first_seen_at < ${filter.to}::timestamptz)`;
}

/** A page and one more, newest first. Backwards by event_deliveries_by_id. */
export async function selectLetters(
  tx: OperatorHandle | TenantHandle,
  filter: LetterFilter,
  page: { readonly after: string | null; readonly limit: number },
): Promise<readonly DeadLetterRow[]> {
  const { rows } = await sql<DeadLetterRow>`
    select ${listColumns} from tenant.event_deliveries
    where ${matches(filter)} and (${page.after}::uuid is null or delivery_id < ${page.after}::uuid)
    order by delivery_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

export async function selectLetter(
  tx: OperatorHandle | TenantHandle,
  deliveryId: string,
): Promise<DeadLetterRow | undefined> {
  const { rows } = await sql<DeadLetterRow>`
    select ${columns} from tenant.event_deliveries where delivery_id = ${deliveryId}
  `.execute(tx);
  return rows[0];
}

/** Which of these are no dead or parked letters; at most ten, in their order. By event_deliveries_by_id. */
export async function selectUnknown(tx: OperatorHandle, ids: readonly string[]): Promise<readonly string[]> {
  const { rows } = await sql<{ id: string }>`
    select id from unnest(${ids}::uuid[]) with ordinality as wanted(id, place)
    where not exists (select from tenant.event_deliveries where delivery_id = id and state in ('dead', 'parked'))
    order by place limit 10
  `.execute(tx);
  return rows.map(({ id }) => id);
}

export async function countFollowers(tx: OperatorHandle, row: DeadLetterRow): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from tenant.event_deliveries
    where tenant_id = ${row.tenant_id} and consumer = ${row.consumer} and key = ${row.key} and state = 'held'
  `.execute(tx);
  return rows[0]?.count ?? 0;
}

export interface Matched {
  readonly matched: number;
  readonly parked: number;
  readonly firstIds: readonly string[];
}

export async function countLetters(tx: OperatorHandle, filter: LetterFilter): Promise<Matched> {
  const counted = await sql<{ matched: number; parked: number }>`
    select count(*)::integer as matched, count(*) filter (where state = 'parked')::integer as parked
    from tenant.event_deliveries where ${matches(filter)}
  `.execute(tx);
  const first = await sql<{ delivery_id: string }>`
    select delivery_id from tenant.event_deliveries where ${matches(filter)} order by delivery_id limit 10
  `.execute(tx);
  const [row] = counted.rows;
  return {
    matched: row?.matched ?? 0,
    parked: row?.parked ?? 0,
    firstIds: first.rows.map(({ delivery_id: id }) => id),
  };
}

/** How many letters one call moves. */
export const letterLimit = 10_000;

/** Makes letters due one after the other, `ratePerSecond` of them a second; answers the tenant of each. */
export async function redriveLetters(
  tx: OperatorHandle,
  filter: LetterFilter,
  ratePerSecond: number,
): Promise<readonly string[]> {
  const { rows } = await sql<{ tenant_id: string }>`
    with chosen as materialized (
      select tenant_id, consumer, event_id, delivery_id from tenant.event_deliveries
      where ${matches(filter)} order by delivery_id limit ${letterLimit} for update
    ), timed as (
      select *, row_number() over (order by delivery_id) - 1 as turn from chosen
    )
    update tenant.event_deliveries d
    set state = 'retrying', attempts = 0, redrives = redrives + 1, lease_token = null, leased_until = null,
      next_attempt_at = clock_timestamp() + timed.turn::double precision / ${ratePerSecond} * interval '1 second'
    from timed
    where d.tenant_id = timed.tenant_id and d.consumer = timed.consumer and d.event_id = timed.event_id
    returning d.tenant_id
  `.execute(tx);
  return rows.map((row) => row.tenant_id);
}

/** Lets the matching letters whose earlier version is missing begin where they are. */
export async function jumpGaps(tx: OperatorHandle, filter: LetterFilter): Promise<void> {
  await sql`
    insert into tenant.event_positions as p (tenant_id, consumer, type, key, keyversion)
    select tenant_id, consumer, type, key, min(keyversion) - 1 from tenant.event_deliveries
    where ${matches(filter)} and error_code = 'event_version_missing' and keyversion > 1
    group by tenant_id, consumer, type, key
    on conflict (tenant_id, consumer, type, key) do update
      set keyversion = excluded.keyversion, moved_at = clock_timestamp() where p.keyversion < excluded.keyversion
  `.execute(tx);
}

interface DiscardedRow {
  readonly tenant_id: string;
  readonly consumer: string;
  readonly event_id: string;
  readonly type: string;
  readonly key: string;
  readonly keyversion: bigint;
}

/**
 * Takes letters out of the store as if they had been handled: the inbox knows them, their keys have moved past them, and
 * what waited for them is looked at again. Answers the tenant of each.
 */
export async function discardLetters(tx: OperatorHandle, filter: LetterFilter): Promise<readonly string[]> {
  const { rows } = await sql<DiscardedRow>`
    with chosen as materialized (
      select tenant_id, consumer, event_id from tenant.event_deliveries
      where ${matches(filter)} order by delivery_id limit ${letterLimit} for update
    )
    delete from tenant.event_deliveries d using chosen
    where d.tenant_id = chosen.tenant_id and d.consumer = chosen.consumer and d.event_id = chosen.event_id
    returning d.tenant_id, d.consumer, d.event_id, d.type, d.key, d.keyversion
  `.execute(tx);
  if (rows.length === 0) return [];
  const tenants = rows.map((row) => row.tenant_id);
  const consumers = rows.map((row) => row.consumer);
  await sql`
    insert into tenant.event_inbox (tenant_id, consumer, event_id, outcome)
    select tenant_id, consumer, event_id, 'discarded'
    from unnest(${tenants}::uuid[], ${consumers}::text[], ${rows.map((row) => row.event_id)}::uuid[])
      as e(tenant_id, consumer, event_id)
    on conflict do nothing
  `.execute(tx);
  await movePast(tx, rows);
  await sql`
    update tenant.event_deliveries d set next_attempt_at = clock_timestamp()
    from (select distinct on (h.tenant_id, h.consumer, h.key, h.type) h.tenant_id, h.consumer, h.event_id
      from tenant.event_deliveries h
      join unnest(${tenants}::uuid[], ${consumers}::text[], ${rows.map((row) => row.key)}::text[])
        as e(tenant_id, consumer, key) using (tenant_id, consumer, key)
      where h.state = 'held'
      order by h.tenant_id, h.consumer, h.key, h.type, h.keyversion) as first
    where d.tenant_id = first.tenant_id and d.consumer = first.consumer and d.event_id = first.event_id
      and d.state = 'held'
  `.execute(tx);
  return tenants;
}

async function movePast(tx: OperatorHandle, rows: readonly DiscardedRow[]): Promise<void> {
  const ordered = rows.filter((row) => !isToldOnce(row.type));
  await sql`
    insert into tenant.event_positions as p (tenant_id, consumer, type, key, keyversion)
    select tenant_id, consumer, type, key, max(keyversion)
    from unnest(${ordered.map((row) => row.tenant_id)}::uuid[], ${ordered.map((row) => row.consumer)}::text[],
      ${ordered.map((row) => row.type)}::text[], ${ordered.map((row) => row.key)}::text[],
      ${ordered.map((row) => row.keyversion)}::bigint[]) as e(tenant_id, consumer, type, key, keyversion)
    group by tenant_id, consumer, type, key
    on conflict (tenant_id, consumer, type, key) do update
      set keyversion = excluded.keyversion, moved_at = clock_timestamp() where p.keyversion < excluded.keyversion
  `.execute(tx);
}
