/**
 * `npm run bench:gateway`: what Stoa's chat path costs beside a bare proxy, in one interleaved run on one machine.
 *
 *   npm run bench:gateway -- [--rounds 3] [--seconds 4] [--connections 32] [--tenants 1] [--embedded] [--database URL]
 *
 * Starts its own upstream, its own bare proxy and `serve gateway` in a scratch data directory, on the PostgreSQL of
 * `--database` (default STOA_DATABASE_URL, else the local one; a scratch database is made and dropped) or, with
 * `--embedded`, on PGlite. CPU per request of the server's process is the figure to trust on a shared machine.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { Pool } from 'undici';
import { z } from 'zod';
import { closedLoop, median, openLoop, quantile, type Result, type Shot } from './generator.ts';
import { cpuUs, listeningPort, peakMiB, start, stop } from './processes.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    connections: { type: 'string', default: '32' },
    tenants: { type: 'string', default: '1' },
    embedded: { type: 'boolean', default: false },
    database: {
      type: 'string',
      default: process.env['STOA_DATABASE_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres',
    },
  },
});
const here = import.meta.dirname;
const root = join(here, '..', '..');
const scratch = mkdtempSync(join(tmpdir(), 'stoa-bench-'));
const credentialsShape = z.object({
  baseUrl: z.string(),
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ apiKey: z.string() }),
});
type Credentials = z.infer<typeof credentialsShape>;

interface Measured {
  readonly name: string;
  readonly origin: string;
  readonly process: ChildProcess;
  readonly shots: (stream: boolean) => readonly Shot[];
}

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

async function withScratchDatabase<T>(run: (url: string | null) => Promise<T>): Promise<T> {
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
  upstream: string,
  databaseUrl: string | null,
): Promise<{ child: ChildProcess; credentials: Credentials }> {
  const dataDirectory = join(scratch, 'data');
  const child = start(
    join(root, 'server/src/main.ts'),
    options.embedded
      ? ['serve', 'all']
      : ['serve', 'gateway', ...(Number(options.tenants) > 1 ? ['control'] : [])],
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

interface Cell {
  readonly cpu: number[];
  readonly p50: number[];
  readonly firstByte: number[];
  readonly perSecond: number[];
  failures: number;
}

async function measure(target: Measured, cell: Cell, run: () => Promise<Result>): Promise<void> {
  const before = cpuUs(target.process);
  const result = await run();
  cell.cpu.push((cpuUs(target.process) - before) / Math.max(1, result.count));
  cell.p50.push(quantile(result.totalMs, 0.5));
  cell.firstByte.push(quantile(result.firstByteMs, 0.5));
  cell.perSecond.push(result.count / result.seconds);
  cell.failures += result.failures;
}

async function compare(
  title: string,
  targets: readonly Measured[],
  run: (target: Measured) => Promise<Result>,
): Promise<void> {
  const cells = new Map<string, Cell>(
    targets.map(({ name }) => [name, { cpu: [], p50: [], firstByte: [], perSecond: [], failures: 0 }]),
  );
  for (const target of targets) for (let pass = 0; pass < 3; pass++) await run(target);
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const target of round % 2 === 0 ? targets : [...targets].reverse()) {
      const cell = cells.get(target.name);
      if (cell) await measure(target, cell, () => run(target));
      process.stderr.write('.');
    }
  }
  process.stderr.write('\n');
  const base = cells.get('bare proxy');
  process.stdout.write(
    `\n${title}\n| target | CPU us/request | x bare | p50 ms | first byte p50 ms | requests/s | peak MiB | failures |\n|---|---|---|---|---|---|---|---|\n`,
  );
  for (const target of targets) {
    const cell = cells.get(target.name);
    if (!cell || !base) continue;
    const cpu = median(cell.cpu);
    process.stdout.write(
      `| ${target.name} | ${cpu.toFixed(0)} | ${(cpu / median(base.cpu)).toFixed(2)} | ${median(cell.p50).toFixed(2)} | ${median(cell.firstByte).toFixed(2)} | ${median(cell.perSecond).toFixed(0)} | ${peakMiB(target.process).toFixed(0)} | ${cell.failures} |\n`,
    );
  }
}

/** Upstream, bare proxy and Stoa for one latency profile; `use` gets the two that are compared. */
async function withTargets(
  upstreamArgs: readonly string[],
  databaseUrl: string | null,
  use: (targets: readonly Measured[]) => Promise<void>,
): Promise<void> {
  const upstream = start(join(here, 'mock-upstream.ts'), upstreamArgs);
  const upstreamUrl = `http://127.0.0.1:${await listeningPort(upstream)}`;
  const bare = start(join(here, 'bare-proxy.ts'), ['--upstream', upstreamUrl]);
  const bareUrl = `http://127.0.0.1:${await listeningPort(bare)}`;
  const stoa = await startStoa(upstreamUrl, databaseUrl);
  try {
    const keys =
      Number(options.tenants) > 1
        ? await makeTenants(stoa.credentials, Number(options.tenants))
        : [stoa.credentials.demo.apiKey];
    const path = '/v1/chat/completions';
    const shot = (key: string, stream: boolean): Shot => ({
      path,
      body: body('load-model', stream),
      authorization: `Bearer ${key}`,
    });
    await use([
      { name: 'bare proxy', origin: bareUrl, process: bare, shots: (stream) => [shot('none', stream)] },
      {
        name: options.embedded ? 'stoa (embedded, all roles)' : 'stoa serve gateway',
        origin: stoa.credentials.baseUrl,
        process: stoa.child,
        shots: (stream) => keys.map((key) => shot(key, stream)),
      },
    ]);
  } finally {
    await stop(stoa.child);
    await stop(bare);
    await stop(upstream);
    rmSync(join(scratch, 'data'), { recursive: true, force: true });
  }
}

async function main(): Promise<void> {
  const seconds = Number(options.seconds);
  const connections = Number(options.connections);
  process.stdout.write(
    `${new Date().toISOString()} · Node ${process.version} · ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'} · ${options.tenants} tenant(s)\n`,
  );
  await withScratchDatabase(async (databaseUrl) => {
    await withTargets([], databaseUrl, async (targets) => {
      await compare(`chat, ${connections} connections, closed loop`, targets, (one) =>
        closedLoop(one.origin, one.shots(false), connections, seconds),
      );
      await compare(`stream of 50 chunks, ${connections} connections, closed loop`, targets, (one) =>
        closedLoop(one.origin, one.shots(true), connections, seconds),
      );
    });
  });
  await withScratchDatabase(async (databaseUrl) => {
    await withTargets(['--latency', '60', '--interval', '5'], databaseUrl, async (targets) => {
      await compare('chat at 60 ms upstream, 300/s, open loop', targets, (one) =>
        openLoop(one.origin, one.shots(false), 300, seconds),
      );
      await compare('stream at 60 ms upstream, 100/s, open loop', targets, (one) =>
        openLoop(one.origin, one.shots(true), 100, seconds),
      );
    });
  });
}

try {
  await main();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
