/**
 * A whole Stoa in a process of its own, for tests from outside: started as its users start it, spoken to over HTTP only.
 * With STOA_TEST_SERVICES=1 it runs on a scratch database of the local PostgreSQL, else on PGlite.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { request } from 'undici';
import { z } from 'zod';

const credentialsShape = z.object({
  baseUrl: z.string(),
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ tenantId: z.string(), apiKey: z.string() }),
});
export type Credentials = z.infer<typeof credentialsShape>;

export interface StoaOptions {
  /** Added to the environment of the process. */
  readonly env?: Readonly<Record<string, string>>;
  /** What follows `main.ts`; default `serve all`. */
  readonly args?: readonly string[];
  /** Rules of the scripted provider, as YAML (which JSON is). */
  readonly script?: string;
  /** Default: a new one, which is gone after `dispose`; one that is named stays. */
  readonly dataDirectory?: string;
  /** The port under which the process reaches the PostgreSQL of the tests; default its own. */
  readonly databasePort?: number;
}

export interface StoaProcess {
  readonly credentials: Credentials;
  readonly dataDirectory: string;
  /** What it was started with, for a second process beside it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The PostgreSQL database that was made for it; null on PGlite. */
  readonly database: string | null;
  readonly child: ChildProcess;
  /** All that the process wrote so far. */
  output(): string;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
  /** Starts again on the same data, after `kill` or `stop`. */
  restart(): Promise<void>;
  /** SIGTERM, and waits for the end; resolves with the exit code. */
  stop(): Promise<number | null>;
  /** Ends it if it lives and removes everything that it made. */
  dispose(): Promise<void>;
  /** JSON over HTTP with a credential; `path` decides the listener. */
  call(
    method: string,
    path: string,
    options?: { key?: string; body?: unknown; headers?: Record<string, string> },
  ): Promise<Answer>;
  /** A new tenant with a key of the role; default `admin`. */
  newTenant(name: string, role?: string): Promise<{ tenantId: string; apiKey: string; keyId: string }>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  readonly json: unknown;
}

const mainFile = join(import.meta.dirname, '..', '..', 'server', 'src', 'main.ts');
const adminUrl = process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres';
/** Whether the tests run on the PostgreSQL of the machine. */
export const usesPostgres = process.env['STOA_TEST_SERVICES'] === '1';
const outputLimitChars = 1_000_000;
const readyWithinMs = 120_000;
let databaseCount = 0;

/** Where the PostgreSQL of the tests listens. */
export const databaseAddress = {
  host: new URL(adminUrl).hostname,
  port: Number(new URL(adminUrl).port || 5432),
};

/** Starts and waits for `/readyz`. Rejects with the process's output where it ends or two minutes pass first. */
export async function startStoa(options: StoaOptions = {}): Promise<StoaProcess> {
  const scratch = mkdtempSync(join(tmpdir(), 'stoa-journey-'));
  const dataDirectory = options.dataDirectory ?? join(scratch, 'data');
  const database = usesPostgres ? `stoa_journey_${process.pid}_${++databaseCount}` : null;
  if (database) await admin(`create database ${database}`);
  const scriptFile = join(scratch, 'script.yaml');
  if (options.script !== undefined) writeFileSync(scriptFile, options.script);
  const env: Record<string, string | undefined> = {
    ...cleanEnvironment(),
    STOA_DATA_DIR: dataDirectory,
    STOA_LISTEN: '127.0.0.1:0',
    STOA_ADMIN_LISTEN: '127.0.0.1:0',
    ...(database ? { STOA_DATABASE_URL: databaseUrl(database, options.databasePort) } : {}),
    ...(options.script === undefined ? {} : { STOA_SCRIPTED_FILE: scriptFile }),
    ...options.env,
  };
  let output = '';
  const launch = async (): Promise<{ child: ChildProcess; credentials: Credentials }> => {
    output = '';
    const child = spawnMain(env, options.args ?? ['serve', 'all'], (part) => {
      output = (output + part).slice(-outputLimitChars);
    });
    try {
      return { child, credentials: await readiness(child, dataDirectory, () => output) };
    } catch (error) {
      await end(child, 'SIGKILL');
      throw error;
    }
  };
  const discard = async (): Promise<void> => {
    if (database) await admin(`drop database if exists ${database} with (force)`);
    rmSync(scratch, { recursive: true, force: true });
  };
  let running = await launch().catch(async (error: unknown) => {
    await discard();
    throw error;
  });
  const post = async (path: string, body: unknown): Promise<unknown> => {
    const answer = await call('POST', path, { body });
    if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${answer.text}`);
    return answer.json;
  };
  const call: StoaProcess['call'] = async (method, path, { key, body, headers } = {}) => {
    const isControl = path.startsWith('/control') || path.startsWith('/metrics');
    const { credentials } = running;
    return send(method, `${isControl ? credentials.adminUrl : credentials.baseUrl}${path}`, {
      authorization: `Bearer ${key ?? (isControl ? credentials.operatorKey : credentials.demo.apiKey)}`,
      body,
      headers: headers ?? {},
    });
  };
  return {
    get credentials() {
      return running.credentials;
    },
    get child() {
      return running.child;
    },
    dataDirectory,
    environment: env,
    database,
    output: () => output,
    kill: async () => end(running.child, 'SIGKILL').then(() => undefined),
    stop: async () => end(running.child, 'SIGTERM'),
    async restart() {
      running = await launch();
    },
    async dispose() {
      await end(running.child, 'SIGTERM');
      await discard();
    },
    call,
    async newTenant(name, role = 'admin') {
      const tenant = z.object({ id: z.string() }).parse(await post('/control/v1/tenants', { name }));
      const key = z
        .object({ id: z.string(), key: z.string() })
        .parse(await post(`/control/v1/tenants/${tenant.id}/keys`, { name: 'journey', role }));
      return { tenantId: tenant.id, apiKey: key.key, keyId: key.id };
    },
  };
}

/**
 * Runs a Stoa that is expected to end by itself, and waits for that. Without settings in `env` it has a data directory of
 * its own, which is gone afterwards.
 * @returns its exit code (null after a minute: it is killed then) and what it wrote
 */
export async function runStoa(
  env: Readonly<Record<string, string | undefined>>,
  args: readonly string[] = ['serve', 'all'],
): Promise<{ code: number | null; output: string }> {
  const scratch = mkdtempSync(join(tmpdir(), 'stoa-journey-'));
  mkdirSync(join(scratch, 'data'));
  let output = '';
  const child = spawnMain(
    {
      ...cleanEnvironment(),
      STOA_DATA_DIR: join(scratch, 'data'),
      STOA_LISTEN: '127.0.0.1:0',
      STOA_ADMIN_LISTEN: '127.0.0.1:0',
      ...env,
    },
    args,
    (part) => {
      output += part;
    },
  );
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  rmSync(scratch, { recursive: true, force: true });
  return { code, output };
}

function spawnMain(
  env: Readonly<Record<string, string | undefined>>,
  args: readonly string[],
  onOutput: (part: string) => void,
): ChildProcess {
  const child = spawn(process.execPath, [mainFile, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.setEncoding('utf8').on('data', onOutput);
  child.stderr.setEncoding('utf8').on('data', onOutput);
  return child;
}

/** Waits until a condition holds, looking every 20 ms; rejects with `what` after `withinMs`. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | null | undefined | false>,
  withinMs = 10_000,
): Promise<T> {
  const until = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null && found !== undefined && found !== false) return found;
    if (performance.now() > until) throw new Error(`within ${withinMs} ms there was no ${what}`);
    await new Promise((resume) => setTimeout(resume, 20));
  }
}

/** One HTTP request whose answer is read whole. */
export async function send(
  method: string,
  url: string,
  options: { authorization?: string; body?: unknown; headers?: Record<string, string> },
): Promise<Answer> {
  const { body } = options;
  const hasBody = body !== undefined;
  const answer = await request(url, {
    method:
      method === 'GET'
        ? 'GET'
        : method === 'POST'
          ? 'POST'
          : method === 'PUT'
            ? 'PUT'
            : method === 'PATCH'
              ? 'PATCH'
              : 'DELETE',
    headers: {
      ...(options.authorization === undefined ? {} : { authorization: options.authorization }),
      ...(hasBody ? { 'content-type': 'application/json' } : {}),
      ...options.headers,
    },
    ...(hasBody
      ? { body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body) }
      : {}),
  });
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, text, json: parseOrNull(text) };
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The environment of the test without settings of the machine that it runs on. */
function cleanEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('STOA_') && !name.startsWith('OTEL_')),
  );
}

function databaseUrl(database: string, port: number | undefined): string {
  const url = new URL(adminUrl);
  url.pathname = `/${database}`;
  if (port !== undefined) url.port = String(port);
  return url.href;
}

async function admin(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function readiness(
  child: ChildProcess,
  dataDirectory: string,
  output: () => string,
): Promise<Credentials> {
  const file = join(dataDirectory, 'credentials.json');
  return eventually(
    'ready Stoa',
    async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`Stoa ended with ${String(child.exitCode)}:\n${output()}`);
      if (!existsSync(file)) return null;
      const credentials = credentialsShape.safeParse(parseOrNull(readFileSync(file, 'utf8')));
      if (!credentials.success || !output().includes(credentials.data.baseUrl)) return null;
      const answer = await send('GET', `${credentials.data.baseUrl}/readyz`, {}).catch(() => null);
      return answer?.status === 200 ? credentials.data : null;
    },
    readyWithinMs,
  );
}

async function end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), 20_000);
  const code = await ended;
  clearTimeout(timer);
  return code;
}
