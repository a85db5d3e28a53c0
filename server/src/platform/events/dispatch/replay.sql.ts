import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle } from '#db';
import type { EventCursor, LoggedEvent } from '../types.ts';
import { type EventColumns, eventOf } from './deliveries.sql.ts';
import type { HandlingHandle } from './handling.sql.ts';

export interface ReplayRow {
  readonly tenant_id: string;
  readonly replay_id: string;
  readonly consumer: string;
  readonly from_time: Date;
  readonly state: 'running' | 'done';
  readonly xid: string;
  readonly seq: bigint;
  readonly until_xid: string;
  readonly handed: bigint;
  readonly failed: bigint;
  readonly created_at: Date;
  readonly finished_at: Date | null;
}

const replayColumns = sql`tenant_id, replay_id, consumer, from_time, state, xid::text as xid, seq,
  until_xid::text as until_xid, handed, failed, created_at, finished_at`;

/** Asks for a replay of what the log holds now; undefined where there is no such tenant. What is told later reaches the consumer anyhow. */
export async function insertReplay(
  tx: OperatorHandle,
  replay: {
    readonly tenantId: string;
    readonly replayId: string;
    readonly consumer: string;
    readonly from: Date;
  },
): Promise<ReplayRow | undefined> {
  const { rows } = await sql<ReplayRow>`
    insert into tenant.event_replays (tenant_id, replay_id, consumer, from_time, state, until_xid)
    select tenant_id, ${replay.replayId}::uuid, ${replay.consumer}, ${replay.from}::timestamptz, 'running',
      pg_snapshot_xmin(pg_current_snapshot())
    from tenant.tenants where tenant_id = ${replay.tenantId}
    returning ${replayColumns}
  `.execute(tx);
  return rows[0];
}

/** One replay, or undefined. A scan of the few there are. */
export async function selectReplay(tx: OperatorHandle, replayId: string): Promise<ReplayRow | undefined> {
  const { rows } = await sql<ReplayRow>`
    select ${replayColumns} from tenant.event_replays where replay_id = ${replayId}
  `.execute(tx);
  return rows[0];
}

/** A replay that this process works on. */
export interface LeasedReplay extends ReplayRow {
  /** Whoever worked on it went without giving it back. */
  readonly was_held: boolean;
}

/** Takes the oldest replay that nobody works on; null where there is none. */
export async function leaseReplay(
  tx: SystemHandle,
  consumers: readonly string[],
  lease: { readonly token: string; readonly ms: number },
): Promise<LeasedReplay | null> {
  const { rows } = await sql<LeasedReplay>`
    with next as materialized (
      select tenant_id as of_tenant, replay_id as id, leased_until is not null as was_held from tenant.event_replays
      where state = 'running' and consumer = any(${consumers}::text[])
        and (leased_until is null or leased_until <= clock_timestamp())
      order by created_at limit 1 for update skip locked
    )
    update tenant.event_replays
    set lease_token = ${lease.token}, leased_until = clock_timestamp() + ${lease.ms} * interval '1 millisecond'
    from next where tenant_id = next.of_tenant and replay_id = next.id
    returning ${replayColumns}, was_held
  `.execute(tx);
  return rows[0] ?? null;
}

/** The next events of a replay. By events_by_cursor, from the day of `from_time` on; passes over other tenants' events. */
export async function readReplay(
  tx: SystemHandle,
  replay: ReplayRow,
  after: EventCursor,
  types: readonly string[],
  limit: number,
): Promise<readonly LoggedEvent[]> {
  const { rows } = await sql<EventColumns>`
    select tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data, xid::text as xid, seq
    from tenant.events
    where tenant_id = ${replay.tenant_id} and type = any(${types}::text[]) and appended_at >= ${replay.from_time}
      and (xid, seq) > (${after.xid}::xid8, ${after.seq}::bigint) and xid < ${replay.until_xid}::xid8
    order by events.xid, events.seq
    limit ${limit}
  `.execute(tx);
  return rows.map(eventOf);
}

export interface ReplayStep {
  readonly replay: ReplayRow;
  readonly token: string;
  readonly leaseMs: number;
  /** Everything at or before it was handed over. */
  readonly cursor: EventCursor;
}

/** Notes an event of a replay, and renews the lease; false where that has gone. */
export async function moveReplay(
  tx: HandlingHandle,
  { replay, token, leaseMs, cursor }: ReplayStep,
  isHandled: boolean,
): Promise<boolean> {
  const { rows } = await sql`
    update tenant.event_replays
    set xid = ${cursor.xid}::xid8, seq = ${cursor.seq}::bigint, handed = handed + ${isHandled ? 1 : 0},
      failed = failed + ${isHandled ? 0 : 1},
      leased_until = clock_timestamp() + ${leaseMs} * interval '1 millisecond'
    where tenant_id = ${replay.tenant_id} and replay_id = ${replay.replay_id} and lease_token = ${token}
    returning replay_id
  `.execute(tx);
  return rows.length === 1;
}

export async function finishReplay(tx: SystemHandle, replay: ReplayRow, token: string): Promise<void> {
  await sql`
    update tenant.event_replays set state = 'done', finished_at = clock_timestamp(), lease_token = null,
      leased_until = null
    where tenant_id = ${replay.tenant_id} and replay_id = ${replay.replay_id} and lease_token = ${token}
  `.execute(tx);
}

/** Lets another process go on at once. */
export async function giveReplayBack(tx: SystemHandle, replay: ReplayRow, token: string): Promise<void> {
  await sql`
    update tenant.event_replays set lease_token = null, leased_until = null
    where tenant_id = ${replay.tenant_id} and replay_id = ${replay.replay_id} and lease_token = ${token}
  `.execute(tx);
}
