/** An upgrade while processes of the version before serve: expand, then contract. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { request } from 'undici';
import { z } from 'zod';
import { type AllUrls, announceProcess, type MigrationSet } from '#db';
import { AppError, silentLogger } from '#kernel';
import { defaultTestAdapter, openTestDatabase } from '#testing';
import { loadSettings } from './config.ts';
import { prepareSchema } from './database.ts';
import { migrationSets } from './migrations.ts';
import { migrateCommand, statusCommand } from './schema-commands.ts';

const program = join(import.meta.dirname, '..', 'main.ts');

interface Started {
  readonly child: ChildProcess;
  readonly url: string;
  readonly dataDirectory: string;
  printed(): string;
  readonly ended: Promise<number | null>;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** The server's own program with these words, on the database as one that serves only. */
async function start(context: TestContext, words: readonly string[], urls: AllUrls): Promise<Started> {
  const directory = mkdtempSync(join(tmpdir(), 'stoa-upgrade-'));
  const port = await freePort();
  const own = Object.entries(process.env).filter(([name]) => !/^(STOA|OTEL)_/.test(name));
  const child = spawn(process.execPath, [program, ...words], {
    env: {
      ...Object.fromEntries(own),
      STOA_DATABASE_URL: urls.tenant,
      STOA_OPERATOR_DATABASE_URL: urls.operator,
      STOA_SYSTEM_DATABASE_URL: urls.system,
      STOA_DATA_DIR: join(directory, 'data'),
      STOA_LISTEN: `127.0.0.1:${port}`,
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (part: Buffer) => {
      text += part.toString();
    });
  const ended = once(child, 'close').then(() => child.exitCode);
  context.after(async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true, force: true });
  });
  const dataDirectory = join(directory, 'data');
  return { child, url: `http://127.0.0.1:${port}`, dataDirectory, printed: () => text, ended };
}

async function eventually<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  const until = performance.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > until) throw new Error(`it never came about: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function readyz(url: string): Promise<{ readonly status: number; readonly text: string } | null> {
  try {
    const { statusCode, body } = await request(`${url}/readyz`);
    return { status: statusCode, text: await body.text() };
  } catch {
    return null;
  }
}

async function untilReady(server: Started): Promise<void> {
  await eventually('the process is ready', async () => {
    assert.equal(server.child.exitCode, null, server.printed());
    return (await readyz(server.url))?.status === 200 ? true : null;
  });
}

/** The tenants' migrations of a newer version: a column beside an old one, and the old one's end. */
function newerVersion(context: TestContext): readonly MigrationSet[] {
  const folder = mkdtempSync(join(tmpdir(), 'stoa-newer-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const tenants = migrationSets.find((set) => set.module === 'control/tenants');
  assert.ok(tenants);
  cpSync(tenants.directory, folder, { recursive: true });
  const next = readdirSync(folder).length + 1;
  const nameOf = (number: number, name: string) => `${String(number).padStart(4, '0')}-${name}.sql`;
  writeFileSync(
    join(folder, nameOf(next, 'title')),
    '-- phase: expand\nalter table tenant.tenants add column title text;\n',
  );
  writeFileSync(
    join(folder, nameOf(next + 1, 'no-name')),
    '-- phase: contract\nalter table tenant.tenants drop column name;\n',
  );
  const newer = { module: tenants.module, directory: pathToFileURL(`${folder}/`) };
  return migrationSets.map((set) => (set === tenants ? newer : set));
}

const credentials = z.object({ demo: z.object({ apiKey: z.string() }) });

/** Asks for one answer after the other until it is told to stop; answers how many came, by status. */
function traffic(server: Started) {
  const read: unknown = JSON.parse(readFileSync(join(server.dataDirectory, 'credentials.json'), 'utf8'));
  const { apiKey } = credentials.parse(read).demo;
  const counts = new Map<number, number>();
  const stopping = new AbortController();
  const running = (async () => {
    while (!stopping.signal.aborted) {
      const { statusCode, body } = await request(`${server.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'auto', messages: [{ role: 'user', content: 'What is a tenant?' }] }),
      });
      await body.dump();
      counts.set(statusCode, (counts.get(statusCode) ?? 0) + 1);
    }
  })();
  return {
    /** Resolves once ten more have been answered. */
    async more() {
      const before = counts.get(200) ?? 0;
      await eventually('ten more answers', async () => ((counts.get(200) ?? 0) >= before + 10 ? true : null));
    },
    async stop() {
      stopping.abort();
      await running;
      return Object.fromEntries(counts);
    },
  };
}

const skip = defaultTestAdapter() === 'postgres' ? false : 'two processes on one database need PostgreSQL';

test('an old gateway answers chats while the newer version expands the schema; the contract is refused by its name while it runs, applies after its end, and keeps it out afterwards', {
  skip,
}, async (context) => {
  const database = await openTestDatabase();
  context.after(() => database.close());
  const { db, urls } = database;
  assert.ok(urls);
  const newer = newerVersion(context);
  const said: string[] = [];
  const values: unknown[] = [];
  const say = (value: object, text: string): void => {
    values.push(value);
    said.push(text);
  };
  const warn = (_fields: object, message: string): void => {
    said.push(message);
  };
  const old = await start(context, ['serve', 'gateway'], urls);
  await untilReady(old);
  const chats = traffic(old);
  await chats.more();

  await migrateCommand(db, newer, { contract: false, say, warn });
  const process = new RegExp(
    `gateway on \\S+ \\(process ${String(old.child.pid)}, version [\\d.]+, seen \\d+ s ago\\)`,
  );
  assert.match(
    said.join('\n'),
    /Applied:\n {2}control\/tenants\/\d{4}-title \(expand\)\nPending:\n {2}control\/tenants\/\d{4}-no-name \(contract\)/,
  );
  assert.match(said.join('\n'), process);
  await chats.more();

  await assert.rejects(
    migrateCommand(db, newer, { contract: true, say, warn }),
    (error) =>
      error instanceof AppError && error.code === 'migration_waits' && process.test(error.publicMessage),
  );
  // Longer than a process takes to look at the schema.
  await new Promise((resolve) => setTimeout(resolve, 6_000));
  await chats.more();
  assert.equal((await readyz(old.url))?.status, 200);
  said.length = 0;
  await statusCommand(db, newer, say);
  assert.match(
    said.join('\n'),
    /This version serves the schema\.\nApplied:[\s\S]*Pending:\n.*no-name[\s\S]*Processes:/,
  );
  const asked = await start(context, ['db', 'status', '--json'], urls);
  assert.equal(await asked.ended, 0, asked.printed());
  const status = z.object({
    state: z.literal('current'),
    applied: z.array(z.object({ name: z.string(), phase: z.string(), is_known: z.boolean() })),
    pending: z.tuple([]),
    processes: z.tuple([z.object({ pid: z.literal(old.child.pid), roles: z.tuple([z.literal('gateway')]) })]),
  });
  const seen = status.parse(JSON.parse(asked.printed()));
  assert.deepEqual(
    seen.applied.filter((one) => !one.is_known).map((one) => one.phase),
    ['expand'],
  );

  assert.deepEqual(Object.keys(await chats.stop()), ['200']);
  old.child.kill('SIGTERM');
  assert.equal(await old.ended, 0, old.printed());
  said.length = 0;
  await migrateCommand(db, newer, { contract: true, say, warn });
  assert.match(said.join('\n'), /^Applied:\n {2}control\/tenants\/\d{4}-no-name \(contract\)$/);

  const late = await start(context, ['serve', 'gateway'], urls);
  const answer = await eventually('it listens', () => readyz(late.url));
  assert.equal(answer.status, 503);
  assert.match(answer.text, /"code":"schema_ahead"/);
  assert.match(answer.text, /newer than this version serves.*Start the newer version/);
  await eventually('its log names the migration', async () =>
    /control\/tenants\/\d{4}-no-name/.test(late.printed()) ? true : null,
  );
  assert.equal(existsSync(join(late.dataDirectory, 'credentials.json')), false);
  const refused = await start(context, ['db', 'status'], urls);
  assert.equal(await refused.ended, 0);
  assert.match(refused.printed(), /no-name \(contract\), not known to this version/);
});

test('in development the start applies contract migrations as well, and an older process keeps it from doing so', async (context) => {
  const database = await openTestDatabase();
  context.after(() => database.close());
  const { db, adapter } = database;
  const newer = newerVersion(context);
  const { settings } = loadSettings({}, { rootDirectory: tmpdir() });
  const prepare = (sets: readonly MigrationSet[]) => prepareSchema(db, settings, silentLogger, sets);
  if (adapter === 'postgres') {
    const facts = { roles: ['gateway'], host: 'web-1', pid: 1, version: '0.0.1', sets: migrationSets };
    const older = announceProcess({ db, logger: silentLogger }, facts);
    await older.start();
    assert.equal(await prepare(newer), 'current');
    const { pending } = await db.schemaStatus(newer);
    assert.deepEqual(
      pending.map(({ phase }) => phase),
      ['contract'],
    );
    await older.stop();
  }
  assert.equal(await prepare(newer), 'current');
  assert.deepEqual((await db.schemaStatus(newer)).pending, []);
  assert.equal(await prepare(migrationSets), 'ahead');
});
