import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle } from '#db';

/** A day of the log that is past its retention. */
export interface ExpiredDay {
  readonly begins: Date;
  readonly ends: Date;
  /** Consumers (by name) and the relay that are in use and have not read past it; sorted. */
  readonly unreadBy: readonly string[];
  /** The same of consumers that nobody has fed for `givenUpDays`. */
  readonly unreadByGone: readonly string[];
}

interface DayRow {
  readonly begins: Date;
  readonly ends: Date;
  readonly unread_by: readonly string[] | null;
  readonly unread_by_gone: readonly string[] | null;
}

/**
 * The days that ended `days` ago and still have events, oldest first, with who has not read past them. Where the log was
 * restored into another server and is not settled, everybody's place is worth nothing, and all is unread. One look by
 * events_by_cursor for each such day; none where there is none.
 * @param givenUpDays after how many days without being fed a consumer no longer counts as in use
 * @param relay the name of the relay in use; null where there is none
 */
export async function selectExpiredDays(
  tx: SystemHandle,
  days: number,
  givenUpDays: number,
  relay: string | null,
): Promise<readonly ExpiredDay[]> {
  const { rows } = await sql<DayRow>`
    with day as materialized (
      select bound[1]::timestamptz as begins, bound[2]::timestamptz as ends
      from pg_inherits join pg_class on pg_class.oid = inhrelid,
        regexp_match(pg_get_expr(relpartbound, pg_class.oid), $re$FROM \\('([^']+)'\\) TO \\('([^']+)'\\)$re$) as bound
      where inhparent = 'tenant.events'::regclass and relname ~ '_p[0-9]{8}$'
        and bound[2]::timestamptz <= now() - make_interval(days => ${days}::integer)
    ), head as (
      select begins, ends, last.xid, last.seq from day cross join lateral (
        select xid, seq from tenant.events where appended_at >= begins and appended_at < ends
        order by events.xid desc, events.seq desc limit 1) as last
    ), consumer as (
      select distinct on (consumer) consumer as name, xid, seq, max(leased_until) over (partition by consumer) as fed_at
      from platform.event_places order by consumer, event_places.xid, event_places.seq
    ), reader as (
      select name, xid, seq, fed_at >= now() - make_interval(days => ${givenUpDays}::integer) as is_used from consumer
      union all
      select 'relay ' || name, xid, seq, true from platform.event_relays where name = ${relay}::text
    )
    select begins, ends,
      array_agg(name order by name) filter (where is_used and is_unread) as unread_by,
      array_agg(name order by name) filter (where not is_used and is_unread) as unread_by_gone
    from head left join lateral (
      select reader.name, reader.is_used,
        (reader.xid, reader.seq) < (head.xid, head.seq)
          or reader.xid > pg_snapshot_xmax(pg_current_snapshot())
          or (select server <> platform.database_server() from platform.event_log_identity) is true as is_unread
      from reader) as judged on true
    group by begins, ends order by begins
  `.execute(tx);
  return rows.map((row) => ({
    begins: row.begins,
    ends: row.ends,
    unreadBy: row.unread_by ?? [],
    unreadByGone: row.unread_by_gone ?? [],
  }));
}

export interface Foreign {
  /** Places of consumers that lie ahead of every transaction of this server. */
  readonly places: number;
  readonly relays: number;
  /** Whether events do. */
  readonly hasEvents: boolean;
  /** Whether the log's positions were given by another server than this one. */
  readonly isOtherServer: boolean;
}

/** Whether positions are those of another server. */
export function isForeign({ places, relays, hasEvents, isOtherServer }: Foreign): boolean {
  return places > 0 || relays > 0 || hasEvents || isOtherServer;
}

interface ForeignRow {
  readonly places: number;
  readonly relays: number;
  readonly has_events: boolean;
  readonly is_other_server: boolean;
}

/**
 * What of the log can't be this server's: a position is never greater than the next transaction id. 64 rows a consumer,
 * and the end of events_by_cursor in each day.
 */
export async function readForeign(tx: SystemHandle | OperatorHandle): Promise<Foreign> {
  const { rows } = await sql<ForeignRow>`
    with next as materialized (select pg_snapshot_xmax(pg_current_snapshot()) as id)
    select
      (select count(*)::integer from platform.event_places where xid > next.id) as places,
      (select count(*)::integer from platform.event_relays where xid > next.id) as relays,
      exists (select from tenant.events where xid > next.id) as has_events,
      (select server <> platform.database_server() from platform.event_log_identity) is true as is_other_server
    from next
  `.execute(tx);
  const [row] = rows;
  return {
    places: row?.places ?? 0,
    relays: row?.relays ?? 0,
    hasEvents: row?.has_events ?? false,
    isOtherServer: row?.is_other_server ?? false,
  };
}
