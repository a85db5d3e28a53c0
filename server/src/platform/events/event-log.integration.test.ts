import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Database, openDatabase } from '#db';
import { newUuid } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { appendEvents, type EventCursor, type LoggedEvent, logStart, readEvents } from './index.ts';

/**
 * The proof of the log's order: many writers, each holding its transaction open for a while before it commits, so that
 * commits come in another order than positions; and readers by cursor that must see every event once and each key's in
 * order. PGlite has one session and therefore no such race. 50,000 events take 50 s on two cores that others use as well.
 */
const seed = Number(process.env['STOA_TEST_SEED'] ?? Date.now() % 1_000_000_007);
const eventCount = Number(process.env['STOA_TEST_EVENT_COUNT'] ?? 50_000);
const writerCount = 16;
const readerCount = 4;
const keyCount = 500;
const longestPauseMs = 20;
/** A writer elsewhere on the server holds readers back for as long as it likes. */
const patienceMs = 120_000;

/** Numbers from 0 up to 1 that a seed repeats (mulberry32). */
function randomFrom(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

async function newTenants(db: Database): Promise<readonly string[]> {
  const tenants = Array.from({ length: keyCount }, () => newUuid());
  await db.withOperator({ operator: 'system:test' }, 'tenants', (tx) =>
    sql`insert into tenant.tenants (tenant_id, name) select id, 'order' from unnest(${tenants}::uuid[]) as id`.execute(
      tx,
    ),
  );
  return tenants;
}

/** Each key is a tenant, and what changes of it is its row's version: taken under the lock of that row. */
async function writeSome(db: Database, tenants: readonly string[], random: () => number): Promise<number> {
  const changed = new Set<string>();
  const wanted = 1 + Math.floor(random() * 20);
  while (changed.size < wanted) changed.add(tenants[Math.floor(random() * tenants.length)] ?? '');
  const isRolledBack = random() < 0.03;
  const pauseMs = random() * random() * longestPauseMs;
  const work = db.withOperator({ operator: 'system:test' }, 'order', async (tx) => {
    // In one order, so that two writers never wait for each other.
    const ids = [...changed];
    await sql`
      select from tenant.tenants where tenant_id = any(${ids}::uuid[]) order by tenant_id for update
    `.execute(tx);
    const { rows } = await sql<{ tenant_id: string; version: bigint }>`
      update tenant.tenants set version = version + 1 where tenant_id = any(${ids}::uuid[])
      returning tenant_id, version
    `.execute(tx);
    const told = rows.map((row) => ({
      tenantId: row.tenant_id,
      eventId: newUuid(),
      type: 'fixture.happened.v1',
      key: 'row',
      keyversion: row.version - 1n,
      occurredAt: new Date(),
      data: '{}',
    }));
    await appendEvents(tx, told);
    await pause(pauseMs);
    if (isRolledBack) throw new RolledBack();
  });
  return work.then(
    () => changed.size,
    (error: unknown) => {
      if (error instanceof RolledBack) return 0;
      throw error;
    },
  );
}

class RolledBack extends Error {}

interface Seen {
  readonly ids: Set<string>;
  readonly versions: Map<string, bigint>;
  emptyPages: number;
}

/** Notes a page, and says what is wrong with it. */
function note(seen: Seen, page: readonly LoggedEvent[]): void {
  for (const event of page) {
    assert.ok(!seen.ids.has(event.eventId), `${event.eventId} was read twice`);
    seen.ids.add(event.eventId);
    const before = seen.versions.get(event.tenantId) ?? 0n;
    assert.equal(event.keyversion, before + 1n, `a key's events came out of order, at ${event.eventId}`);
    seen.versions.set(event.tenantId, event.keyversion);
  }
}

const skip = testedAdapters().includes('postgres') ? false : 'needs PostgreSQL: npm run test:services';

describe('the event log on PostgreSQL', { skip }, () => {
  let database: TestDatabase;
  let db: Database;
  before(async () => {
    database = await openTestDatabase({ adapter: 'postgres' });
    assert.ok(database.urls);
    const pools = { tenant: 1, operator: writerCount, system: readerCount };
    db = await openDatabase({ adapter: 'postgres', urls: database.urls, pools });
  });
  after(async () => {
    await db.close();
    await database.close();
  });

  async function read(random: () => number, isDone: (seen: Seen) => boolean): Promise<Seen> {
    const seen: Seen = { ids: new Set(), versions: new Map(), emptyPages: 0 };
    let cursor: EventCursor = logStart;
    for (const deadline = Date.now() + patienceMs; !isDone(seen) && Date.now() < deadline; ) {
      const limit = 1 + Math.floor(random() * 500);
      const page = await db.withSystem('relay', (tx) => readEvents(tx, cursor, limit));
      note(seen, page);
      cursor = page.at(-1)?.cursor ?? cursor;
      if (page.length === 0) {
        seen.emptyPages += 1;
        await pause(random() * 10);
      }
    }
    return seen;
  }

  test(`${readerCount} readers see each event of ${writerCount} writers once, in order per key`, async (t) => {
    t.diagnostic(`seed ${seed}, ${eventCount} events`);
    console.log(`seed ${seed}, ${eventCount} events`);
    const tenants = await newTenants(db);
    const started = performance.now();
    let written = 0;
    let writing = writerCount;
    const writers = Array.from({ length: writerCount }, async (_, index) => {
      const random = randomFrom(seed + index);
      while (written < eventCount) {
        const count = await writeSome(db, tenants, random);
        written += count;
      }
      writing -= 1;
    });
    const isDone = (seen: Seen): boolean => writing === 0 && seen.ids.size >= written;
    const readers = Array.from({ length: readerCount }, (_, index) =>
      read(randomFrom(seed + 1000 + index), isDone),
    );
    await Promise.all(writers);
    const wroteMs = performance.now() - started;
    const all = await Promise.all(readers);
    const { rows } = await db.withSystem('relay', (tx) =>
      sql<{ count: bigint }>`select count(*) as count from tenant.events`.execute(tx),
    );
    assert.equal(rows[0]?.count, BigInt(written));
    for (const seen of all) assert.equal(seen.ids.size, written);
    console.log(
      `${written} events by ${writerCount} writers in ${wroteMs.toFixed(0)} ms, read by ${readerCount} in ` +
        `${(performance.now() - started).toFixed(0)} ms`,
    );
  });
});
