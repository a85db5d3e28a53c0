/**
 * Servers of the failure tests' own, which they may stop, restart and empty: PostgreSQL, NATS and Redis, each in a scratch
 * folder on a free port of the loopback address.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import path from 'node:path';

/** PostgreSQL refuses to run as root; then it runs as the user that its package made. */
const databaseUser = 'postgres';
const startWithinMs = 30_000;

export interface OwnServer {
  readonly port: number;
  readonly pid: number;
  /** Stops it as its operator would, or at once. */
  stop(how: 'clean' | 'at once'): Promise<void>;
  start(): Promise<void>;
  /** Loses all that it had; only while it is stopped. */
  empty(): void;
  /** Ends it and removes its files. */
  dispose(): Promise<void>;
}

/** The programs that are missing on this machine; the tests are skipped aloud where there are any. */
export function missingPrograms(): readonly string[] {
  const missing = ['nats-server', 'redis-server'].filter(
    (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).error !== undefined,
  );
  return postgresFolder() === null ? [...missing, 'postgres'] : missing;
}

export async function ownPostgres(): Promise<OwnServer & { readonly url: string }> {
  const binaries = postgresFolder();
  if (binaries === null) throw new Error('PostgreSQL is not installed');
  const folder = scratch('postgres');
  const identity = databaseIdentity();
  if (identity !== null) chownSync(folder, identity.uid, identity.gid);
  const data = path.join(folder, 'data');
  const init = ['-D', data, '-U', 'root', '-A', 'trust', '-E', 'UTF8', '--no-sync', '--no-instructions'];
  execFileSync(path.join(binaries, 'initdb'), init, { stdio: 'ignore', ...identity });
  const port = await freePort();
  const server = await ownServer({
    port,
    folder,
    launch: () =>
      spawn(
        path.join(binaries, 'postgres'),
        [
          '-D',
          data,
          '-p',
          String(port),
          '-c',
          'listen_addresses=127.0.0.1',
          '-c',
          `unix_socket_directories=${folder}`,
        ],
        { stdio: 'ignore', ...identity },
      ),
    signals: { clean: 'SIGINT', atOnce: 'SIGQUIT' },
  });
  return { ...server, url: `postgres://root@127.0.0.1:${port}/postgres` };
}

export async function ownNats(): Promise<OwnServer> {
  const folder = scratch('nats');
  const port = await freePort();
  const launch = (): ChildProcess =>
    spawn('nats-server', ['-a', '127.0.0.1', '-p', String(port), '-js', '-sd', path.join(folder, 'store')], {
      stdio: 'ignore',
    });
  return ownServer({ port, folder, launch, signals: { clean: 'SIGTERM', atOnce: 'SIGKILL' } });
}

export async function ownRedis(): Promise<OwnServer> {
  const folder = scratch('redis');
  const port = await freePort();
  const words = [
    '--bind',
    '127.0.0.1',
    '--port',
    String(port),
    '--save',
    '',
    '--appendonly',
    'no',
    '--dir',
    folder,
  ];
  const launch = (): ChildProcess => spawn('redis-server', words, { stdio: 'ignore' });
  return ownServer({ port, folder, launch, signals: { clean: 'SIGTERM', atOnce: 'SIGKILL' } });
}

interface ServerPlan {
  readonly port: number;
  readonly folder: string;
  readonly launch: () => ChildProcess;
  readonly signals: { readonly clean: NodeJS.Signals; readonly atOnce: NodeJS.Signals };
}

async function ownServer({ port, folder, launch, signals }: ServerPlan): Promise<OwnServer> {
  let child = launch();
  await untilAnswers(port);
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  };
  return {
    port,
    get pid() {
      return child.pid ?? 0;
    },
    stop: (how) => stop(how === 'clean' ? signals.clean : signals.atOnce),
    async start() {
      child = launch();
      await untilAnswers(port);
    },
    empty() {
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { mode: 0o700 });
    },
    async dispose() {
      await stop(signals.atOnce);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function scratch(name: string): string {
  return mkdtempSync(path.join(tmpdir(), `stoa-failure-${name}-`));
}

/** The newest PostgreSQL's programs, or null. */
function postgresFolder(): string | null {
  const base = '/usr/lib/postgresql';
  if (!existsSync(base)) return null;
  const versions = readdirSync(base).sort((a, b) => Number(b) - Number(a));
  return versions.map((version) => path.join(base, version, 'bin')).find((one) => existsSync(one)) ?? null;
}

function databaseIdentity(): { readonly uid: number; readonly gid: number } | null {
  if (userInfo().uid !== 0) return null;
  const idOf = (flag: string): number =>
    Number(execFileSync('id', [flag, databaseUser], { encoding: 'utf8' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function untilAnswers(port: number): Promise<void> {
  const until = performance.now() + startWithinMs;
  while (!(await answers(port))) {
    if (performance.now() > until) throw new Error(`nothing answers at port ${port}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
