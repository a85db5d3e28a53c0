/** Migrations while others serve, migrate, or hold a table. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { sql } from 'kysely';
import { silentLogger } from '#kernel';
import { defaultTestAdapter, openTestDatabase, type TestDatabase } from '#testing';
import {
  announceProcess,
  type Database,
  type MigrationSet,
  openDatabase,
  type PendingMigration,
} from '../index.ts';

const probeSql = `-- phase: expand
create table platform.probes (id int primary key, old_name text);
select platform.protect_platform_table('platform.probes', system_verbs => 'select');
`;

interface Subject extends TestDatabase {
  /** A second process's connections to the same database. */
  readonly other: Database;
  readonly set: MigrationSet;
  write(fileName: string, text: string): Promise<void>;
}

const skip = defaultTestAdapter() === 'postgres' ? false : 'two processes on one database need PostgreSQL';

async function openSubject(context: TestContext): Promise<Subject> {
  const folder = await mkdtemp(join(tmpdir(), 'stoa-phases-'));
  const database = await openTestDatabase({ migrations: [] });
  assert.ok(database.urls);
  const other = await openDatabase({ adapter: 'postgres', urls: database.urls });
  context.after(async () => {
    await other.close();
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });
  const write = (fileName: string, text: string) => writeFile(join(folder, fileName), text);
  const set = { module: 'test/probes', directory: pathToFileURL(`${folder}/`) };
  await write('0001-probes.sql', probeSql);
  await database.db.migrate([set]);
  return { ...database, other, set, write };
}

const facts = (sets: readonly MigrationSet[], pid = 4711) => ({
  roles: ['gateway'],
  host: 'web-1',
  pid,
  version: '0.0.1',
  sets,
});

/** The process of a version that knows the files which are there now. */
async function announce(
  context: TestContext,
  { db, set }: Subject,
  timing?: { readonly everyMs: number; readonly aliveMs: number },
  pid?: number,
) {
  const announcement = announceProcess({ db, logger: silentLogger }, facts([set], pid), timing);
  await announcement.start();
  context.after(() => announcement.stop());
  return announcement;
}

const waitedFor = (pending: readonly PendingMigration[]): number[] =>
  pending.flatMap((migration) => migration.waitsFor.map((process) => process.pid));

const contractSql = '-- phase: contract\nalter table platform.probes drop column old_name;\n';

test('a contract migration waits for every process that does not know it, and for no other', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  const old = await announce(context, subject, undefined, 1);
  await subject.write('0002-less.sql', contractSql);
  await announce(context, subject, undefined, 2);
  const refused = await subject.other.migrate([subject.set]);
  assert.deepEqual([refused.applied, waitedFor(refused.pending)], [[], [1]]);
  assert.deepEqual(waitedFor((await subject.other.schemaStatus([subject.set])).pending), [1]);
  await old.stop();
  const { applied, pending } = await subject.other.migrate([subject.set]);
  assert.deepEqual([applied.map(({ name }) => name), pending], [['less'], []]);
});

test('contract migrations keep their order: one that waits holds back those after it', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  await announce(context, subject);
  await subject.write('0002-less.sql', contractSql);
  await subject.write('0003-more.sql', 'alter table platform.probes add column more text;');
  await subject.write('0004-last.sql', '-- phase: contract\nselect 1;');
  const { applied, pending } = await subject.other.migrate([subject.set]);
  assert.deepEqual(
    [applied, pending].map((list) => list.map(({ name }) => name)),
    [['more'], ['less', 'last']],
  );
});

test('a killed process is waited for until its announcement has run out and nobody renews it', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  // It never beats again, as if it had been killed.
  await announce(context, subject, { everyMs: 600_000, aliveMs: 1_500 });
  await subject.write('0002-less.sql', contractSql);
  assert.deepEqual(waitedFor((await subject.other.migrate([subject.set])).pending), [4711]);
  await new Promise((resolve) => setTimeout(resolve, 1_600));
  const said: string[] = [];
  const { applied } = await subject.other.migrate([subject.set], { onWait: (what) => said.push(what) });
  assert.deepEqual(
    applied.map(({ name }) => name),
    ['less'],
  );
  assert.match(said.join('\n'), /announcements of processes have run out/);
  assert.deepEqual((await subject.other.schemaStatus([subject.set])).processes, []);
});

test('a process that could not renew its announcement in time is not taken for dead while it is alive', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  await announce(context, subject);
  await subject.write('0002-less.sql', contractSql);
  // As after an outage of the database, when all announcements have run out and nobody has renewed his yet.
  await subject.db.withSystem('schema', (tx) =>
    sql`update platform.processes set alive_until = clock_timestamp() - interval '1 minute'`.execute(tx),
  );
  assert.equal((await subject.other.schemaStatus([subject.set])).processes[0]?.isAlive, false);
  const { pending } = await subject.other.migrate([subject.set]);
  assert.deepEqual(waitedFor(pending), [4711]);
});

test('a process that starts while a contract migration runs is announced after it, and finds a schema that it cannot serve', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  const old = announceProcess({ db: subject.db, logger: silentLogger }, facts([subject.set]));
  await subject.write('0002-slow.sql', `${contractSql}select pg_sleep(1.5);`);
  const migrating = subject.other.migrate([subject.set]);
  await until(async () => {
    const { rows } = await subject.db.withSystem('schema', (tx) =>
      sql<{ held: boolean }>`select exists (select from pg_locks
        where locktype = 'advisory' and objid = 1276235311 and mode = 'ExclusiveLock' and granted) as held`.execute(
        tx,
      ),
    );
    return rows[0]?.held === true;
  });
  const order: string[] = [];
  await Promise.all([
    migrating.then((report) => order.push(`migrated ${report.applied.length}`)),
    old.start().then(() => order.push('announced')),
  ]);
  context.after(() => old.stop());
  assert.deepEqual(order.toSorted(), ['announced', 'migrated 1']);
  const row = await subject.db.withSystem('schema', (tx) =>
    sql<{ is_later: boolean }>`select p.started_at > m.applied_at + interval '1 second' as is_later
      from platform.processes p, platform.migrations m where m.name = 'slow'`.execute(tx),
  );
  assert.equal(row.rows[0]?.is_later, true);
});

test('of two processes that migrate at once one does it, and the other says that it waits and finds nothing to do', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  await subject.write('0002-slow.sql', 'select pg_sleep(1); create table platform.once (id int);');
  const said: string[] = [];
  const onWait = (what: string): void => {
    said.push(what);
  };
  const reports = await Promise.all(
    [subject.db, subject.other].map((db) => db.migrate([subject.set], { onWait })),
  );
  assert.deepEqual(
    reports.map((report) => report.applied.length).toSorted((a, b) => a - b),
    [0, 1],
  );
  assert.deepEqual(said, ['another process migrates this database; this one waits for it']);
});

test('a migration that waits for a table lets the others through, and applies once the table is free', {
  skip,
}, async (context) => {
  const subject = await openSubject(context);
  await subject.write('0002-audit.sql', 'alter table platform.audit_entries add column more text;');
  const operator = { operator: 'system:test' };
  const held = Promise.withResolvers<void>();
  const holding = Promise.withResolvers<void>();
  const holder = subject.db.withOperator(operator, 'holds the table', async (tx) => {
    await sql`select count(*) from platform.audit_entries`.execute(tx);
    holding.resolve();
    await held.promise;
  });
  await holding.promise;
  const said: string[] = [];
  const startedAt = performance.now();
  const migrating = subject.other.migrate([subject.set], { onWait: (what) => said.push(what) });
  let slowestMs = 0;
  while (performance.now() - startedAt < 6_000) {
    const readAt = performance.now();
    await subject.db.withOperator(operator, 'reads and writes beside it', (tx) =>
      sql`select count(*) from platform.audit_entries`.execute(tx),
    );
    slowestMs = Math.max(slowestMs, performance.now() - readAt);
  }
  assert.ok(slowestMs < 3_500, `one waited for ${slowestMs} ms`);
  held.resolve();
  await holder;
  assert.deepEqual(
    (await migrating).applied.map(({ name }) => name),
    ['audit'],
  );
  assert.deepEqual(said, ['test/probes/0002-audit waits for a table that is in use']);
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineAt = performance.now() + 20_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadlineAt, 'it never came about');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
