import type { SystemHandle } from '#db';
import { sql } from 'kysely';

interface CountRow {
  readonly count: number;
}

type MonthlyTable = 'tenant.requests' | 'tenant.usage_records';

/** Makes the months of a table from the one that holds `from`. Answers how many were made; 22008 beyond what is sensible. */
export async function makeMonths(
  tx: SystemHandle,
  table: MonthlyTable,
  from: Date,
  months: number,
): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.make_month_partitions(${table}::regclass, ${from}::timestamptz, ${months}::integer) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}

/** Drops the months of a table that end at or before `before`. Answers how many were dropped. */
export async function dropMonths(tx: SystemHandle, table: MonthlyTable, before: Date): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.drop_month_partitions(${table}::regclass, ${before}::timestamptz) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}
