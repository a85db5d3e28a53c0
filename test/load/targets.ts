/** What a load run compares: upstream, bare proxy and Stoa, started for it and stopped by their process ids. */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { Pool } from 'undici';
import { z } from 'zod';
import type { Shot } from './generator.ts';
import { listeningPort, start, stop } from './processes.ts';

const here = import.meta.dirname;
const root = join(here, '..', '..');
const credentialsShape = z.object({
  baseUrl: z.string(),
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ apiKey: z.string() }),
});
type Credentials = z.infer<typeof credentialsShape>;

export interface LoadSettings {
  /** All roles on PGlite instead of the gateway role on PostgreSQL. */
  readonly embedded: boolean;
  /** A login that may create databases; a scratch one is made and dropped. */
  readonly database: string;
  /** 1: the demo tenant's key. More: so many new tenants with a key each. */
  readonly tenants: number;
}

export interface Measured {
  readonly name: string;
  readonly origin: string;
  /** Of Stoa. */
  readonly adminOrigin?: string;
  readonly process: ChildProcess;
  readonly shots: (stream: boolean) => readonly Shot[];
}

/** Of many tenants, those that the small set of the comparison has. */
const fewTenants = 10;

const prompt =
  'A customer asks where the parcel of order 4711 is, which was handed over on Monday. Answer politely and briefly. '.repeat(
    6,
  );

function body(model: string, stream: boolean): string {
  return JSON.stringify({
    model,
    temperature: 0.2,
    max_tokens: 256,
    messages: [
      { role: 'system', content: 'Answer in one paragraph.' },
      { role: 'user', content: prompt },
    ],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}

async function withScratchDatabase<T>(
  options: LoadSettings,
  run: (url: string | null) => Promise<T>,
): Promise<T> {
  if (options.embedded) return run(null);
  const name = `stoa_bench_${process.pid}`;
  const admin = new pg.Client({ connectionString: options.database });
  await admin.connect();
  await admin.query(`create database ${name}`);
  try {
    const url = new URL(options.database);
    url.pathname = `/${name}`;
    return await run(url.href);
  } finally {
    await admin.query(`drop database if exists ${name} with (force)`);
    await admin.end();
  }
}

async function startStoa(
  options: LoadSettings,
  dataDirectory: string,
  upstream: string,
  databaseUrl: string | null,
): Promise<{ child: ChildProcess; credentials: Credentials }> {
  const child = start(
    join(root, 'server/src/main.ts'),
    options.embedded ? ['serve', 'all'] : ['serve', 'gateway', ...(options.tenants > 1 ? ['control'] : [])],
    {
      STOA_DATA_DIR: dataDirectory,
      STOA_LISTEN: '127.0.0.1:0',
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
      STOA_LOG_LEVEL: 'warn',
      STOA_OPENAI_BASE_URL: `${upstream}/v1`,
      ...(databaseUrl === null ? {} : { STOA_DATABASE_URL: databaseUrl }),
    },
    ['--max-semi-space-size=16'],
  );
  child.stdout?.resume();
  for (let waitedMs = 0; waitedMs < 60_000; waitedMs += 100) {
    await new Promise((resume) => setTimeout(resume, 100));
    const credentials = readCredentials(join(dataDirectory, 'credentials.json'));
    if (credentials && (await isReady(credentials.baseUrl))) return { child, credentials };
    if (child.exitCode !== null) throw new Error(`Stoa ended with ${String(child.exitCode)}`);
  }
  throw new Error('Stoa was not ready within a minute');
}

function readCredentials(path: string): Credentials | null {
  try {
    return credentialsShape.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return null;
  }
}

async function isReady(baseUrl: string): Promise<boolean> {
  const pool = new Pool(baseUrl);
  try {
    const answer = await pool.request({ path: '/readyz', method: 'GET' });
    await answer.body.dump();
    return answer.statusCode === 200;
  } catch {
    return false;
  } finally {
    await pool.close();
  }
}

/** One admin key in each of `count` new tenants. */
async function makeTenants(credentials: Credentials, count: number): Promise<string[]> {
  const pool = new Pool(credentials.adminUrl, { connections: 16 });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${credentials.operatorKey}` };
  const post = async (path: string, value: object): Promise<unknown> => {
    const answer = await pool.request({ path, method: 'POST', headers, body: JSON.stringify(value) });
    if (answer.statusCode !== 201)
      throw new Error(`${path}: ${answer.statusCode} ${await answer.body.text()}`);
    return answer.body.json();
  };
  const keys: string[] = [];
  let made = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (made < count) {
        const number = made++;
        const tenant = z
          .object({ id: z.string() })
          .parse(await post('/control/v1/tenants', { name: `Load ${number}` }));
        const key = z
          .object({ key: z.string() })
          .parse(await post(`/control/v1/tenants/${tenant.id}/keys`, { name: 'load', role: 'developer' }));
        keys.push(key.key);
        if (keys.length % 1000 === 0) process.stderr.write(`${keys.length} tenants\n`);
      }
    }),
  );
  await pool.close();
  return keys;
}

/** Upstream, bare proxy and Stoa for one latency profile; `use` gets those that are compared. */
export async function withTargets(
  options: LoadSettings,
  upstreamArgs: readonly string[],
  use: (targets: readonly Measured[]) => Promise<void>,
): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'stoa-bench-'));
  try {
    await withScratchDatabase(options, (url) => useTargets(options, scratch, upstreamArgs, url, use));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function useTargets(
  options: LoadSettings,
  scratch: string,
  upstreamArgs: readonly string[],
  databaseUrl: string | null,
  use: (targets: readonly Measured[]) => Promise<void>,
): Promise<void> {
  const upstream = start(join(here, 'mock-upstream.ts'), upstreamArgs);
  const upstreamUrl = `http://127.0.0.1:${await listeningPort(upstream)}`;
  const bare = start(join(here, 'bare-proxy.ts'), ['--upstream', upstreamUrl]);
  const bareUrl = `http://127.0.0.1:${await listeningPort(bare)}`;
  const stoa = await startStoa(options, scratch, upstreamUrl, databaseUrl);
  try {
    const bareTarget = {
      name: 'bare proxy',
      origin: bareUrl,
      process: bare,
      shots: (stream: boolean) => [shot('none', stream)],
    };
    const stoaTarget = (name: string, keys: readonly string[]): Measured => ({
      name,
      origin: stoa.credentials.baseUrl,
      adminOrigin: stoa.credentials.adminUrl,
      process: stoa.child,
      shots: (stream) => keys.map((key) => shot(key, stream)),
    });
    const name = options.embedded ? 'stoa (embedded, all roles)' : 'stoa serve gateway';
    if (options.tenants === 1) {
      await use([bareTarget, stoaTarget(name, [stoa.credentials.demo.apiKey])]);
      return;
    }
    const keys = await makeTenants(stoa.credentials, options.tenants);
    await use([
      bareTarget,
      stoaTarget(`${name}, ${fewTenants} tenants`, keys.slice(0, fewTenants)),
      stoaTarget(`${name}, ${options.tenants} tenants`, keys),
    ]);
  } finally {
    await stop(stoa.child);
    await stop(bare);
    await stop(upstream);
  }
}

function shot(key: string, stream: boolean): Shot {
  return {
    path: '/v1/chat/completions',
    body: body('load-model', stream),
    authorization: `Bearer ${key}`,
  };
}
