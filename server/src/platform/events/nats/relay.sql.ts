import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import type { EventCursor } from '../types.ts';

/**
 * Takes the relay's row for the holder of a lease: from now on only writes with this fence, or a later one's, pass.
 * Null where a later holder was here already. One row by its primary key.
 */
export async function claimRelayPlace(
  tx: SystemHandle,
  relay: string,
  fence: bigint,
): Promise<EventCursor | null> {
  const { rows } = await sql<EventCursor>`
    insert into platform.event_relays as relay (name, fence) values (${relay}, ${fence})
    on conflict (name) do update set fence = excluded.fence where relay.fence <= excluded.fence
    returning xid::text as xid, seq::text as seq
  `.execute(tx);
  return rows[0] ?? null;
}

/** Stores how far the relay is; false, with nothing written, where a later holder has claimed the row. */
export async function moveRelayPlace(
  tx: SystemHandle,
  relay: string,
  fence: bigint,
  place: EventCursor,
): Promise<boolean> {
  const { rows } = await sql`
    update platform.event_relays
    set xid = ${place.xid}::xid8, seq = ${place.seq}::bigint, moved_at = clock_timestamp()
    where name = ${relay} and fence = ${fence}
    returning 1
  `.execute(tx);
  return rows.length === 1;
}

/** The earliest place of any consumer; null where there is no consumer. At most 64 rows a consumer. */
export async function earliestPlace(tx: SystemHandle): Promise<EventCursor | null> {
  const { rows } = await sql<EventCursor>`
    select xid::text as xid, seq::text as seq from platform.event_places order by event_places.xid, event_places.seq
    limit 1
  `.execute(tx);
  return rows[0] ?? null;
}

export interface RelayLag {
  /** Events in the log behind the place, counted up to the limit. */
  readonly events: number;
  /** Seconds since the oldest of them was written; 0 where there is none. */
  readonly seconds: number;
}

/** Uses events_by_cursor; reads at most `limit` rows of the index. */
export async function readRelayLag(tx: SystemHandle, place: EventCursor, limit: number): Promise<RelayLag> {
  const { rows } = await sql<{ count: bigint; seconds: number | null }>`
    select count(*) as count,
      extract(epoch from clock_timestamp() - min(behind.appended_at))::float8 as seconds
    from (
      select appended_at from tenant.events
      where (xid, seq) > (${place.xid}::xid8, ${place.seq}::bigint)
      order by events.xid, events.seq limit ${limit}
    ) as behind
  `.execute(tx);
  const [row] = rows;
  return { events: Number(row?.count ?? 0), seconds: Math.max(0, row?.seconds ?? 0) };
}

/** The id of this log, made with the table and never changed. */
export async function readLogId(tx: SystemHandle): Promise<string> {
  const { rows } = await sql<{ log_id: string }>`select log_id from platform.event_log_identity`.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new Error('the event log has lost its identity');
  return row.log_id;
}
