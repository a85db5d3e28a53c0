import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import { newUuid } from '#kernel';
import type { LoggedEvent } from '../types.ts';
import type { Failure } from './failure.ts';

export type DeliveryState = 'held' | 'retrying' | 'dead' | 'parked';

/** An event of the delivery store, leased to this process. */
export interface StoredDelivery {
  readonly consumer: string;
  readonly event: LoggedEvent;
  readonly state: DeliveryState;
  readonly isReplay: boolean;
  /** With the one that the lease is for, where the event is `retrying`. */
  readonly attempts: number;
  readonly redrives: number;
  readonly firstSeenAt: Date;
  readonly leaseToken: string;
}

export interface EventColumns {
  readonly tenant_id: string;
  readonly event_id: string;
  readonly type: string;
  readonly key: string;
  readonly keyversion: bigint;
  readonly occurred_at: Date;
  readonly causation: string | null;
  readonly traceparent: string | null;
  readonly data: string;
  readonly xid: string;
  readonly seq: bigint;
}

export function eventOf(row: EventColumns): LoggedEvent {
  return {
    tenantId: row.tenant_id,
    eventId: row.event_id,
    type: row.type,
    key: row.key,
    keyversion: row.keyversion,
    occurredAt: row.occurred_at,
    causation: row.causation,
    traceparent: row.traceparent,
    data: row.data,
    cursor: { xid: row.xid, seq: String(row.seq) },
  };
}

const eventColumns = sql`tenant_id, consumer, event_id, delivery_id, type, key, keyversion, occurred_at, causation,
  traceparent, data, xid, seq`;

function eventValues(consumer: string, event: LoggedEvent) {
  return sql`${event.tenantId}::uuid, ${consumer}, ${event.eventId}::uuid, ${newUuid()}::uuid, ${event.type},
    ${event.key}, ${event.keyversion}::bigint, ${event.occurredAt}::timestamptz, ${event.causation}::uuid,
    ${event.traceparent}, ${event.data}, ${event.cursor.xid}::xid8, ${event.cursor.seq}::bigint`;
}

/** How long until a held event is looked at again by itself; whatever it waits for has it looked at sooner. */
const recheckMs = 10_000;

/**
 * Stores an event that has to wait. The failed event of its key is locked while this is written: either its resolver
 * finds the new row, or it is resolved already, and the new row is looked at again at once. Changes nothing where the
 * event is stored.
 */
export async function storeHeld(
  tx: SystemHandle,
  consumer: string,
  event: LoggedEvent,
  reason: 'blocked' | 'gap',
  isReplay = false,
): Promise<void> {
  const { rows } = await sql`
    select event_id from tenant.event_deliveries
    where tenant_id = ${event.tenantId} and consumer = ${consumer} and key = ${event.key}
      and event_id <> ${event.eventId} and state <> 'held'
    limit 1 for share
  `.execute(tx);
  const waitMs = rows.length > 0 || reason === 'gap' ? recheckMs : 0;
  await sql`
    insert into tenant.event_deliveries (${eventColumns}, state, is_replay, next_attempt_at)
    values (${eventValues(consumer, event)}, 'held', ${isReplay}, clock_timestamp() + ${waitMs} * interval '1 millisecond')
    on conflict do nothing
  `.execute(tx);
}

/** Where a failed event goes: to another attempt after `delayMs`, or to the dead letters where that is null. */
export interface FailedAttempt {
  readonly failure: Failure;
  readonly delayMs: number | null;
}

const nextAttemptIn = (delayMs: number | null) =>
  sql`clock_timestamp() + ${delayMs}::integer * interval '1 millisecond'`;

/** Stores an event after its first failed attempt. Changes nothing where it is stored. */
export async function storeFailed(
  tx: SystemHandle,
  consumer: string,
  event: LoggedEvent,
  { failure, delayMs }: FailedAttempt,
  isReplay: boolean,
): Promise<void> {
  await sql`
    insert into tenant.event_deliveries (${eventColumns}, state, is_replay, attempts, total_attempts, next_attempt_at,
      error_code, error_message, error_stack, public_message)
    values (${eventValues(consumer, event)}, ${delayMs === null ? 'dead' : 'retrying'}, ${isReplay}, 1, 1,
      ${nextAttemptIn(delayMs)}, ${failure.code}, ${failure.message}, ${failure.stack}, ${failure.publicMessage})
    on conflict do nothing
  `.execute(tx);
}

/**
 * Stores an event before it is handled, leased to this process: should the process die of it, that counts as an attempt.
 * False where it is stored already.
 */
export async function storeBeforehand(
  tx: SystemHandle,
  consumer: string,
  event: LoggedEvent,
  lease: { readonly token: string; readonly ms: number; readonly failure: Failure },
): Promise<boolean> {
  const { rows } = await sql`
    insert into tenant.event_deliveries (${eventColumns}, state, attempts, total_attempts, next_attempt_at, lease_token,
      leased_until, error_code, error_message, public_message)
    values (${eventValues(consumer, event)}, 'retrying', 1, 1, clock_timestamp(), ${lease.token}::uuid,
      clock_timestamp() + ${lease.ms} * interval '1 millisecond', ${lease.failure.code}, ${lease.failure.message},
      ${lease.failure.publicMessage})
    on conflict do nothing
    returning event_id
  `.execute(tx);
  return rows.length === 1;
}

interface LeasedRow extends EventColumns {
  readonly consumer: string;
  readonly state: DeliveryState;
  readonly is_replay: boolean;
  readonly attempts: number;
  readonly redrives: number;
  readonly first_seen_at: Date;
}

/**
 * Takes up to `limit` events that are due, for `leaseMs`; what others have taken is passed over. A `retrying` event's
 * attempt is counted here, before it is made. By event_deliveries_due.
 */
export async function leaseDue(
  tx: SystemHandle,
  consumers: readonly string[],
  lease: {
    readonly token: string;
    readonly ms: number;
    readonly limit: number;
    /** Those whose lease ran out, and only those: a process may have died of one of them. */
    readonly isAbandoned: boolean;
  },
): Promise<readonly StoredDelivery[]> {
  const { rows } = await sql<LeasedRow>`
    with due as materialized (
      select tenant_id, consumer, event_id from tenant.event_deliveries
      where consumer = any(${consumers}::text[]) and next_attempt_at <= clock_timestamp()
        and case when ${lease.isAbandoned}::boolean then leased_until <= clock_timestamp() else leased_until is null end
      order by next_attempt_at
      limit ${lease.limit} for update skip locked
    )
    update tenant.event_deliveries d
    set lease_token = ${lease.token}, leased_until = clock_timestamp() + ${lease.ms} * interval '1 millisecond',
      attempts = d.attempts + case when d.state = 'retrying' then 1 else 0 end,
      total_attempts = d.total_attempts + case when d.state = 'retrying' then 1 else 0 end
    from due
    where d.tenant_id = due.tenant_id and d.consumer = due.consumer and d.event_id = due.event_id
    returning d.tenant_id, d.consumer, d.event_id, d.type, d.key, d.keyversion, d.occurred_at, d.causation,
      d.traceparent, d.data, d.xid::text as xid, d.seq, d.state, d.is_replay, d.attempts, d.redrives, d.first_seen_at
  `.execute(tx);
  return rows.map((row) => ({
    consumer: row.consumer,
    event: eventOf(row),
    state: row.state,
    isReplay: row.is_replay,
    attempts: row.attempts,
    redrives: row.redrives,
    firstSeenAt: row.first_seen_at,
    leaseToken: lease.token,
  }));
}

const isLeased = ({ consumer, event, leaseToken }: StoredDelivery) =>
  sql`tenant_id = ${event.tenantId} and consumer = ${consumer} and event_id = ${event.eventId}
    and lease_token = ${leaseToken}`;

/** Begins the first attempt of an event that was held; false where the lease has gone. */
export async function beginHeld(tx: SystemHandle, delivery: StoredDelivery): Promise<boolean> {
  const { rows } = await sql`
    update tenant.event_deliveries
    set state = 'retrying', attempts = attempts + 1, total_attempts = total_attempts + 1
    where ${isLeased(delivery)} returning event_id
  `.execute(tx);
  return rows.length === 1;
}

/** Puts an event back among those that wait; the longer it has waited, the later it is looked at again (1 h at most). */
export async function holdAgain(tx: SystemHandle, delivery: StoredDelivery): Promise<void> {
  await sql`
    update tenant.event_deliveries
    set state = 'held', lease_token = null, leased_until = null, next_attempt_at = clock_timestamp()
      + least(greatest(clock_timestamp() - first_seen_at, ${recheckMs} * interval '1 millisecond'), interval '1 hour')
    where ${isLeased(delivery)}
  `.execute(tx);
}

/** Notes a failed attempt of a stored event, unless its lease has gone. */
export async function failStored(
  tx: SystemHandle,
  delivery: StoredDelivery,
  { failure, delayMs }: FailedAttempt,
  endState: 'dead' | 'parked',
): Promise<void> {
  await sql`
    update tenant.event_deliveries
    set state = ${delayMs === null ? endState : 'retrying'}, lease_token = null, leased_until = null,
      next_attempt_at = ${nextAttemptIn(delayMs)}, last_seen_at = clock_timestamp(), error_code = ${failure.code},
      error_message = ${failure.message}, error_stack = ${failure.stack}, public_message = ${failure.publicMessage}
    where ${isLeased(delivery)}
  `.execute(tx);
}

export interface StoreCount {
  readonly consumer: string;
  readonly state: DeliveryState;
  readonly count: number;
  readonly oldest: Date;
}

/** How many events lie in the store, and since when. By event_deliveries_by_state alone, a scan of it. */
export async function countStored(tx: SystemHandle): Promise<readonly StoreCount[]> {
  const { rows } = await sql<StoreCount>`
    select consumer, state, count(*)::integer as count, min(first_seen_at) as oldest
    from tenant.event_deliveries group by consumer, state
  `.execute(tx);
  return rows;
}

/**
 * Forgets what is older than any event that could still arrive; answers how many rows went. A position is kept while an
 * event of its key lies in the store: it says which version is next.
 */
export async function expireConsumed(
  tx: SystemHandle,
  table: 'inbox' | 'positions',
  days: number,
  limit: number,
): Promise<number> {
  const statement =
    table === 'inbox'
      ? sql`
        delete from tenant.event_inbox where (tenant_id, consumer, event_id) in (
          select tenant_id, consumer, event_id from tenant.event_inbox
          where handled_at < now() - make_interval(days => ${days}::integer) limit ${limit})`
      : sql`
        delete from tenant.event_positions where (tenant_id, consumer, type, key) in (
          select tenant_id, consumer, type, key from tenant.event_positions p
          where moved_at < now() - make_interval(days => ${days}::integer)
            and not exists (select from tenant.event_deliveries d
              where d.tenant_id = p.tenant_id and d.consumer = p.consumer and d.key = p.key)
          limit ${limit})`;
  const result = await statement.execute(tx);
  return Number(result.numAffectedRows ?? 0n);
}
