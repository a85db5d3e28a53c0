/**
 * Promise 4 under load: any process and any server may go at any moment; what was acknowledged is there afterwards, once,
 * and traffic goes on.
 *
 *   npm run test:failure                          60 s for each scenario
 *   npm run test:services       the short version of 4 s each, which CI runs
 *
 * Two gateways behind a TCP balancer and two control processes, on a PostgreSQL, a NATS and a Redis of the test's own;
 * 200 requests a second of four tenants that call everything the same, every third a stream; two processes consume the events
 * of them and of the tenants' changes, and no tenant may see what is another's. All of
 * these reach PostgreSQL, NATS and Redis by way of a TCP proxy each, which delays, narrows, cuts and silences the line. Each
 * scenario prints its seed, its counts and the longest time without a completed answer. STOA_TEST_SEED repeats the moments
 * of a run.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import pg from 'pg';
import { request } from 'undici';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { createFaultProxy, type FaultProxy, type Faults } from '../../server/src/testing/fault-proxy.ts';
import { usesPostgres } from '../journeys/stoa-process.ts';
import { checkRecords, longestLeaseMs } from './check.ts';
import { type Consumers, startConsumers } from './consumers.ts';
import { type ClientView, startLoad } from './load.ts';
import { type Platform, startPlatform } from './platform.ts';
import { checkSeen, type FailureTenant, makeTenants } from './tenants.ts';
import { missingPrograms, ownNats, ownPostgres, ownRedis, type OwnServer } from './servers.ts';

const seconds = Number(process.env['STOA_FAILURE_SECONDS'] ?? 4);
const perSecond = Number(process.env['STOA_FAILURE_RATE'] ?? 200);
const seed = Number(process.env['STOA_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const missing = missingPrograms();
const skip = !usesPostgres
  ? 'it needs real servers: npm run test:services or npm run test:failure'
  : missing.length > 0
    ? `these programs are not installed: ${missing.join(', ')}`
    : false;
/** What a client's connection may still meet after a gateway died: a socket that its own side has not seen closed. */
const racingMs = 300;
/** Of jobs, stored events, replays, leader tasks, the relay and the partitions: the least that may be set, and theirs is no more. */
const leaseMs = 10_000;
/**
 * How long a process stands still: longer than every lease by which it may hold work. The long run also outlasts the announcement
 * of a process (20 s), behind which migrations wait. (What a webhook's round has put aside comes again after a minute; there
 * are no webhooks here.)
 */
const pausedMs = Math.max(leaseMs + 1_000, Math.min(25_000, seconds * 420));
const tenantCount = 4;

interface Servers {
  readonly database: Awaited<ReturnType<typeof ownPostgres>>;
  readonly nats: OwnServer;
  readonly redis: OwnServer;
}

/** The lines from every process of the platform, and from the consumers, to each server. */
type Lines = { readonly [Name in keyof Servers]: FaultProxy };

let upstream: MisbehavingUpstream;
let servers: Servers;
let lines: Lines;
let platform: Platform;
let consumers: Consumers;
let tenants: readonly FailureTenant[];
/** A small file system for the journal of the first gateway; null where none can be mounted. */
let smallDisk: string | null = null;

function mountSmallDisk(): string | null {
  const folder = mkdtempSync(path.join(tmpdir(), 'stoa-failure-disk-'));
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', folder]).status === 0) return folder;
  rmSync(folder, { recursive: true, force: true });
  return null;
}

/** How long after the start of the load the blow falls: between a fifth and two fifths of it. */
function momentMs(): number {
  return seconds * (200 + (seed % 200));
}

function pause(ms: number): Promise<void> {
  return new Promise((resume) => setTimeout(resume, ms));
}

/** Load from start to end with one blow in it; then everything is ready again and the records are checked. */
async function underLoad(
  name: string,
  blow: () => Promise<void>,
): Promise<{ view: ClientView; blowMs: number }> {
  await platform.ready();
  const load = startLoad({
    url: platform.url,
    keys: tenants.map(({ key }) => key),
    perSecond,
    models: ['slow:20', 'ok:5'],
    timeoutMs: 60_000,
  });
  const startedMs = performance.now();
  const startedAt = new Date(Date.now() - 1_000);
  await pause(momentMs());
  const blowMs = performance.now();
  await blow();
  await pause(Math.max(1_000, seconds * 1_000 - (performance.now() - startedMs)));
  const view = await load.stop();
  const stoppedMs = performance.now();
  await platform.ready();
  const readyMs = performance.now();
  const { records } = await checkRecords(servers.database.url, tenants, view);
  const seen = await checkSeen(platform.url, tenants, view, startedAt);
  const { events } = await consumers.check();
  const took = (fromMs: number, toMs: number): string => ((toMs - fromMs) / 1_000).toFixed(1);
  const refused = [...view.refused].map(([what, count]) => `${count} x ${what}`).join(', ') || 'none';
  process.stdout.write(
    `told: ${name}: seed ${seed}, ${view.sent} sent, ${view.completed.size} completed, ${view.lost.length} lost, refused: ` +
      `${refused}, longest time without an answer ${view.longestGapMs.toFixed(0)} ms, ${records} records and ${events} events in all, ${seen} requests seen by ${tenants.length} tenants, ${consumers.changes} changes; all ready again after ${took(stoppedMs, readyMs)} s, checked in ${took(readyMs, performance.now())} s\n`,
  );
  return { view, blowMs };
}

/** Stops processes for longer than every lease that anybody holds then, and lets them go on. */
async function standStill(...pids: readonly (number | null)[]): Promise<void> {
  for (const pid of pids) signal(pid, 'SIGSTOP');
  const leftMs = await longestLeaseMs(servers.database.url);
  process.stdout.write(
    `told:   stopped for ${pausedMs} ms; the longest lease has ${leftMs.toFixed(0)} ms left\n`,
  );
  await pause(pausedMs);
  for (const pid of pids) signal(pid, 'SIGCONT');
  assert.ok(
    leftMs > 0 && leftMs < pausedMs,
    `a lease has ${leftMs} ms left, so the stop does not outlast it`,
  );
}

/** Kills a server, and starts it again a second later; meanwhile its port refuses, as it would without a proxy. */
async function restart(name: keyof Servers, meanwhile: () => void = () => undefined): Promise<void> {
  await servers[name].stop('at once');
  await lines[name].set({ isShut: true });
  meanwhile();
  await pause(1_000);
  await servers[name].start();
  await lines[name].set({});
}

/** Faults of a line, one after the other. Half-open last: what was waiting passes when it is lifted. */
const faults: readonly (readonly [name: string, faults: Faults | 'reset'])[] = [
  ['delay of 50 ms', { delayMs: 50 }],
  ['200 kB/s a connection', { bytesPerSecond: 200_000 }],
  ['reset', 'reset'],
  ['half-open', { isSilent: true }],
];

/** Each fault for a tenth of the load's time, and as long without one behind it. */
async function disturb(name: keyof Servers): Promise<void> {
  const eachMs = Math.max(700, seconds * 100);
  for (const [what, fault] of faults) {
    if (fault === 'reset') {
      const cut = lines[name].reset();
      assert.ok(cut > 0, `no connection to ${name} was there to be reset`);
    } else {
      await lines[name].set(fault);
    }
    const { taken } = lines[name];
    await pause(eachMs);
    await lines[name].set({});
    await pause(eachMs);
    process.stdout.write(
      `  ${name}: ${what}, ${lines[name].open} connections, ${lines[name].taken - taken} new\n`,
    );
  }
}

function assertNothingLost({ refused, lost }: ClientView): void {
  assert.deepEqual([...refused], []);
  assert.deepEqual(lost, []);
}

/** Takes all that is free; the journal takes some of it meanwhile. */
function fill(disk: string, file: string): void {
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(file, Buffer.alloc(bavail * bsize));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error;
  }
}

/** By the gateway's own metric. */
async function journalWriteFailures({
  settings: { adminPort },
}: Platform['gateways'][number]): Promise<number> {
  const { body } = await request(`http://127.0.0.1:${adminPort}/metrics`);
  const found = /^stoa_journal_write_failures_total (\d+)$/m.exec(await body.text());
  return Number(found?.[1] ?? 0);
}

function first<Item>(items: readonly Item[]): Item {
  const [item] = items;
  if (item === undefined) throw new Error('there is none');
  return item;
}

function signal(pid: number | null, name: NodeJS.Signals): void {
  assert.ok(pid);
  process.kill(pid, name);
}

describe('under load', { skip }, () => {
  before(async () => {
    upstream = await createMisbehavingUpstream({ listed: ['slow:20', 'ok:5'] });
    servers = { database: await ownPostgres(), nats: await ownNats(), redis: await ownRedis() };
    lines = {
      database: await createFaultProxy(servers.database.url),
      nats: await createFaultProxy({ host: '127.0.0.1', port: servers.nats.port }),
      redis: await createFaultProxy({ host: '127.0.0.1', port: servers.redis.port }),
    };
    smallDisk = mountSmallDisk();
    platform = await startPlatform(
      {
        STOA_DATABASE_URL: lines.database.urlOf(servers.database.url),
        STOA_NATS_URL: `nats://127.0.0.1:${lines.nats.port}`,
        STOA_REDIS_URL: `redis://127.0.0.1:${lines.redis.port}`,
        STOA_OPENAI_BASE_URL: upstream.url,
        STOA_CLUSTER_SECRET: 'a-secret-of-the-failure-tests-0123456789abcdef',
        STOA_LOG_LEVEL: 'warn',
        STOA_DRAIN_DELAY_MS: '3000',
        // What this machine's other work delays is no failure of a process.
        STOA_SHED_DELAY_MS: '0',
        STOA_LEASE_MS: String(leaseMs),
      },
      smallDisk === null
        ? {}
        : { STOA_JOURNAL_DIR: path.join(smallDisk, 'journal'), STOA_JOURNAL_SEGMENT_BYTES: '256KiB' },
    );
    tenants = await makeTenants(platform.credentials, tenantCount);
    consumers = await startConsumers(platform, `nats://127.0.0.1:${lines.nats.port}`, tenants, leaseMs);
  });

  after(async () => {
    await consumers?.dispose();
    await platform?.dispose();
    await Promise.all([lines?.database.close(), lines?.nats.close(), lines?.redis.close()]);
    await Promise.all([servers?.database.dispose(), servers?.nats.dispose(), servers?.redis.dispose()]);
    await upstream?.close();
    if (smallDisk === null) return;
    execFileSync('umount', [smallDisk]);
    rmSync(smallDisk, { recursive: true, force: true });
  });

  test('SIGTERM of one of two gateways loses no request', async () => {
    const { view } = await underLoad('SIGTERM of a gateway', async () => {
      signal(first(platform.gateways).pid, 'SIGTERM');
    });
    assertNothingLost(view);
  });

  test('kill -9 of a gateway loses only the requests in flight on it', async () => {
    const { view, blowMs } = await underLoad('kill -9 of a gateway', async () => {
      signal(first(platform.gateways).pid, 'SIGKILL');
    });
    assert.deepEqual([...view.refused], []);
    for (const { startedMs, endedMs, cause } of view.lost) {
      const wasInFlight = startedMs <= blowMs + racingMs && endedMs >= blowMs;
      assert.ok(wasInFlight, `lost ${(startedMs - blowMs).toFixed(0)} ms after the death: ${cause}`);
    }
  });

  test('kill -9 of a control process loses no request', async () => {
    const { view } = await underLoad('kill -9 of a control process', async () => {
      signal(first(platform.controls).pid, 'SIGKILL');
    });
    assertNothingLost(view);
  });

  test('a gateway that is stopped for longer than every lease goes on where it was', async () => {
    const { view } = await underLoad('SIGSTOP of a gateway', async () => {
      await standStill(first(platform.gateways).pid);
    });
    assertNothingLost(view);
  });

  test('kill -9 of a consumer loses no effect and makes none twice', async () => {
    const { view } = await underLoad('kill -9 of a consumer', async () => {
      signal(first(consumers.pids), 'SIGKILL');
    });
    assertNothingLost(view);
  });

  // At once, since each stop takes longer than all the rest of a short scenario.
  test('a control process and a consumer that are stopped for longer than every lease harm nothing, and no effect is made twice', async () => {
    const { view } = await underLoad('SIGSTOP of a control process and a consumer', async () => {
      await standStill(first(platform.controls).pid, first(consumers.pids));
    });
    assertNothingLost(view);
  });

  test('NATS may be restarted', async () => {
    const { view } = await underLoad('restart of NATS', async () => {
      await restart('nats');
    });
    assertNothingLost(view);
  });

  test('Redis may be restarted and emptied', async () => {
    const { view } = await underLoad('restart of Redis, emptied', async () => {
      await restart('redis', () => servers.redis.empty());
    });
    assertNothingLost(view);
  });

  test('the connections to PostgreSQL may be cut', async () => {
    const { view } = await underLoad('connections to PostgreSQL cut', async () => {
      const client = new pg.Client({ connectionString: servers.database.url });
      await client.connect();
      await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity where usename like 'stoa%' and pid <> pg_backend_pid()`,
      );
      await client.end();
    });
    assertNothingLost(view);
  });

  test('PostgreSQL may die and be started again: nothing is lost, and what is refused says why', async () => {
    const { view } = await underLoad('restart of PostgreSQL', async () => {
      await restart('database');
    });
    assert.deepEqual(view.lost, []);
    // The tenants change all the time here. A change that was announced and can't be read yet might be a revocation, so
    // its keys are refused until the database is back; keys without such a change go on.
    for (const refusal of view.refused.keys()) assert.equal(refusal, '503 database_unavailable');
  });

  for (const name of ['nats', 'redis'] as const) {
    test(`the line to ${name} may be slow, narrow, cut and silent, and no request is lost`, async () => {
      const { view } = await underLoad(`faults on the line to ${name}`, () => disturb(name));
      assertNothingLost(view);
    });
  }

  test('the line to PostgreSQL may be slow, narrow, cut and silent: nothing is lost, and what is refused says why', async () => {
    const { view } = await underLoad('faults on the line to PostgreSQL', () => disturb('database'));
    assert.deepEqual(view.lost, []);
    for (const refusal of view.refused.keys()) assert.equal(refusal, '503 database_unavailable');
  });

  test('the disk of a journal may be full', async (t) => {
    const disk = smallDisk;
    if (disk === null) {
      t.skip('no small file system can be mounted here');
      return;
    }
    let failures = 0;
    const { view } = await underLoad('disk of a journal full', async () => {
      const filler = path.join(disk, 'filler');
      fill(disk, filler);
      await pause(Math.max(2_000, seconds * 300));
      failures = await journalWriteFailures(first(platform.gateways));
      rmSync(filler);
    });
    assert.ok(failures > 0, 'the disk was never full for the journal');
    assertNothingLost(view);
  });
});
