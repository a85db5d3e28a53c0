/**
 * What `npm run bench:settlement` runs (test/load/bench-settlement.ts): batches of new records, of one tenant and of 1,000,
 * by the short way that the gateway takes and by the long one that recovery takes (settlement.ts), on PGlite in memory and,
 * with STOA_TEST_SERVICES=1, on PostgreSQL; all of them in turn in each round. CPU is of this process with all its threads:
 * PGlite is in it, PostgreSQL is not (there, go by records/s).
 */
import { parseArgs } from 'node:util';
import type { Database } from '#db';
import { newTenantId, type TenantId } from '#kernel';
import { openTestDatabase, type TestAdapter, testedAdapters } from '#testing';
import type { PendingRecord } from '../../journal/journal.ts';
import { RecordBytes } from '../../journal/record-bytes.ts';
import { recordOf } from '../../journal/testing/records.ts';
import { settledRow } from '../settled-row.ts';
import { writeRecords } from '../settlement.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    batches: { type: 'string', default: '10' },
    records: { type: 'string', default: '1000' },
  },
});
const batches = Number(options.batches);
const batchSize = Number(options.records);
const deadlineMs = 60_000;

interface Opened {
  readonly name: string;
  readonly db: Database;
  close(): Promise<void>;
}

interface Line {
  readonly database: Opened;
  readonly tenants: readonly TenantId[];
  readonly isShort: boolean;
  readonly perSecond: number[];
  readonly cpuUs: number[];
}

async function open(adapter: TestAdapter): Promise<Opened> {
  const { db, close } = await openTestDatabase({ adapter });
  return { name: adapter === 'pglite' ? 'PGlite' : 'PostgreSQL', db, close };
}

const bytes = new RecordBytes();

function batchOf(tenants: readonly TenantId[], isShort: boolean): PendingRecord[] {
  return Array.from({ length: batchSize }, (_, index) => {
    const record = recordOf(tenants[index % tenants.length] ?? newTenantId());
    const json = JSON.stringify(record);
    return {
      requestId: record.request_id,
      json,
      ...(isShort ? { place: bytes.add(json, settledRow(record)) } : {}),
    };
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? Number.NaN;
}

async function measure(line: Line): Promise<void> {
  const prepared = Array.from({ length: batches }, () => batchOf(line.tenants, line.isShort));
  const startedMs = performance.now();
  const before = process.cpuUsage();
  let inserted = 0;
  for (const batch of prepared) inserted += await writeRecords(line.database.db, batch, deadlineMs);
  const { user, system } = process.cpuUsage(before);
  if (inserted !== batches * batchSize) throw new Error(`${inserted} records were new`);
  line.cpuUs.push((user + system) / inserted);
  line.perSecond.push((inserted * 1000) / (performance.now() - startedMs));
}

/** What a row's text costs where it is made: on the path of the request. */
function rowCostUs(): number {
  const records = Array.from({ length: 1000 }, () => recordOf(newTenantId()));
  const costs = Array.from({ length: 50 }, () => {
    const startedMs = performance.now();
    for (const record of records) settledRow(record);
    return performance.now() - startedMs;
  });
  return median(costs);
}

const databases = await Promise.all(testedAdapters().map(open));
const many = Array.from({ length: 1000 }, () => newTenantId());
const lines = databases.flatMap((database) =>
  [[newTenantId()], many].flatMap((tenants) =>
    [true, false].map((isShort): Line => ({ database, tenants, isShort, perSecond: [], cpuUs: [] })),
  ),
);
try {
  for (let round = 0; round <= Number(options.rounds); round += 1) {
    for (const line of lines) {
      await measure(line);
      // The first round warms up.
      if (round === 0) line.perSecond.length = line.cpuUs.length = 0;
    }
  }
} finally {
  for (const database of databases) await database.close();
}
process.stdout.write(
  '| database | tenants | way | CPU us a record, this process | least | records/s |\n|---|---|---|---|---|---|\n',
);
for (const { database, tenants, isShort, perSecond, cpuUs } of lines) {
  process.stdout.write(
    `| ${database.name} | ${tenants.length} | ${isShort ? 'short' : 'long'} | ${median(cpuUs).toFixed(1)} ` +
      `| ${Math.min(...cpuUs).toFixed(1)} | ${median(perSecond).toFixed(0)} |\n`,
  );
}
process.stdout.write(`\nThe text of a row, on the request's path: ${rowCostUs().toFixed(2)} us\n`);
