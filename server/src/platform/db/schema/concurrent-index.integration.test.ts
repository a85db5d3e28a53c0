/** Indexes on large tables while others write. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { sql } from 'kysely';
import { Client } from 'pg';
import { AppError } from '#kernel';
import { defaultTestAdapter, openTestDatabase } from '#testing';
import type { Database } from '../index.ts';

const probeSql = `-- phase: expand
create table platform.log (at timestamptz not null, word text) partition by range (at);
select platform.protect_platform_table('platform.log', operator_verbs => 'select, insert');
select platform.make_partitions('platform.log', 'day', 2);
create table platform.plain (word text);
select platform.protect_platform_table('platform.plain', operator_verbs => 'select, insert');
insert into platform.log select now(), 'word ' || n from generate_series(1, 200000) n;
`;

async function openSubject(context: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'stoa-indexes-'));
  const database = await openTestDatabase({ migrations: [] });
  context.after(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });
  const set = { module: 'test/probes', directory: pathToFileURL(`${folder}/`) };
  const write = (fileName: string, text: string) => writeFile(join(folder, fileName), text);
  await write('0001-probes.sql', probeSql);
  await database.db.migrate([set]);
  return { ...database, set, write };
}

const operator = { operator: 'system:test' };

/** Table -> whether its index is valid, for all indexes with the column `word`. */
async function indexes(db: Database): Promise<Readonly<Record<string, boolean>>> {
  const { rows } = await db.withOperator(operator, 'looks at indexes', (tx) =>
    sql<{ table: string; is_valid: boolean }>`
      select indrelid::regclass::text as table, indisvalid as is_valid
      from pg_index where pg_get_indexdef(indexrelid) like '%(word)' order by 1`.execute(tx),
  );
  return Object.fromEntries(rows.map((row) => [row.table.replace(/\d{8}$/, ''), row.is_valid]));
}

const onLog =
  '-- phase: expand\n-- concurrently\n-- No lock that writers meet.\ncreate index log_by_word on platform.log (word);\n';

test('an index that is built concurrently is on every partition, plain tables have theirs, and both are in effect', async (context) => {
  const subject = await openSubject(context);
  await subject.write('0002-by-word.sql', onLog);
  await subject.write(
    '0003-plain.sql',
    '-- phase: expand\n-- concurrently\ncreate index plain_by_word on platform.plain using btree (word);\n',
  );
  const { applied } = await subject.db.migrate([subject.set]);
  assert.deepEqual(
    applied.map(({ name }) => name),
    ['by-word', 'plain'],
  );
  assert.deepEqual(await indexes(subject.db), {
    'platform.log': true,
    'platform.log_p': true,
    'platform.plain': true,
  });
  assert.deepEqual((await subject.db.migrate([subject.set])).applied, []);
});

test('a file that says it is built concurrently holds one index and nothing else', async (context) => {
  const subject = await openSubject(context);
  for (const statement of [
    'create index a on platform.log (word); create index b on platform.log (at);',
    'alter table platform.log add column more text;',
    'create unique index a on platform.log (word, at);',
    'create index a on log (word);',
    'create index on platform.log (word);',
  ]) {
    await subject.write('0002-by-word.sql', `-- phase: expand\n-- concurrently\n${statement}`);
    await assert.rejects(
      subject.db.migrate([subject.set]),
      (error) => error instanceof AppError && error.code === 'migration_changed',
    );
  }
});

const skip = defaultTestAdapter() === 'postgres' ? false : 'it takes two sessions';

test('writers do not wait while an index is built', {
  skip,
}, async (context) => {
  const { db, set, write } = await openSubject(context);
  // The build waits for this transaction, which has written to the table; those that come later pass the build.
  const release = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const insert = sql`insert into platform.log values (now(), 'one more')`;
  const holder = db.withOperator(operator, 'holds a partition', async (tx) => {
    await insert.execute(tx);
    written.resolve();
    await release.promise;
  });
  await written.promise;
  await write('0002-by-word.sql', onLog);
  let isDone = false;
  const migrating = db.migrate([set]).finally(() => {
    isDone = true;
  });
  const startedAt = performance.now();
  let slowestMs = 0;
  while (performance.now() - startedAt < 5_000) {
    const writtenAt = performance.now();
    await db.withOperator(operator, 'writes beside it', (tx) => insert.execute(tx));
    slowestMs = Math.max(slowestMs, performance.now() - writtenAt);
  }
  assert.equal(isDone, false);
  assert.ok(slowestMs < 3_500, `a writer waited for ${slowestMs} ms`);
  release.resolve();
  await holder;
  assert.equal((await migrating).applied.length, 1);
  assert.deepEqual(await indexes(db), { 'platform.log': true, 'platform.log_p': true });
});

test('an index that a killed run left behind is built anew by the next one', { skip }, async (context) => {
  const { db, urls, set, write } = await openSubject(context);
  assert.ok(urls);
  const release = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const holder = db.withOperator(operator, 'holds the table', async (tx) => {
    await sql`insert into platform.plain values ('one more')`.execute(tx);
    written.resolve();
    await release.promise;
  });
  await written.promise;
  await write(
    '0002-plain.sql',
    '-- phase: expand\n-- concurrently\ncreate index plain_by_word on platform.plain (word);\n',
  );
  const migrating = db.migrate([set]);
  migrating.catch(() => undefined);
  const other = new Client({ connectionString: urls.migration });
  await other.connect();
  const endBuild = `select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and query like 'create index concurrently%' and wait_event_type = 'Lock'`;
  const deadlineAt = performance.now() + 20_000;
  while ((await other.query(endBuild)).rowCount === 0) assert.ok(performance.now() < deadlineAt);
  await other.end();
  await assert.rejects(
    migrating,
    (error) => error instanceof AppError && error.code === 'database_unavailable',
  );
  release.resolve();
  await holder;
  assert.deepEqual(await indexes(db), { 'platform.plain': false });
  assert.equal((await db.migrate([set])).applied.length, 1);
  assert.deepEqual(await indexes(db), { 'platform.plain': true });
});
