/** What must hold after every scenario, read from the database itself. */
import assert from 'node:assert/strict';
import pg from 'pg';
import type { ClientView } from './load.ts';
import { until } from './platform.ts';

interface RecordRow {
  readonly request_id: string;
  readonly tenant_id: string;
  readonly outcome: string;
  readonly events: number;
}

/** All usage records with the number of their events. */
async function records(url: string): Promise<readonly RecordRow[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<RecordRow>(`
      select u.request_id, u.tenant_id, u.outcome, count(e.event_id)::int as events
      from tenant.usage_records u
      left join tenant.events e on e.tenant_id = u.tenant_id and e.event_id = u.request_id
      group by 1, 2, 3`);
    return rows;
  } finally {
    await client.end();
  }
}

/**
 * Waits until the journals are shipped, and holds the database against what the clients saw: one completed record with one
 * event for each answer that a client read whole, never two of anything.
 */
export async function checkRecords(
  databaseUrl: string,
  view: ClientView,
): Promise<{ readonly records: number }> {
  let rows: readonly RecordRow[] = [];
  const wanted = [...view.completed].map(uuidOf);
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
  for (const id of wanted) assert.equal(byId.get(id)?.outcome, 'completed', id);
  return { records: rows.length };
}

const digits = '0123456789abcdefghjkmnpqrstvwxyz';

/** The UUID behind `req_` and 26 digits of base 32, as the documents describe it. */
function uuidOf(id: string): string {
  let value = 0n;
  for (const digit of id.slice('req_'.length)) value = value * 32n + BigInt(digits.indexOf(digit));
  return value
    .toString(16)
    .padStart(32, '0')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
