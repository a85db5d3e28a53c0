import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import { newUuid } from '#kernel';
import type { LoggedEvent } from '../types.ts';
import { diedFailure, type Failure } from './failure.ts';

export type DeliveryState = 'held' | 'retrying' | 'dead' | 'parked';

/** An event of the delivery store, leased to this process. */
export interface StoredDelivery {
  readonly consumer: string;
  readonly event: LoggedEvent;
  readonly state: DeliveryState;
  readonly isReplay: boolean;
  /**
   * The process may die of it, so it is tried alone, and its attempt was counted with the lease. Else it is counted when
   * it has failed: a process that dies meanwhile may have died of another.
   */
  readonly isAlone: boolean;
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
 * Stores events before they are handled, leased to this process: should the process die, it may be of one of them.
 * Answers the ids of those that were not stored already.
 */
export async function storeBeforehand(
  tx: SystemHandle,
  consumer: string,
  events: readonly LoggedEvent[],
  note: {
    readonly token: string;
    readonly ms: number;
    readonly failure: Failure;
    /** 1 counts the attempt that follows; 0 leaves it uncounted, where it is made for several at once. */
    readonly attempts: 0 | 1;
    readonly isReplay?: boolean;
  },
): Promise<ReadonlySet<string>> {
  const column = <T>(read: (event: LoggedEvent) => T): T[] => events.map(read);
  const { rows } = await sql<{ event_id: string }>`
    insert into tenant.event_deliveries (${eventColumns}, state, is_replay, attempts, total_attempts, next_attempt_at,
      lease_token, leased_until, error_code, error_message, public_message)
    select e.tenant_id, ${consumer}, e.event_id, e.delivery_id, e.type, e.key, e.keyversion, e.occurred_at, e.causation,
      e.traceparent, e.data, e.xid::xid8, e.seq, 'retrying', ${note.isReplay ?? false}::boolean, ${note.attempts}::integer,
      ${note.attempts}::integer, clock_timestamp(), ${note.token}::uuid,
      clock_timestamp() + ${note.ms} * interval '1 millisecond', ${note.failure.code}, ${note.failure.message},
      ${note.failure.publicMessage}
    from unnest(${column((event) => event.tenantId)}::uuid[], ${column((event) => event.eventId)}::uuid[],
      ${column(() => newUuid())}::uuid[], ${column((event) => event.type)}::text[],
      ${column((event) => event.key)}::text[], ${column((event) => event.keyversion)}::bigint[],
      ${column((event) => event.occurredAt)}::timestamptz[], ${column((event) => event.causation)}::uuid[],
      ${column((event) => event.traceparent)}::text[], ${column((event) => event.data)}::text[],
      ${column((event) => event.cursor.xid)}::text[], ${column((event) => event.cursor.seq)}::bigint[])
      as e(tenant_id, event_id, delivery_id, type, key, keyversion, occurred_at, causation, traceparent, data, xid, seq)
    on conflict do nothing
    returning event_id
  `.execute(tx);
  return new Set(rows.map((row) => row.event_id));
}

/** Lets go of what was stored beforehand under this lease: each is due at once, as if it had not been tried. */
export async function releaseStored(tx: SystemHandle, consumer: string, leaseToken: string): Promise<void> {
  await sql`
    update tenant.event_deliveries
    set lease_token = null, leased_until = null, next_attempt_at = clock_timestamp(), error_code = null,
      error_message = null, public_message = null
    where consumer = ${consumer} and state = 'retrying' and lease_token = ${leaseToken}
  `.execute(tx);
}

interface LeasedRow extends EventColumns {
  readonly consumer: string;
  readonly state: DeliveryState;
  readonly is_replay: boolean;
  readonly attempts: number;
  readonly redrives: number;
  readonly first_seen_at: Date;
}

/** A process may have died of it: its lease ran out, or it was found to kill. */
const isSuspect = sql`(leased_until is not null
  or (state = 'retrying' and error_code is not distinct from ${diedFailure.code}))`;

/** Whether there is one to be tried alone. By event_deliveries_due. */
export async function hasSuspects(tx: SystemHandle, consumers: readonly string[]): Promise<boolean> {
  const { rows } = await sql`
    select from tenant.event_deliveries
    where consumer = any(${consumers}::text[]) and next_attempt_at <= clock_timestamp()
      and ${isSuspect} and (leased_until is null or leased_until <= clock_timestamp())
    limit 1
  `.execute(tx);
  return rows.length > 0;
}

/**
 * Takes up to `limit` events that are due, for `leaseMs`; what others have taken is passed over. By event_deliveries_due.
 * Where they are to be tried alone, the attempt of a `retrying` one is counted here, before it is made.
 */
export async function leaseDue(
  tx: SystemHandle,
  consumers: readonly string[],
  lease: {
    readonly token: string;
    readonly ms: number;
    readonly limit: number;
    /** Those that a process may have died of, and only those; else none of them. */
    readonly isAlone: boolean;
  },
): Promise<readonly StoredDelivery[]> {
  const counted = lease.isAlone ? 1 : 0;
  const { rows } = await sql<LeasedRow>`
    with due as materialized (
      select tenant_id, consumer, event_id from tenant.event_deliveries
      where consumer = any(${consumers}::text[]) and next_attempt_at <= clock_timestamp()
        and ${isSuspect} = ${lease.isAlone}::boolean and (leased_until is null or leased_until <= clock_timestamp())
      order by next_attempt_at
      limit ${lease.limit} for update skip locked
    )
    update tenant.event_deliveries d
    set lease_token = ${lease.token}, leased_until = clock_timestamp() + ${lease.ms} * interval '1 millisecond',
      attempts = d.attempts + case when d.state = 'retrying' then ${counted}::integer else 0 end,
      total_attempts = d.total_attempts + case when d.state = 'retrying' then ${counted}::integer else 0 end
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
    isAlone: lease.isAlone,
    attempts: row.attempts + (row.state === 'retrying' && !lease.isAlone ? 1 : 0),
    redrives: row.redrives,
    firstSeenAt: row.first_seen_at,
    leaseToken: lease.token,
  }));
}

const isLeased = ({ consumer, event, leaseToken }: Leased) =>
  sql`tenant_id = ${event.tenantId} and consumer = ${consumer} and event_id = ${event.eventId}
    and lease_token = ${leaseToken}`;

type Leased = Pick<StoredDelivery, 'consumer' | 'event' | 'leaseToken'>;

/** Begins the first attempt of an event that was held; false where the lease has gone. */
export async function beginHeld(tx: SystemHandle, delivery: StoredDelivery): Promise<boolean> {
  const counted = delivery.isAlone ? 1 : 0;
  const { rows } = await sql`
    update tenant.event_deliveries
    set state = 'retrying', attempts = ${counted}::integer, total_attempts = total_attempts + ${counted}::integer
    where ${isLeased(delivery)} returning event_id
  `.execute(tx);
  return rows.length === 1;
}

/** Puts an event back among those that wait; the longer it has waited, the later it is looked at again (1 h at most). */
export async function holdAgain(tx: SystemHandle, delivery: Leased): Promise<void> {
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
      attempts = ${delivery.attempts}::integer, total_attempts = total_attempts + ${delivery.isAlone ? 0 : 1}::integer,
      next_attempt_at = ${nextAttemptIn(delayMs)}, last_seen_at = clock_timestamp(), error_code = ${failure.code},
      error_message = ${failure.message}, error_stack = ${failure.stack}, public_message = ${failure.publicMessage}
    where ${isLeased(delivery)}
  `.execute(tx);
}

/** Ends a stored event without another attempt, unless its lease has gone; one that was counted with the lease was not made. */
export async function giveUpStored(
  tx: SystemHandle,
  delivery: StoredDelivery,
  failure: Failure,
  endState: 'dead' | 'parked',
): Promise<void> {
  const counted = delivery.isAlone && delivery.state === 'retrying' ? 1 : 0;
  await sql`
    update tenant.event_deliveries
    set state = ${endState}, lease_token = null, leased_until = null, next_attempt_at = null,
      attempts = attempts - ${counted}::integer, total_attempts = total_attempts - ${counted}::integer,
      last_seen_at = clock_timestamp(), error_code = ${failure.code}, error_message = ${failure.message},
      error_stack = ${failure.stack}, public_message = ${failure.publicMessage}
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
