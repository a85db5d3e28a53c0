import { sql } from 'kysely';
import type { SystemHandle, TenantHandle } from '#db';
import { isToldOnce } from '../event-type.ts';
import type { LoggedEvent } from '../types.ts';
import type { EventFacts } from './judgement.ts';

/** Either of the doors that a handler runs in. */
export type HandlingHandle = TenantHandle | SystemHandle;

interface FactsRow {
  readonly is_handled: boolean;
  readonly is_stored: boolean;
  readonly is_blocked: boolean;
  readonly has_followers: boolean;
  readonly position: bigint | null;
  readonly has_earlier: boolean;
}

const column = <T>(events: readonly LoggedEvent[], read: (event: LoggedEvent) => T): T[] => events.map(read);

/**
 * What there is of each event, in their order. By primary keys and event_deliveries_by_key; the log is asked (by
 * events_by_key) only for a key that the consumer has not met and whose first version this is not.
 */
export async function readFacts(
  tx: HandlingHandle,
  consumer: string,
  events: readonly LoggedEvent[],
): Promise<readonly EventFacts[]> {
  const { rows } = await sql<FactsRow>`
    select
      exists (select from tenant.event_inbox i
        where i.tenant_id = e.tenant_id and i.consumer = ${consumer} and i.event_id = e.event_id) as is_handled,
      exists (select from tenant.event_deliveries d
        where d.tenant_id = e.tenant_id and d.consumer = ${consumer} and d.event_id = e.event_id) as is_stored,
      exists (select from tenant.event_deliveries d
        where d.tenant_id = e.tenant_id and d.consumer = ${consumer} and d.key = e.key
          and d.event_id <> e.event_id and d.state <> 'held') as is_blocked,
      exists (select from tenant.event_deliveries d
        where d.tenant_id = e.tenant_id and d.consumer = ${consumer} and d.key = e.key
          and d.event_id <> e.event_id and d.state = 'held') as has_followers,
      p.keyversion as position,
      case when p.keyversion is null and e.keyversion > 1 then exists (select from tenant.events l
        where l.tenant_id = e.tenant_id and l.type = e.type and l.key = e.key and l.keyversion < e.keyversion
          and l.type <> 'request.completed.v1') else false end as has_earlier
    from unnest(${column(events, (event) => event.tenantId)}::uuid[],
        ${column(events, (event) => event.eventId)}::uuid[], ${column(events, (event) => event.type)}::text[],
        ${column(events, (event) => event.key)}::text[], ${column(events, (event) => event.keyversion)}::bigint[])
      with ordinality as e(tenant_id, event_id, type, key, keyversion, place)
    left join tenant.event_positions p
      on p.tenant_id = e.tenant_id and p.consumer = ${consumer} and p.type = e.type and p.key = e.key
    order by e.place
  `.execute(tx);
  return rows.map((row) => ({
    isHandled: row.is_handled,
    isStored: row.is_stored,
    isBlocked: row.is_blocked,
    hasFollowers: row.has_followers,
    position: row.position,
    hasEarlier: row.has_earlier,
  }));
}

/** Enters events into the inbox; answers the ids of those that were not there. Waits for whoever enters the same now. */
export async function enterInbox(
  tx: HandlingHandle,
  consumer: string,
  events: readonly LoggedEvent[],
): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ event_id: string }>`
    insert into tenant.event_inbox (tenant_id, consumer, event_id, outcome)
    select tenant_id, ${consumer}, event_id, 'handled'
    from unnest(${column(events, (event) => event.tenantId)}::uuid[],
      ${column(events, (event) => event.eventId)}::uuid[]) as e(tenant_id, event_id)
    on conflict do nothing
    returning event_id
  `.execute(tx);
  return new Set(rows.map((row) => row.event_id));
}

/** Takes events out of the inbox, for a replay. */
export async function leaveInbox(
  tx: HandlingHandle,
  consumer: string,
  events: readonly LoggedEvent[],
): Promise<void> {
  await sql`
    delete from tenant.event_inbox i
    using unnest(${column(events, (event) => event.tenantId)}::uuid[],
      ${column(events, (event) => event.eventId)}::uuid[]) as e(tenant_id, event_id)
    where i.tenant_id = e.tenant_id and i.consumer = ${consumer} and i.event_id = e.event_id
  `.execute(tx);
}

/** Moves each key's position up to the last of these events; never back. */
export async function movePositions(
  tx: HandlingHandle,
  consumer: string,
  events: readonly LoggedEvent[],
): Promise<void> {
  const ordered = events.filter((event) => !isToldOnce(event.type));
  if (ordered.length === 0) return;
  await sql`
    insert into tenant.event_positions as p (tenant_id, consumer, type, key, keyversion)
    select tenant_id, ${consumer}, type, key, max(keyversion)
    from unnest(${column(ordered, (event) => event.tenantId)}::uuid[], ${column(ordered, (event) => event.type)}::text[],
      ${column(ordered, (event) => event.key)}::text[], ${column(ordered, (event) => event.keyversion)}::bigint[])
      as e(tenant_id, type, key, keyversion)
    group by tenant_id, type, key
    order by tenant_id, type, key
    on conflict (tenant_id, consumer, type, key) do update
      set keyversion = excluded.keyversion, moved_at = clock_timestamp()
      where p.keyversion < excluded.keyversion
  `.execute(tx);
}

/** Takes a resolved event out of the store; false where its lease has gone to somebody else. */
export async function deleteLeased(
  tx: HandlingHandle,
  consumer: string,
  event: LoggedEvent,
  leaseToken: string,
): Promise<boolean> {
  const { rows } = await sql`
    delete from tenant.event_deliveries
    where tenant_id = ${event.tenantId} and consumer = ${consumer} and event_id = ${event.eventId}
      and lease_token = ${leaseToken}
    returning event_id
  `.execute(tx);
  return rows.length === 1;
}

/** Has the first waiting event of each type of a key looked at again at once. */
export async function nudgeFollowers(
  tx: HandlingHandle,
  consumer: string,
  { tenantId, key }: Pick<LoggedEvent, 'tenantId' | 'key'>,
): Promise<void> {
  await sql`
    update tenant.event_deliveries d set next_attempt_at = clock_timestamp()
    from (select distinct on (type) event_id from tenant.event_deliveries
      where tenant_id = ${tenantId} and consumer = ${consumer} and key = ${key} and state = 'held'
      order by type, keyversion) as first
    where d.tenant_id = ${tenantId} and d.consumer = ${consumer} and d.event_id = first.event_id and d.state = 'held'
  `.execute(tx);
}
