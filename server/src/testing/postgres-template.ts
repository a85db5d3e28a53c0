import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { type AllUrls, type MigrationSet, migrationsChecksum, openDatabase, selfSetUp } from '#db';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OpenedCopy } from './index.ts';

/** Any constant: the turn of whoever makes a template. */
const turnNumber = '5571202606';

/** The administrator's URL for a database of the test server. */
export function adminUrlOf(database?: string): string {
  const url = new URL(
    process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres',
  );
  if (database !== undefined) url.pathname = `/${database}`;
  return url.href;
}

async function asAdmin<T>(work: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ connectionString: adminUrlOf(), application_name: 'stoa tests' });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The four URLs of a database; grants are the database's own, so a copy needs them as much as a new one. */
async function urlsOf(database: string): Promise<AllUrls> {
  const folder = await mkdtemp(join(tmpdir(), 'stoa-test-urls-'));
  try {
    return (await selfSetUp(adminUrlOf(database), join(folder, 'urls.json'))).urls;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function databaseExists(client: Client, name: string): Promise<boolean> {
  return (await client.query('select from pg_database where datname = $1', [name])).rowCount === 1;
}

/** Makes the template under another name first, so that one that exists is whole. */
async function makeTemplate(
  client: Client,
  name: string,
  migrations: readonly MigrationSet[],
): Promise<void> {
  const draft = `stoa_draft_${randomBytes(6).toString('hex')}`;
  await client.query(`create database ${draft} encoding 'UTF8' template template0`);
  const db = await openDatabase({ adapter: 'postgres', urls: await urlsOf(draft) });
  try {
    await db.migrate(migrations);
  } finally {
    await db.close();
  }
  await client.query(`alter database ${draft} rename to ${name}`);
}

const keptTemplates = 4;
const abandonedMs = 2 * 3600 * 1000;

/** Drops templates of schemas that nobody tests any more, and databases of tests that were killed. */
async function dropOld(client: Client): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select datname as name from pg_database where datname like 'stoa\\_template\\_%' order by oid desc offset $1`,
    [keptTemplates],
  );
  const tests = await client.query<{ name: string }>(
    `select datname as name from pg_database where datname ~ '^stoa_test_[0-9]{13}_[0-9a-f]+$'`,
  );
  const abandoned = tests.rows.filter(({ name }) => Date.now() - Number(name.slice(10, 23)) > abandonedMs);
  for (const { name } of [...rows, ...abandoned])
    await client.query(`drop database if exists ${name} with (force)`);
}

export interface DatabaseCopy {
  readonly name: string;
  readonly urls: AllUrls;
}

/** A new database with the migrated schema and the grants that a database itself carries; the caller drops it. */
export async function copyTemplate(migrations: readonly MigrationSet[]): Promise<DatabaseCopy> {
  const template = `stoa_template_${(await migrationsChecksum(migrations)).slice(0, 24)}`;
  const copy = `stoa_test_${Date.now()}_${randomBytes(4).toString('hex')}`;
  await asAdmin(async (client) => {
    // One at a time: a template with a connection to it can't be copied or renamed.
    await client.query('select pg_advisory_lock($1::int8)', [turnNumber]);
    if (!(await databaseExists(client, template))) {
      await makeTemplate(client, template, migrations);
      await dropOld(client);
    }
    await client.query(`create database ${copy} template ${template}`);
  });
  return { name: copy, urls: await urlsOf(copy) };
}

export async function dropDatabase(name: string): Promise<void> {
  await asAdmin(async (client) => client.query(`drop database if exists ${name} with (force)`));
}

/** A PostgreSQL database copied from a migrated template; `close` drops it. */
export async function openPostgresCopy(migrations: readonly MigrationSet[]): Promise<OpenedCopy> {
  const { name, urls } = await copyTemplate(migrations);
  const db = await openDatabase({
    adapter: 'postgres',
    urls,
    pools: { tenant: 5, operator: 3, system: 3 },
    applicationName: 'stoa test',
  });
  return {
    db,
    urls,
    async close() {
      await db.close();
      await dropDatabase(name);
    },
  };
}
