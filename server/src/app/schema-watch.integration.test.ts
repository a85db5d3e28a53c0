/** Processes and schemas that are older or newer than they are. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { readiness as readinessShape } from '@stoa/contracts';
import { sql } from 'kysely';
import { request } from 'undici';
import { z } from 'zod';
import type { AllUrls, MigrationSet, SchemaState, SchemaStatus, ServingProcess } from '#db';
import { AppError, silentLogger } from '#kernel';
import { defaultTestAdapter, openTestDatabase, type TestDatabase } from '#testing';
import { migrationSets } from './migrations.ts';
import { createReadiness } from './readiness.ts';
import { awaitSchema, schemaWatch } from './schema-watch.ts';

/** The migrations of a module that this code does not know: one that takes something away. */
function futureMigrations(context: TestContext): MigrationSet {
  const directory = mkdtempSync(join(tmpdir(), 'stoa-future-'));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, '0001-future.sql'), '-- phase: contract\nselect 1;\n');
  return { module: 'control/future', directory: pathToFileURL(`${directory}/`) };
}

async function eventually<T>(what: string, look: () => Promise<T | null> | T | null): Promise<T> {
  const until = performance.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > until) throw new Error(`it never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function openUnmigrated(context: TestContext): Promise<TestDatabase> {
  const database = await openTestDatabase({ migrations: [] });
  context.after(() => database.close());
  return database;
}

test('a start on an older schema goes on once another process has migrated it', async (context) => {
  const { db } = await openUnmigrated(context);
  const readiness = createReadiness();
  const waiting = awaitSchema({ db, readiness, logger: silentLogger }, 20);
  assert.equal(readiness.phase, 'schema_behind');
  await db.migrate(migrationSets);
  assert.equal(await waiting, 'current');
  assert.equal(readiness.phase, 'starting');
});

test('a start on an older schema that becomes a newer one stays unready', async (context) => {
  const { db } = await openUnmigrated(context);
  const readiness = createReadiness();
  const waiting = awaitSchema({ db, readiness, logger: silentLogger }, 20);
  await db.migrate([futureMigrations(context)]);
  assert.equal(await waiting, 'ahead');
});

test('a process that serves turns unready on a newer schema and ready where it is the old one again; a lost database or a drain changes nothing', async () => {
  const readiness = createReadiness();
  readiness.phase = 'ready';
  let state: SchemaState | 'away' = 'current';
  let looks = 0;
  const schemaStatus = async (): Promise<SchemaStatus> => {
    looks += 1;
    if (state === 'away') throw new AppError('database_unavailable', 'It is away.');
    return { state, applied: [], pending: [], processes: [] };
  };
  const watch = schemaWatch({ db: { schemaStatus }, readiness, logger: silentLogger }, { everyMs: 1 });
  const phaseAt = async (next: typeof state) => {
    state = next;
    const seen = looks;
    // The second look from now on began with this state, so the first of them is over.
    await eventually('two looks', () => (looks >= seen + 2 ? true : null));
    return readiness.phase;
  };
  await watch.start();
  assert.equal(await phaseAt('current'), 'ready');
  assert.equal(await phaseAt('away'), 'ready');
  assert.equal(await phaseAt('ahead'), 'schema_ahead');
  assert.equal(await phaseAt('away'), 'schema_ahead');
  assert.equal(await phaseAt('current'), 'ready');
  readiness.phase = 'draining';
  assert.equal(await phaseAt('ahead'), 'draining');
  await watch.stop();
  const last = looks;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(looks, last);
});

test('a development process applies pending contract migrations once no process that is alive keeps them from it', async (context) => {
  const readiness = createReadiness();
  const silent = { processId: '', roles: ['gateway'], host: 'web-1', pid: 1, version: '0.0.1', known: {} };
  const seen = { seenAt: new Date(0), silentMs: 0 };
  const contract = { module: 'control/future', number: 1, name: 'less', phase: 'contract' } as const;
  let waitsFor: readonly ServingProcess[] = [{ ...silent, ...seen, isAlive: true }];
  let looks = 0;
  let calls = 0;
  const schemaStatus = async (): Promise<SchemaStatus> => {
    looks += 1;
    return { state: 'current', applied: [], pending: [{ ...contract, waitsFor }], processes: [] };
  };
  const settings = {
    everyMs: 1,
    contract: async (): Promise<void> => {
      calls += 1;
    },
  };
  const watch = schemaWatch({ db: { schemaStatus }, readiness, logger: silentLogger }, settings);
  context.after(() => watch.stop());
  await watch.start();
  await eventually('three looks', () => (looks > 3 ? true : null));
  assert.equal(calls, 0);
  waitsFor = [{ ...silent, ...seen, isAlive: false }];
  await eventually('it is applied', () => (calls > 0 ? true : null));
});

const program = join(import.meta.dirname, '..', 'main.ts');

/** What a production process of one role is given: no login that owns the schema. */
function start(context: TestContext, words: readonly string[], settings: Readonly<Record<string, string>>) {
  const directory = mkdtempSync(join(tmpdir(), 'stoa-schema-'));
  const own = Object.entries(process.env).filter(([name]) => !/^(STOA|OTEL)_/.test(name));
  const child: ChildProcess = spawn(process.execPath, [program, ...words], {
    env: {
      ...Object.fromEntries(own),
      STOA_PROFILE: 'production',
      STOA_MASTER_KEY: randomBytes(32).toString('base64'),
      STOA_DATA_DIR: join(directory, 'data'),
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
      STOA_DRAIN_DELAY_MS: '0',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { text: '' };
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (part: Buffer) => {
      said.text += part.toString();
    });
  const ended = once(child, 'close').then(() => child.exitCode);
  context.after(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  return { child, said, ended };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

const refusal = z.object({ error: z.object({ code: z.string() }) });

/** The status and what `/readyz`, or another path, says; null while nobody listens. */
async function ask(port: number, path = '/readyz'): Promise<string | null> {
  try {
    const { statusCode, body } = await request(`http://127.0.0.1:${port}${path}`);
    const answer: unknown = await body.json();
    const isReady = readinessShape.safeParse(answer).success;
    if (isReady || path === '/livez') return `${statusCode}`;
    return `${statusCode} ${refusal.parse(answer).error.code}`;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED') return null;
    throw error;
  }
}

function servingUrls({ tenant, operator, system }: AllUrls): Record<string, string> {
  return {
    STOA_DATABASE_URL: tenant,
    STOA_OPERATOR_DATABASE_URL: operator,
    STOA_SYSTEM_DATABASE_URL: system,
  };
}

for (const role of ['gateway', 'control']) {
  test(`a production process of the role ${role} without the login for migrations waits for the schema, serves, and says so when it becomes newer`, {
    skip: defaultTestAdapter() === 'postgres' ? false : 'two processes on one database need PostgreSQL',
  }, async (context) => {
    const { db, urls } = await openUnmigrated(context);
    assert.ok(urls);
    const port = await freePort();
    const settings = { ...servingUrls(urls), STOA_LISTEN: `127.0.0.1:${port}` };
    const { child, said, ended } = start(context, ['serve', role], settings);
    const reached = (wanted: string) =>
      eventually(`${wanted}; it wrote\n${said.text}`, async () => {
        assert.equal(child.exitCode, null, said.text);
        return (await ask(port)) === wanted ? wanted : null;
      });
    await reached('503 schema_behind');
    assert.equal(await ask(port, '/livez'), '200');
    assert.match(said.text, /older than this version needs.*stoa db migrate/);
    const refused = start(context, ['db', 'migrate'], settings);
    assert.equal(await refused.ended, 78, refused.said.text);
    const migrating = start(context, ['db', 'migrate'], {
      ...settings,
      STOA_MIGRATION_DATABASE_URL: urls.migration,
    });
    assert.equal(await migrating.ended, 0, migrating.said.text);
    await reached('200');
    // As if it had been taken for dead: the migration would wait for it otherwise.
    await db.withSystem('schema', (tx) => sql`delete from platform.processes`.execute(tx));
    await db.migrate([...migrationSets, futureMigrations(context)]);
    await reached('503 schema_ahead');
    assert.equal(await ask(port, '/livez'), '200');
    assert.match(said.text, /newer now than this version serves/);
    assert.match(said.text, /control\/future\/0001-future/);
    child.kill('SIGTERM');
    assert.equal(await ended, 0);
  });
}
