/** What must hold after every scenario, read from the database itself. */
import assert from 'node:assert/strict';
import pg from 'pg';
import type { ClientView } from './load.ts';
import { until } from './platform.ts';
import type { FailureTenant } from './tenants.ts';

interface RecordRow {
  readonly request_id: string;
  readonly tenant_id: string;
  readonly outcome: string;
  readonly events: number;
}

async function asked<Row extends pg.QueryResultRow>(url: string, statement: string): Promise<readonly Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Row>(statement)).rows;
  } finally {
    await client.end();
  }
}

/** All usage records with the number of their events. */
function records(url: string): Promise<readonly RecordRow[]> {
  return asked<RecordRow>(
    url,
    `
      select u.request_id, u.tenant_id, u.outcome, count(e.event_id)::int as events
      from tenant.usage_records u
      left join tenant.events e on e.tenant_id = u.tenant_id and e.event_id = u.request_id
      group by 1, 2, 3`,
  );
}

/**
 * How long the longest lease that anybody holds may still last without a sign of life, in ms: of the relay and the leader
 * tasks, of partitions and their feeders, of stored events and replays, and of running jobs.
 */
export async function longestLeaseMs(url: string): Promise<number> {
  const [row] = await asked<{ left: number }>(
    url,
    `select coalesce(max(extract(epoch from held.until - clock_timestamp())) * 1000, 0)::float8 as left from (
       select expires_at from platform.leases
       union all select leased_until from platform.event_places
       union all select alive_until from platform.event_feeders
       union all select leased_until from tenant.event_deliveries
       union all select leased_until from tenant.event_replays
       union all select clock_timestamp() + heartbeat_seconds * interval '1 second' from jobs.queue
     ) as held (until) where held.until > clock_timestamp()`,
  );
  return row?.left ?? 0;
}

/**
 * Waits until the journals are shipped, and holds the database against what the clients saw: one completed record with one
 * event for each answer that a client read whole, of the tenant whose key asked; never two of anything, and no event under
 * two tenants.
 */
export async function checkRecords(
  databaseUrl: string,
  tenants: readonly FailureTenant[],
  view: ClientView,
): Promise<{ readonly records: number }> {
  let rows: readonly RecordRow[] = [];
  const wanted = [...view.completed.keys()].map(uuidOf);
  await until('record of every completed answer', async () => {
    rows = await records(databaseUrl);
    const known = new Set(rows.map((row) => row.request_id));
    return wanted.every((id) => known.has(id));
  });
  const byId = new Map<string, RecordRow>();
  for (const row of rows) {
    assert.equal(byId.has(row.request_id), false, `two usage records of ${row.request_id}`);
    byId.set(row.request_id, row);
    assert.equal(row.events, 1, `${row.events} events of ${row.request_id}`);
  }
  for (const [id, by] of view.completed) {
    const row = byId.get(uuidOf(id));
    assert.equal(row?.outcome, 'completed', id);
    assert.equal(row.tenant_id, uuidOf(tenants[by]?.id ?? ''), `${id} is recorded for the tenant that asked`);
  }
  const shared = await asked(
    databaseUrl,
    'select event_id from tenant.events group by 1 having count(distinct tenant_id) > 1',
  );
  assert.deepEqual(shared, [], 'no event is of two tenants');
  return { records: rows.length };
}

const digits = '0123456789abcdefghjkmnpqrstvwxyz';

/** The UUID behind `req_` or `ten_` and 26 digits of base 32, as the documents describe it. */
function uuidOf(id: string): string {
  let value = 0n;
  for (const digit of id.slice(id.indexOf('_') + 1)) value = value * 32n + BigInt(digits.indexOf(digit));
  return value
    .toString(16)
    .padStart(32, '0')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
