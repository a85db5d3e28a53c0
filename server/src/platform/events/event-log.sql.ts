import { type RawBuilder, sql } from 'kysely';
import type { EncodedEvent, EventCursor, LoggedEvent } from './types.ts';
import { type AnyHandle, noteWriter } from './writers.ts';

/** Where reading begins: before the first event. */
export const logStart: EventCursor = { xid: '0', seq: '0' };

/** Inserts events as they are; `appendEvents` checks them before. */
export async function insertEvents(tx: AnyHandle, events: readonly EncodedEvent[]): Promise<void> {
  const column = <T>(read: (event: EncodedEvent) => T): T[] => events.map(read);
  await sql`
    insert into tenant.events
      (tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data)
    select * from unnest(
      ${column((event) => event.tenantId)}::uuid[], ${column((event) => event.eventId)}::uuid[],
      ${column((event) => event.type)}::text[], ${column((event) => event.key)}::text[],
      ${column((event) => event.keyversion)}::bigint[], ${column((event) => event.occurredAt)}::timestamptz[],
      ${column((event) => event.causation ?? null)}::uuid[], ${column((event) => event.traceparent ?? null)}::text[],
      ${column((event) => event.data)}::text[])
  `.execute(tx);
}

/**
 * The INSERT of a larger statement, run in `tx`, that writes rows and their events together: as its last part, or in a
 * WITH. `source` is the name of one of the statement's own WITH queries, with the columns tenant_id, event_id, type, key,
 * keyversion, occurred_at, causation, traceparent, data; it holds only rows that this very statement has made, so that
 * a repeat writes no event.
 */
export function appendEventsFrom(tx: AnyHandle, source: string): RawBuilder<unknown> {
  noteWriter(tx);
  return sql`
    insert into tenant.events
      (tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data)
    select tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data
    from ${sql.ref(source)}`;
}

interface EventRow {
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

/**
 * The next events behind a cursor, oldest first, at most `limit`; none where nothing new is safe to read. Only below the
 * oldest transaction that still runs, so that no event can appear behind the cursor later. Uses events_by_cursor.
 */
export async function readEvents(
  tx: AnyHandle,
  after: EventCursor,
  limit: number,
): Promise<readonly LoggedEvent[]> {
  const { rows } = await sql<EventRow>`
    select tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data, xid::text as xid, seq
    from tenant.events
    where (xid, seq) > (${after.xid}::xid8, ${after.seq}::bigint)
      and xid < pg_snapshot_xmin(pg_current_snapshot())
    order by events.xid, events.seq
    limit ${limit}
  `.execute(tx);
  return rows.map((row) => ({
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
  }));
}
