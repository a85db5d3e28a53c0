import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import { contractIdleLimitMs, describeDatabaseContract } from './contract.ts';
import { type Database, openDatabase, type PgliteSettings } from './index.ts';

async function dataFolder(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'stoa-pglite-'));
  return { path, remove: async () => rm(path, { recursive: true, force: true }) };
}

describeDatabaseContract('pglite', async (migrations) => {
  const folder = await dataFolder();
  const db = await openDatabase({
    adapter: 'pglite',
    directory: join(folder.path, 'pglite'),
    idleLimitMs: contractIdleLimitMs,
  });
  await db.migrate(migrations);
  return {
    db,
    async close() {
      await db.close();
      await folder.remove();
    },
  };
});

/** A database that is closed when the test is over, however it ends: an open one would keep the process alive. */
async function openFor(context: TestContext, settings: Partial<PgliteSettings> = {}): Promise<Database> {
  const db = await openDatabase({ ...settings, adapter: 'pglite' });
  context.after(() => db.close());
  return db;
}

const tenantId = '00000000-0000-4000-8000-00000000000c';

test('on PGlite, what was committed before a hung statement ended the thread is there afterwards', async (context) => {
  const folder = await dataFolder();
  const db = await openFor(context, { directory: folder.path });
  await db.migrate([]);
  await db.withOperator({ operator: 'system:test' }, 'before', async () => undefined);
  const hung = db.withTenant(
    { tenantId },
    (tx) => sql`select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b`.execute(tx),
    { deadlineMs: 100 },
  );
  const waiting = db.withOperator({ operator: 'system:test' }, 'behind it', (tx) =>
    sql<{ reason: string }>`select reason from platform.operator_audit_entries order by entry_id`.execute(tx),
  );
  await assert.rejects(hung, (error) => error instanceof AppError && error.code === 'deadline_exceeded');
  assert.deepEqual(
    (await waiting).rows.map((row) => row.reason),
    // A passage that records nothing itself is written at its end.
    ['before'],
  );
  await db.close();
  await folder.remove();
});

test('on PGlite, the log is checkpointed as it grows, between transactions', async (context) => {
  const db = await openFor(context, { checkpoints: { lookEveryMs: 0, growthBytes: 1_000_000 } });
  await db.migrate([]);
  const redo = async (): Promise<string> => {
    const { rows } = await db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
      sql<{ redo: string }>`select redo_lsn::text as redo from pg_control_checkpoint()`.execute(tx),
    );
    return rows[0]?.redo ?? '';
  };
  const before = await redo();
  for (let turn = 0; turn < 20 && (await redo()) === before; turn += 1) {
    // Random, since a text that repeats itself is stored in a few bytes.
    const reason = randomBytes(100_000).toString('hex');
    await db.withOperator({ operator: 'system:test' }, reason, async () => undefined);
  }
  assert.notEqual(await redo(), before);
});

test('on PGlite, a door that waits past its deadline leaves the queue, and the 1,001st is refused at once', async (context) => {
  const db = await openFor(context);
  const gate = Promise.withResolvers<void>();
  const inside = Promise.withResolvers<void>();
  const holder = db.withTenant({ tenantId }, async () => {
    inside.resolve();
    await gate.promise;
  });
  await inside.promise;
  await assert.rejects(
    db.withTenant({ tenantId }, async () => undefined, { deadlineMs: 20 }),
    (error) => error instanceof AppError && error.code === 'deadline_exceeded',
  );
  const queue = Array.from({ length: 1000 }, () =>
    db.withTenant({ tenantId }, async () => undefined, { deadlineMs: 60_000 }),
  );
  await assert.rejects(
    db.withTenant({ tenantId }, async () => undefined),
    (error) => error instanceof AppError && error.code === 'overloaded',
  );
  gate.resolve();
  await Promise.all([holder, ...queue]);
});

test('on PGlite, closing waits for the open door, and a closed database refuses', async (context) => {
  const db = await openFor(context);
  const inside = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const holder = db.withTenant({ tenantId }, async (tx) => {
    inside.resolve();
    await gate.promise;
    return (await sql<{ a: number }>`select 1 as a`.execute(tx)).rows;
  });
  await inside.promise;
  const closing = db.close();
  gate.resolve();
  assert.deepEqual(await holder, [{ a: 1 }]);
  await closing;
  await assert.rejects(
    db.withTenant({ tenantId }, async () => undefined),
    (error) => error instanceof AppError && error.code === 'database_unavailable',
  );
  await db.close();
});

test('on PGlite, a folder that holds no readable database is refused, and the process goes on', async () => {
  const folder = await dataFolder();
  await assert.rejects(
    openDatabase({ adapter: 'pglite', directory: join('/dev/null', 'pglite') }),
    (error) => error instanceof AppError && error.code === 'database_unavailable',
  );
  await folder.remove();
});
