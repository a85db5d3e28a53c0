import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import { partitionCount } from '../partition.ts';
import type { EventCursor } from '../types.ts';

/** A partition that this process feeds to a consumer. */
export interface HeldPlace {
  readonly partition: number;
  readonly fence: bigint;
  readonly cursor: EventCursor;
  /** The process that held it before went without giving it back. */
  readonly wasAbandoned: boolean;
}

interface PlaceRow {
  readonly partition: number;
  readonly fence: bigint;
  readonly xid: string;
  readonly seq: bigint;
  readonly was_held: boolean;
}

/** Makes a consumer's places where it has none: before the first event of the log. */
export async function makePlaces(tx: SystemHandle, consumer: string): Promise<void> {
  await sql`
    insert into platform.event_places (consumer, partition)
    select ${consumer}, generate_series(0, ${partitionCount - 1}::integer)
    on conflict do nothing
  `.execute(tx);
}

/**
 * Says that this process feeds the consumer; answers how many do, itself among them. Those whose time is over are
 * forgotten.
 */
export async function joinFeeders(
  tx: SystemHandle,
  consumer: string,
  holder: string,
  leaseMs: number,
): Promise<number> {
  await sql`
    delete from platform.event_feeders where consumer = ${consumer} and alive_until < clock_timestamp()
  `.execute(tx);
  await sql`
    insert into platform.event_feeders (consumer, holder, alive_until)
    values (${consumer}, ${holder}, clock_timestamp() + ${leaseMs} * interval '1 millisecond')
    on conflict (consumer, holder) do update set alive_until = excluded.alive_until
  `.execute(tx);
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from platform.event_feeders where consumer = ${consumer}
  `.execute(tx);
  return rows[0]?.count ?? 1;
}

export async function leaveFeeders(tx: SystemHandle, consumer: string, holder: string): Promise<void> {
  await sql`
    delete from platform.event_feeders where consumer = ${consumer} and holder = ${holder}
  `.execute(tx);
}

/** Renews what this process holds; answers the partitions that it still does. */
export async function renewPlaces(
  tx: SystemHandle,
  consumer: string,
  holder: string,
  leaseMs: number,
): Promise<ReadonlyMap<number, bigint>> {
  const { rows } = await sql<{ partition: number; fence: bigint }>`
    update platform.event_places set leased_until = clock_timestamp() + ${leaseMs} * interval '1 millisecond'
    where consumer = ${consumer} and holder = ${holder}
    returning partition::integer as partition, fence
  `.execute(tx);
  return new Map(rows.map(({ partition, fence }) => [partition, fence]));
}

/** Takes up to `limit` partitions that nobody feeds, each with a new fence. */
export async function takePlaces(
  tx: SystemHandle,
  take: {
    readonly consumer: string;
    readonly holder: string;
    readonly leaseMs: number;
    readonly limit: number;
    /** Nobody else can live: whoever holds a partition is dead. */
    readonly isAlone: boolean;
  },
): Promise<readonly HeldPlace[]> {
  const { rows } = await sql<PlaceRow>`
    with free as materialized (
      select partition, holder is not null as was_held from platform.event_places
      where consumer = ${take.consumer} and holder is distinct from ${take.holder}::uuid
        and (holder is null or leased_until <= clock_timestamp() or ${take.isAlone}::boolean)
      order by partition
      limit ${take.limit} for update skip locked
    )
    update platform.event_places p
    set holder = ${take.holder}, fence = fence + 1,
      leased_until = clock_timestamp() + ${take.leaseMs} * interval '1 millisecond'
    from free where p.consumer = ${take.consumer} and p.partition = free.partition
    returning p.partition::integer as partition, p.fence, p.xid::text as xid, p.seq, free.was_held
  `.execute(tx);
  return rows.map((row) => ({
    partition: row.partition,
    fence: row.fence,
    cursor: { xid: row.xid, seq: String(row.seq) },
    wasAbandoned: row.was_held,
  }));
}

export interface PlaceMove {
  readonly partition: number;
  readonly fence: bigint;
  readonly cursor: EventCursor;
}

/** Writes places; answers the partitions whose fence still holds. Gives them back where `isLeaving`. */
export async function writePlaces(
  tx: SystemHandle,
  consumer: string,
  moves: readonly PlaceMove[],
  isLeaving: boolean,
): Promise<ReadonlySet<number>> {
  const { rows } = await sql<{ partition: number }>`
    update platform.event_places p
    set xid = m.xid::xid8, seq = m.seq, holder = case when ${isLeaving}::boolean then null else p.holder end
    from unnest(${moves.map((move) => move.partition)}::integer[], ${moves.map((move) => move.fence)}::bigint[],
      ${moves.map((move) => move.cursor.xid)}::text[], ${moves.map((move) => move.cursor.seq)}::bigint[])
      as m(partition, fence, xid, seq)
    where p.consumer = ${consumer} and p.partition = m.partition and p.fence = m.fence
    returning p.partition::integer as partition
  `.execute(tx);
  return new Set(rows.map(({ partition }) => partition));
}

/** How many events of these families lie behind a cursor, up to `limit`. */
export async function countBehind(
  tx: SystemHandle,
  after: EventCursor,
  families: readonly string[],
  limit: number,
): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::integer as count from (
      select from tenant.events
      where (xid, seq) > (${after.xid}::xid8, ${after.seq}::bigint)
        and regexp_replace(type, '\\.v[0-9]+$', '') = any(${families}::text[])
      limit ${limit}) as behind
  `.execute(tx);
  return rows[0]?.count ?? 0;
}
