/** The server's own commands, as a shell runs them: each in a process of its own, on one embedded database. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { request } from 'undici';
import { lockDataDirectory, openDatabase } from '#db';
import { migrationSets } from './migrations.ts';

const program = join(import.meta.dirname, '..', 'main.ts');
let directory: string;
let dataDirectory: string;
let file: string;

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'stoa-commands-'));
  dataDirectory = join(directory, 'data');
  file = join(directory, 'stoa.yaml');
});
after(() => rmSync(directory, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly errors: string;
}

function start(words: readonly string[], settings: Readonly<Record<string, string>> = {}) {
  const own = Object.entries(process.env).filter(([name]) => !/^(STOA|OTEL)_/.test(name));
  const child: ChildProcess = spawn(process.execPath, [program, ...words], {
    env: {
      ...Object.fromEntries(own),
      STOA_DATA_DIR: dataDirectory,
      STOA_LISTEN: '127.0.0.1:0',
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
      ...settings,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let errors = '';
  child.stdout?.on('data', (part: Buffer) => {
    out += part.toString();
  });
  child.stderr?.on('data', (part: Buffer) => {
    errors += part.toString();
  });
  const ended = once(child, 'close').then((): Ended => ({ code: child.exitCode, out, errors }));
  return { child, ended, printed: () => out };
}

/** Waits until the process has written this to its standard output. */
async function printed(running: ReturnType<typeof start>, text: string): Promise<void> {
  const giveUp = AbortSignal.timeout(120_000);
  while (!running.printed().includes(text)) {
    assert.equal(running.child.exitCode, null, `the process ended before it said: ${text}`);
    assert.ok(running.child.stdout);
    await once(running.child.stdout, 'data', { signal: giveUp });
  }
}

async function statusOf(url: string): Promise<number> {
  const { statusCode, body } = await request(url);
  await body.dump();
  return statusCode;
}

const run = (words: readonly string[], settings?: Readonly<Record<string, string>>): Promise<Ended> =>
  start(words, settings).ended;

async function applied(settings?: Readonly<Record<string, string>>): Promise<unknown> {
  const { code, out, errors } = await run(['apply', '--json'], settings);
  assert.equal(code, 0, errors);
  return JSON.parse(out);
}

const sections = `
providers:
  - { name: filed, kind: openai-compatible, base_url: http://127.0.0.1:9/v1, api_key_env: FILED_KEY, discover: false }
models:
  - { id: filed/one, provider: filed, model: one }
`;

test('apply puts the file into effect once, and a gateway without a file leaves its entries as they are', async () => {
  writeFileSync(file, sections);
  const key = { FILED_KEY: 'sk-in-the-environment' };
  assert.deepEqual(await applied(key), { added: 2, changed: 0, disabled: 0 });
  assert.deepEqual(await applied(key), { added: 0, changed: 0, disabled: 0 });
  rmSync(file);
  const gateway = start(['serve', 'gateway']);
  await printed(gateway, '"ready"');
  gateway.child.kill('SIGTERM');
  assert.equal((await gateway.ended).code, 0);
  assert.doesNotMatch(gateway.printed(), /You operate it/, 'a gateway serves nothing to the operator');
  assert.deepEqual(await applied(), { added: 0, changed: 0, disabled: 2 });
});

test('every contradiction in stoa.yaml is reported at once, by line, with exit code 78 and before anything is made', async () => {
  const untouched = join(directory, 'untouched');
  mkdirSync(untouched);
  const faulty = join(untouched, 'stoa.yaml');
  writeFileSync(
    faulty,
    `providers:
  - { name: twice, kind: anthropic, api_key_env: NOT_SET }
  - { name: twice, kind: openai-compatible }
models:
  - { id: one, provider: nobody }
`,
  );
  const settings = { STOA_DATA_DIR: join(untouched, 'data') };
  for (const words of [
    ['config', 'check'],
    ['serve', 'all'],
    ['serve', 'control'],
  ]) {
    const { code, errors } = await run(words, settings);
    assert.equal(code, 78);
    assert.match(errors, /has 4 faults/);
    for (const part of [
      ':2:',
      'NOT_SET is not set',
      ':3:',
      'twice stands twice',
      'base_url',
      ':5:',
      'nobody',
    ])
      assert.ok(errors.includes(part), `${words.join(' ')}: ${part} is missing in ${errors}`);
  }
  assert.equal(existsSync(settings.STOA_DATA_DIR), false);
});

/** An embedded database that a newer version with one more migration of the tenants has left in `folder`. */
async function leaveNewer(folder: string, text: string): Promise<void> {
  mkdirSync(folder);
  const future = `${folder}-migrations`;
  const tenants = migrationSets.find((set) => set.module === 'control/tenants');
  assert.ok(tenants);
  cpSync(tenants.directory, future, { recursive: true });
  const next = String(readdirSync(future).length + 1).padStart(4, '0');
  writeFileSync(join(future, `${next}-future.sql`), text);
  const db = await openDatabase({ adapter: 'pglite', directory: join(folder, 'pglite') });
  const ahead = { module: tenants.module, directory: pathToFileURL(`${future}/`) };
  await db.migrate(migrationSets.map((set) => (set === tenants ? ahead : set)));
  await db.close();
}

test('on a schema that a contract migration made newer a process is alive and never ready, and makes nothing', async () => {
  const newer = join(directory, 'newer');
  await leaveNewer(newer, '-- phase: contract\nselect 1;\n');
  const server = start(['serve', 'all'], { STOA_DATA_DIR: newer });
  await printed(server, 'newer than this version serves');
  const baseUrl = /"baseUrl":"([^"]+)"/.exec(server.printed())?.[1] ?? '';
  assert.equal(await statusOf(`${baseUrl}/livez`), 200);
  assert.equal(await statusOf(`${baseUrl}/readyz`), 503);
  assert.equal(await statusOf(`${baseUrl}/v1/models`), 503);
  server.child.kill('SIGTERM');
  assert.equal((await server.ended).code, 0);
  assert.equal(existsSync(join(newer, 'credentials.json')), false);
  assert.doesNotMatch(server.printed(), /Stoa is ready/);
});

test('on a schema that expand migrations made newer a process is ready, and db status says what it does not know', async () => {
  const newer = join(directory, 'expanded');
  await leaveNewer(newer, '-- phase: expand\nalter table tenant.tenants add column title text;\n');
  const server = start(['serve', 'all'], { STOA_DATA_DIR: newer });
  await printed(server, 'Stoa is ready');
  const inUse = await run(['db', 'status'], { STOA_DATA_DIR: newer });
  assert.equal(inUse.code, 1);
  assert.match(inUse.errors, /is used by process \d+/);
  server.child.kill('SIGTERM');
  assert.equal((await server.ended).code, 0);
  const { code, out } = await run(['db', 'status'], { STOA_DATA_DIR: newer });
  assert.equal(code, 0);
  assert.match(out, /^This version serves the schema\.$/m);
  assert.match(out, /control\/tenants\/\d{4}-future \(expand\), not known to this version$/m);
  const migrated = await run(['db', 'migrate', '--contract', '--json'], { STOA_DATA_DIR: newer });
  assert.deepEqual(JSON.parse(migrated.out), { applied: [], pending: [] });
});

test('db after-restore says what it would do, as JSON where asked', async () => {
  const asked = await run(['db', 'after-restore', '--dry-run', '--json'], {
    STOA_DATA_DIR: join(directory, 'expanded'),
  });
  assert.equal(asked.code, 0, asked.errors);
  assert.match(asked.out, /^\{"dry_run":true,"found":\{"places_ahead":0,.*"other_server":false\}/);
});

test('apply on a data directory in use names the process and says what to do', async () => {
  const lock = lockDataDirectory(dataDirectory);
  try {
    const { code, errors } = await run(['apply']);
    assert.equal(code, 1);
    assert.match(errors, new RegExp(`process ${process.pid}\\..*start it again`));
  } finally {
    lock.release();
  }
});

test('an address that is taken is named with the settings that choose another', async () => {
  const holder = createServer().listen(0, '127.0.0.1');
  try {
    await once(holder, 'listening');
    const address = holder.address();
    assert.ok(typeof address === 'object' && address !== null);
    const taken = `127.0.0.1:${address.port}`;
    const { code, errors } = await run(['serve', 'all'], { STOA_LISTEN: taken });
    assert.equal(code, 1);
    assert.match(errors, new RegExp(`^stoa: ${taken} is in use by another process; .*STOA_LISTEN`, 'm'));
    assert.doesNotMatch(errors, /\n {4}at /);
  } finally {
    holder.close();
  }
});

test('wrong words of a command are answered with a sentence, never with a stack', async () => {
  const cases: readonly (readonly string[])[] = [
    ['config', 'print', '--bogus'],
    ['nonsense'],
    ['serve', 'nonsense'],
    ['db', 'setup', '--admin-url', 'nonsense'],
    [
      'db',
      'setup',
      '--admin-url',
      'postgres://127.0.0.1:1/x',
      '--output',
      join(directory, 'none', 'urls.env'),
    ],
  ];
  for (const words of cases) {
    const { code, errors } = await run(words);
    assert.equal(code, 78, words.join(' '));
    assert.match(errors, /^stoa: /);
    assert.doesNotMatch(errors, /\n {4}at |Error:/, words.join(' '));
  }
});
