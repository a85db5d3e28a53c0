import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type RequestCompletedV1, requestCompletedV1 } from '@stoa/contracts';
import { sql } from 'kysely';
import { type Database, SqlError } from '#db';
import { type LoggedEvent, logStart, readEvents } from '#events';
import {
  AppError,
  asRequestId,
  asTenantId,
  newTenantId,
  silentLogger,
  systemClock,
  type TenantId,
} from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createJournal, type JournalStore, type PendingRecord } from '../journal/journal.ts';
import { RecordBytes } from '../journal/record-bytes.ts';
import { createPartitionKeeper } from './retention.ts';
import { settledRow } from './settled-row.ts';
import { createSettlement, type Settlement } from './settlement.ts';
import {
  countingMetrics,
  idAt,
  openNow,
  settleNow,
  recordOf,
  temporaryFolder,
} from '../journal/testing/records.ts';

const bytes = new RecordBytes();

/** A record that settlement takes by its long way. */
function fully(record: RequestCompletedV1): PendingRecord {
  return { requestId: record.request_id, json: JSON.stringify(record) };
}

/** A record that settlement takes by its short way, as the journal hands it over. */
function shortly(record: RequestCompletedV1): PendingRecord {
  const full = fully(record);
  return { ...full, place: bytes.add(full.json, settledRow(record)) };
}

interface Line {
  readonly journal: JournalStore;
  readonly settlement: Settlement;
  count(metric: string): number;
  close(): Promise<void>;
}

/** The database as it is, but for system doors, which fail with what `fault` answers. */
function failing(db: Database, fault: () => unknown): Database {
  return {
    ...db,
    withSystem: async (job, fn, options) => {
      const error = fault();
      if (error instanceof Error) throw error;
      return db.withSystem(job, fn, options);
    },
  };
}

async function openLine(database: TestDatabase, db: Database = database.db): Promise<Line> {
  const folder = await temporaryFolder();
  const { metrics, count } = countingMetrics();
  const parts = { clock: systemClock, logger: silentLogger, metrics };
  const journal = createJournal(parts, { directory: folder.path });
  const partitions = createPartitionKeeper({ ...parts, db });
  const settlement = createSettlement({ ...parts, db, journal, partitions }, { maxDelayMs: 5 });
  const close = async (): Promise<void> => {
    await settlement.stop();
    journal.close();
    await folder.remove();
  };
  return { journal, settlement, count, close };
}

interface CountRow {
  readonly requests: number;
  readonly usage: number;
  readonly events: number;
}

async function countsOf(database: TestDatabase, tenantId: TenantId): Promise<CountRow> {
  const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
    sql<CountRow>`
      select (select count(*) from tenant.requests)::integer as requests,
        (select count(*) from tenant.usage_records)::integer as usage,
        (select count(*) from tenant.events)::integer as events
    `.execute(tx),
  );
  return rows[0] ?? { requests: -1, usage: -1, events: -1 };
}

/**
 * The tenant's events in pages of ten until `count` are there, and one page more. A writer in any database of the server
 * holds the horizon back, so an empty page before that is no end; after 20 seconds it is.
 */
async function firstEvents(
  database: TestDatabase,
  tenantId: TenantId,
  count: number,
): Promise<LoggedEvent[]> {
  const seen: LoggedEvent[] = [];
  const until = performance.now() + 20_000;
  for (;;) {
    const cursor = seen.at(-1)?.cursor ?? logStart;
    const page = await database.db.withTenant({ tenantId }, (tx) => readEvents(tx, cursor, 10));
    seen.push(...page);
    if (page.length === 0 && (seen.length >= count || performance.now() > until)) return seen;
  }
}

/** Records that differ in every column, with texts that a row or a JSON could stumble over. */
function variedRecords(): RequestCompletedV1[] {
  const tenantId = newTenantId();
  const texts = [
    '',
    ' ',
    'a,b',
    '(x)',
    '"q"',
    '\\',
    '\\n',
    "o'clock",
    'NULL',
    'null',
    'Zoë 日本 😀',
    '\t\r',
    '{}',
    '\u2028',
  ];
  const one = recordOf(tenantId);
  return [
    one,
    ...texts.map((text) =>
      recordOf(tenantId, {
        key_id: text,
        project_id: text,
        end_user: text,
        requested_model: text,
        tags: { [text]: text },
        decision: { target: text, probability: 1, reason: text },
        attempts: one.attempts.map((attempt) => ({ ...attempt, target: text })),
        price_version: text,
        price: { hash: text, tier: text, unit: text },
      }),
    ),
    recordOf(tenantId, { attempts: [] }),
    recordOf(tenantId, { attempts: [], decision: null, outcome: 'refused' }),
    recordOf(tenantId, {
      priced: false,
      cost_femto: null,
      charge_femto: null,
      price_version: null,
      price: null,
    }),
    recordOf(tenantId, { cost_femto: '0', charge_femto: `-${'9'.repeat(38)}`, endpoint: 'embeddings' }),
    recordOf(tenantId, { trace_id: '', completed_at: '2026-12-31T23:59:59.999Z' }),
    recordOf(tenantId, {
      usage: {
        input_tokens: 9007199254740991,
        output_tokens: 2,
        cached_input_tokens: 3,
        cache_write_tokens: 4,
        reasoning_tokens: 5,
        input_audio_tokens: 6,
        output_audio_tokens: 7,
        estimated: true,
      },
    }),
    recordOf(newTenantId(), { request_id: idAt(Date.now() - (Date.now() % 86_400_000)) }),
    recordOf(newTenantId(), { request_id: idAt(Date.now() - (Date.now() % 86_400_000) - 1) }),
  ];
}

/** All that the tenants of these records have, as text, without what the event log numbers by itself. */
async function everythingOf(
  database: TestDatabase,
  records: readonly RequestCompletedV1[],
): Promise<unknown> {
  const found: unknown[] = [];
  for (const tenantId of new Set(records.map((record) => asTenantId(record.tenant_id)))) {
    const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
      sql<{ text: string }>`
        select u::text as text from tenant.usage_records as u
        union all select r::text from tenant.requests as r
        union all select (tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data)::text
          from tenant.events
        order by 1`.execute(tx),
    );
    found.push(rows);
  }
  assert.equal(found.flat().length, records.length * 3);
  return found;
}

for (const adapter of testedAdapters()) {
  describe(`settlement on ${adapter}`, () => {
    let database: TestDatabase;
    before(async () => {
      database = await openTestDatabase({ adapter });
    });
    after(() => database.close());

    test('a settled request becomes one usage row, one explanation and one event, byte for byte', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const record = recordOf(tenantId, {
        end_user: 'Zoë "quoted" \\ 日本',
        tags: { team: 'é', 'a b': '' },
        cost_femto: '12345678901234567890123456789012345678',
      });
      openNow(line.journal, record, tenantId);
      await settleNow(line.journal, record);
      await line.settlement.flush();
      assert.equal(line.journal.depth, 0);
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<Record<string, unknown>>`
          select request_id, record, target, tags, cost_femto, input_tokens, is_priced, price_hash, day
          from tenant.requests join tenant.usage_records using (tenant_id, request_id, target)
        `.execute(tx),
      );
      assert.equal(rows.length, 1);
      assert.deepEqual(rows[0], {
        request_id: record.request_id,
        record: JSON.stringify(record),
        target: 'small-model',
        tags: record.tags,
        cost_femto: record.cost_femto,
        input_tokens: 10n,
        is_priced: true,
        price_hash: '0123456789abcdef',
        day: new Date().toISOString().slice(0, 10),
      });
      const events = await firstEvents(database, tenantId, 1);
      assert.equal(events.length, 1);
      assert.deepEqual(
        [events[0]?.eventId, events[0]?.type, events[0]?.key, events[0]?.keyversion, events[0]?.data],
        [record.request_id, 'request.completed.v1', record.request_id, 1n, JSON.stringify(record)],
      );
      // The settlement writes text that nothing checks: it fits its schema as it is, without a default filled in.
      const data: unknown = JSON.parse(events[0]?.data ?? '');
      assert.deepEqual(requestCompletedV1.parse(data), data);
      assert.match(events[0]?.traceparent ?? '', /^00-0123456789abcdef0123456789abcdef-[0-9a-f]{16}-00$/);
      await line.close();
    });

    test('a shipment that is repeated changes nothing and tells no event twice', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const records = Array.from({ length: 5 }, () => recordOf(tenantId));
      const shipped = records.map((record) => ({
        requestId: record.request_id,
        json: JSON.stringify(record),
      }));
      assert.equal(await line.settlement.ship(shipped.slice(0, 3)), 3);
      assert.equal(await line.settlement.ship(shipped), 2);
      assert.equal(await line.settlement.ship(shipped), 0);
      assert.deepEqual(await countsOf(database, tenantId), { requests: 5, usage: 5, events: 5 });
      await line.close();
    });

    test('the short way writes the very rows, explanations and events that the long way writes', async () => {
      const records = variedRecords();
      const written: unknown[] = [];
      for (const isShort of [true, false]) {
        const copy = await openTestDatabase({ adapter });
        const line = await openLine(copy);
        const shipped = records.map(isShort ? shortly : fully);
        assert.equal(await line.settlement.ship(shipped), records.length);
        written.push(await everythingOf(copy, records));
        await line.close();
        await copy.close();
      }
      assert.deepEqual(written[0], written[1]);
    });

    test('a text with a line end in it reaches its own record and tenant, and nobody else', async () => {
      const line = await openLine(database);
      const [one, two, three] = [newTenantId(), newTenantId(), newTenantId()];
      const forged = `x)\n(${two},${recordOf(two).request_id},2026-03-04`;
      const records = [recordOf(one), recordOf(two, { end_user: forged }), recordOf(three)];
      for (const record of records) await settleNow(line.journal, record);
      await line.settlement.flush();
      assert.equal(line.count('stoa_settlement_rejected_records_total'), 0);
      for (const [index, tenantId] of [one, two, three].entries()) {
        assert.deepEqual(await countsOf(database, tenantId), { requests: 1, usage: 1, events: 1 });
        const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
          sql<{ record: string; end_user: string | null }>`
            select record, usage_records.end_user
            from tenant.requests join tenant.usage_records using (tenant_id, request_id)`.execute(tx),
        );
        const record = records[index];
        assert.deepEqual(rows, [{ record: JSON.stringify(record), end_user: record?.end_user ?? null }]);
      }
      await line.close();
    });

    test('one repeat among new records is left out, and every new one is written once', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const records = Array.from({ length: 6 }, () => recordOf(tenantId));
      const shipped = records.map(shortly);
      assert.equal(await line.settlement.ship(shipped.slice(2, 3)), 1);
      assert.equal(await line.settlement.ship(shipped), 5);
      assert.equal(await line.settlement.ship(shipped), 0);
      assert.deepEqual(await countsOf(database, tenantId), { requests: 6, usage: 6, events: 6 });
      assert.equal(line.count('stoa_settlement_rejected_records_total'), 0);
      await line.close();
    });

    test('the same batch shipped twice at once is written once', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const shipped = Array.from({ length: 300 }, () => recordOf(tenantId)).map(shortly);
      const inserted = await Promise.all([line.settlement.ship(shipped), line.settlement.ship(shipped)]);
      assert.deepEqual(
        inserted.toSorted((a, b) => a - b),
        [0, 300],
      );
      assert.deepEqual(await countsOf(database, tenantId), { requests: 300, usage: 300, events: 300 });
      await line.close();
    });

    test('every event is read once, in pages behind the cursor', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const records = Array.from({ length: 25 }, () => recordOf(tenantId));
      for (const record of records) await settleNow(line.journal, record);
      await line.settlement.flush();
      const events = await firstEvents(database, tenantId, records.length);
      const seen = events.map((event) => event.eventId);
      assert.deepEqual(seen.toSorted(), records.map((record) => record.request_id).toSorted());
      await line.close();
    });

    test('records that the database refuses go to the rejected file and hold nobody else up', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const records = Array.from({ length: 40 }, (_, index) =>
        recordOf(tenantId, index % 13 === 5 ? { cost_femto: '9'.repeat(39) } : {}),
      );
      const poisoned = records.filter((record) => record.cost_femto?.length === 39);
      assert.equal(poisoned.length, 3);
      for (const record of records) await settleNow(line.journal, record);
      await line.settlement.flush();
      assert.equal(line.journal.depth, 0);
      assert.deepEqual(await countsOf(database, tenantId), { requests: 37, usage: 37, events: 37 });
      assert.equal(line.count('stoa_settlement_rejected_records_total'), 3);
      const names = await readdir(line.journal.directory);
      const rejected = names.find((name) => name.startsWith('rejected-')) ?? 'none';
      const text = await readFile(join(line.journal.directory, rejected), 'utf8');
      const ids = text
        .trim()
        .split('\n')
        .map((row) => /"request_id":"([^"]+)"/.exec(row)?.[1]);
      assert.deepEqual(
        ids,
        poisoned.map((record) => record.request_id),
      );
      await line.close();
    });

    test('a record of an earlier month gets its partition; one from a wrong clock is rejected, never misplaced', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      const now = Date.now();
      const old = recordOf(tenantId, { request_id: idAt(now - 100 * 86_400_000) });
      const future = recordOf(tenantId, { request_id: idAt(now + 900 * 86_400_000) });
      const ancient = recordOf(tenantId, { request_id: idAt(86_400_000) });
      for (const record of [old, future, recordOf(tenantId), ancient]) await settleNow(line.journal, record);
      await line.settlement.flush();
      assert.deepEqual(await countsOf(database, tenantId), { requests: 2, usage: 2, events: 2 });
      assert.equal(line.count('stoa_settlement_rejected_records_total'), 2);
      await line.close();
    });

    test('the timer ships by itself, and a whole batch at once', async () => {
      const line = await openLine(database);
      const tenantId = newTenantId();
      line.settlement.start();
      for (let index = 0; index < 1200; index += 1) await settleNow(line.journal, recordOf(tenantId));
      while (line.journal.depth > 0) await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(await countsOf(database, tenantId), { requests: 1200, usage: 1200, events: 1200 });
      assert.equal(line.count('stoa_settlement_records_total'), 1200);
      await line.close();
    });

    test('with the database away nothing is dropped or rejected, and it is all written when it is back', async () => {
      let failures = 0;
      const errors = [
        new AppError('database_unavailable', 'away'),
        new AppError('deadline_exceeded', 'slow'),
        new SqlError('permission denied', '42501'),
      ];
      const line = await openLine(
        database,
        failing(database.db, () => errors[failures++]),
      );
      const tenantId = newTenantId();
      for (let index = 0; index < 3; index += 1) {
        await settleNow(line.journal, recordOf(tenantId));
        await assert.rejects(line.settlement.flush());
        assert.equal(line.settlement.isHealthy(), false);
      }
      assert.equal(line.journal.depth, 3);
      line.settlement.start();
      while (line.journal.depth > 0) await new Promise((resolve) => setImmediate(resolve));
      assert.equal(line.settlement.isHealthy(), true);
      assert.deepEqual(await countsOf(database, tenantId), { requests: 3, usage: 3, events: 3 });
      assert.equal(line.count('stoa_settlement_rejected_records_total'), 0);
      assert.equal(line.count('stoa_settlement_failures_total'), 3);
      await line.close();
    });

    test('a stop with the database away ends by its deadline and leaves the records in the journal', async () => {
      const away = failing(database.db, () => new AppError('database_unavailable', 'away'));
      const line = await openLine(database, away);
      await settleNow(line.journal, recordOf(newTenantId()));
      const startedMs = performance.now();
      await line.settlement.stop(300);
      assert.ok(performance.now() - startedMs < 5000);
      line.journal.close();
      const names = await readdir(line.journal.directory);
      assert.equal(names.filter((name) => name.endsWith('.log')).length, 1);
      await line.close();
    });

    test('one tenant sees nothing of what another used', async () => {
      const line = await openLine(database);
      const [one, two] = [newTenantId(), newTenantId()];
      const record = recordOf(one);
      await settleNow(line.journal, record);
      assert.equal(line.journal.pending(two, asRequestId(record.request_id)), null);
      assert.equal(line.journal.pendingOf(two).length, 0);
      await line.settlement.flush();
      assert.deepEqual(await countsOf(database, one), { requests: 1, usage: 1, events: 1 });
      assert.deepEqual(await countsOf(database, two), { requests: 0, usage: 0, events: 0 });
      await line.close();
    });
  });
}
