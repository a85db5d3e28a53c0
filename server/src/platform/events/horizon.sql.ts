import { sql } from 'kysely';
import type { SystemHandle } from '#db';

export interface HorizonRow {
  /** The id below which every transaction has ended. */
  readonly xmin: string;
  /** Whether a transaction of that id still runs. */
  readonly is_held: boolean;
  readonly database: string | null;
  readonly pid: number | null;
  readonly login: string | null;
  readonly application: string | null;
  readonly state: string | null;
  readonly age_seconds: number | null;
}

/**
 * Where the horizon is, and who holds it. Every login sees the database, process, login and application of every session
 * and which transaction it runs; its state and its start only of sessions of its own, unless it may read all statistics
 * (`grant pg_read_all_stats to <login>`). A prepared transaction has no session and shows all.
 */
export async function readHorizon(tx: SystemHandle): Promise<HorizonRow | undefined> {
  const { rows } = await sql<HorizonRow>`
    with horizon as (
      select pg_snapshot_xmin(pg_current_snapshot()) as xmin, pg_snapshot_xmax(pg_current_snapshot()) as xmax
    )
    select horizon.xmin::text as xmin, horizon.xmin < horizon.xmax as is_held,
      coalesce(session.datname, prepared.database)::text as database, session.pid,
      coalesce(session.usename, prepared.owner)::text as login,
      coalesce(session.application_name, prepared.gid) as application,
      case when prepared.gid is not null then 'prepared' else session.state end as state,
      extract(epoch from clock_timestamp() - coalesce(session.xact_start, prepared.prepared))::float8 as age_seconds
    from horizon
    left join pg_stat_activity session on session.backend_xid = horizon.xmin::xid
    left join pg_prepared_xacts prepared on prepared.transaction = horizon.xmin::xid
    limit 1
  `.execute(tx);
  return rows[0];
}
