/** `npm run cluster` killed by force: its processes drain by themselves, and the next start takes none of them for its own. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { notedProcess } from './left-over.ts';

const adminUrl = process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres';
const skip =
  process.env['STOA_TEST_SERVICES'] === '1' ? false : 'a cluster needs PostgreSQL: npm run test:services';
const program = path.join(import.meta.dirname, '..', 'cluster.ts');
const database = `stoa_cluster_test_${process.pid}`;
const names = ['control-1', 'gateway-1'];
const withinMs = 60_000;

interface Cluster {
  readonly child: ChildProcess;
  output(): string;
}

async function until(what: string, holds: () => boolean, told: () => string = () => ''): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`within ${withinMs} ms: no ${what}\n${told()}`);
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl });
  await client.connect();
  await client.query(statement);
  await client.end();
}

/** Five ports in a row that nobody has: the balancer's, and from the tenth on two for each process. */
async function freeBase(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  assert.ok(address !== null && typeof address === 'object');
  return Math.min(address.port, 65_000);
}

describe('a cluster that was killed by force', { skip }, () => {
  let folder: string;
  let port: number;
  const started: Cluster[] = [];
  before(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'stoa-cluster-'));
    port = await freeBase();
    await onServer(`drop database if exists ${database} with (force)`);
  });
  after(async () => {
    for (const { child } of started) await end(child, 'SIGTERM');
    for (const name of names) {
      const pid = pidOf(name);
      if (pid !== null) process.kill(pid, 'SIGKILL');
    }
    await onServer(`drop database if exists ${database} with (force)`);
    rmSync(folder, { recursive: true, force: true });
  });

  function start(): Cluster {
    const target = new URL(adminUrl);
    target.pathname = `/${database}`;
    const child = spawn(
      process.execPath,
      [
        program,
        '--port',
        String(port),
        '--folder',
        folder,
        '--database',
        target.href,
        '--gateways',
        '1',
        '--replicas',
        '1',
      ],
      {
        env: { ...process.env, STOA_NATS_URL: '', STOA_REDIS_URL: '' },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (part: Buffer) => {
        text += part.toString();
      });
    const cluster = { child, output: () => text };
    started.push(cluster);
    return cluster;
  }

  const isReady = ({ output }: Cluster) => output().includes('The cluster is ready');

  async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  function pidOf(name: string): number | null {
    return notedProcess(path.join(folder, name, 'process.json'));
  }

  test('its processes notice and drain', async () => {
    const first = start();
    await until('ready cluster', () => isReady(first), first.output);
    assert.ok(names.every((name) => pidOf(name) !== null));
    await end(first.child, 'SIGKILL');
    await until('end of its processes', () => names.every((name) => pidOf(name) === null));
    for (const name of names)
      assert.match(readFileSync(path.join(folder, name, 'stoa.log'), 'utf8'), /SIGTERM/, `${name} drained`);
  });

  test('a process that could not is named, ended and replaced by the next start', async () => {
    const first = start();
    await until('ready cluster', () => isReady(first), first.output);
    const frozen = pidOf('control-1');
    assert.ok(frozen !== null);
    process.kill(frozen, 'SIGSTOP');
    await end(first.child, 'SIGKILL');
    assert.equal(pidOf('control-1'), frozen, 'it stands still and is there');
    const next = start();
    await until('ready cluster', () => isReady(next), next.output);
    assert.match(next.output(), new RegExp(`control-1 of an earlier start .*process ${frozen}`));
    const pid = pidOf('control-1');
    assert.ok(pid !== null && pid !== frozen);
    assert.match(
      next.output(),
      new RegExp(`control-1 +${pid} +ready`),
      'the status line is of its own process',
    );
  });

  test('a second one in the same folder is refused while the first runs', async () => {
    const [first] = started.slice(-1);
    assert.ok(first?.child.pid);
    const second = start();
    await until('end of the second', () => second.child.exitCode !== null);
    assert.equal(second.child.exitCode, 1);
    assert.match(second.output(), new RegExp(`runs in .* already \\(process ${first.child.pid}\\)`));
    assert.ok(isReady(first) && names.every((name) => pidOf(name) !== null), 'the first one goes on');
    await end(first.child, 'SIGTERM');
    assert.ok(names.every((name) => pidOf(name) === null));
    await assert.doesNotReject(async () => {
      assert.throws(() => readFileSync(path.join(folder, 'cluster.json')), 'nothing is noted any more');
    });
  });
});
