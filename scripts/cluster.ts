/**
 * `npm run cluster`: Stoa as many processes on this machine: two gateways behind a TCP balancer and two processes of each
 * other role, on the local PostgreSQL, NATS and Redis. A status line for each process; one that dies is started again,
 * so any of them may be killed. Ctrl-C drains all of them.
 *
 *   npm run cluster -- [--port 8080] [--gateways 2] [--replicas 2] [--database URL] [--folder .stoa/cluster]
 *
 * The first control process migrates the database and makes the keys of the first start; the others get copies of its
 * credentials, so that there is one demo tenant. STOA_NATS_URL and STOA_REDIS_URL are taken from the environment, else
 * the local servers where they answer; set to nothing, there is none.
 *
 * Killed by force, its processes notice and drain; the next start waits for those that are still there, and says so. Two at
 * once in one folder are refused.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type Backend, type Balancer, startBalancer } from './cluster/balancer.ts';
import { endLeftOvers, forgetProcess, notedProcess, noteProcess } from './cluster/left-over.ts';
import { Member, stopWithinMs } from './cluster/member.ts';
import { startInOrder } from './cluster/start.ts';
import { StatusBoard } from './cluster/status.ts';

const root = path.resolve(import.meta.dirname, '..');
const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '8080' },
    gateways: { type: 'string', default: '2' },
    replicas: { type: 'string', default: '2' },
    folder: { type: 'string', default: path.join(root, '.stoa', 'cluster') },
    database: {
      type: 'string',
      default: process.env['STOA_DATABASE_URL'] ?? 'postgres://root@127.0.0.1:5432/stoa_cluster',
    },
  },
});
/** Roles beside the gateway, each in processes of its own. */
const otherRoles = ['control'] as const;
const lookEveryMs = 250;
const readyWithinMs = 60_000;
const balancerGraceMs = 12_000;

async function makeDatabase(url: string): Promise<void> {
  const target = new URL(url);
  const name = decodeURIComponent(target.pathname.slice(1));
  target.pathname = '/postgres';
  const client = new pg.Client({ connectionString: target.href });
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [name]);
    if (rowCount === 0) await client.query(`create database ${pg.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

/** The database's name in the letters that names of streams and subjects have. */
function databaseWord(): string {
  return new URL(options.database).pathname.slice(1).replaceAll(/\W/g, '_').toLowerCase();
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

/** A secret of the cluster, made once and kept in its folder. */
function clusterSecret(): string {
  const file = path.join(options.folder, 'cluster.secret');
  if (!existsSync(file)) writeFileSync(file, randomBytes(32).toString('base64'), { mode: 0o600 });
  return readFileSync(file, 'utf8').trim();
}

async function sharedEnvironment(): Promise<Record<string, string>> {
  const environment: Record<string, string> = {
    STOA_DATABASE_URL: options.database,
    STOA_CLUSTER_SECRET: clusterSecret(),
    STOA_PUBLIC_URL: `http://127.0.0.1:${options.port}`,
    // A stream holds the events of one database, so a cluster on another one has another.
    STOA_NATS_STREAM: process.env['STOA_NATS_STREAM'] ?? `STOA_${databaseWord().toUpperCase()}`,
    STOA_NATS_SUBJECT: process.env['STOA_NATS_SUBJECT'] ?? `stoa.${databaseWord()}`,
  };
  if (process.env['STOA_NATS_URL'] === undefined && (await answers(4222)))
    environment['STOA_NATS_URL'] = 'nats://127.0.0.1:4222';
  if (process.env['STOA_REDIS_URL'] === undefined && (await answers(6379)))
    environment['STOA_REDIS_URL'] = 'redis://127.0.0.1:6379';
  return environment;
}

function makeMembers(environment: Readonly<Record<string, string>>): readonly Member[] {
  const first = Number(options.port) + 10;
  const roles = [
    ...otherRoles.flatMap((role) => Array.from({ length: Number(options.replicas) }, () => role)),
    ...Array.from({ length: Number(options.gateways) }, () => 'gateway'),
  ];
  const counts = new Map<string, number>();
  return roles.map((role, index) => {
    const number = (counts.get(role) ?? 0) + 1;
    counts.set(role, number);
    const name = `${role}-${number}`;
    const port = first + index * 2;
    const folder = path.join(options.folder, name);
    return new Member({ name, roles: [role], port, adminPort: port + 1, folder, environment });
  });
}

async function untilReady(member: Member): Promise<void> {
  for (let waitedMs = 0; waitedMs < readyWithinMs; waitedMs += lookEveryMs) {
    await member.look();
    if (member.state === 'ready' || member.state === 'degraded') return;
    await new Promise((resume) => setTimeout(resume, lookEveryMs));
  }
  throw new Error(
    `${member.settings.name} is not ready within ${readyWithinMs / 1000} s; see ${member.logFile}`,
  );
}

function watch(members: readonly Member[], backends: readonly Backend[], board: StatusBoard): NodeJS.Timeout {
  const look = async (): Promise<void> => {
    await Promise.all(members.map((member) => member.look()));
    for (const backend of backends) {
      const member = members.find(({ settings }) => settings.name === backend.name);
      backend.isReady = member?.state === 'ready' || member?.state === 'degraded';
    }
    board.draw();
  };
  const failed = (error: unknown): void => {
    process.stderr.write(`cluster: ${String(error)}\n`);
  };
  return setInterval(() => {
    look().catch(failed);
  }, lookEveryMs);
}

function say(line: string): void {
  process.stderr.write(`cluster: ${line}\n`);
}

/** The file that notes this very program. */
const ownFile = path.join(options.folder, 'cluster.json');

/** Nobody else may be at the folder or at a port: whatever answers at a member's port would be taken for the member. */
async function claimPlaces(members: readonly Member[]): Promise<void> {
  const notes = members.map((member) => ({ name: member.settings.name, file: member.processFile }));
  await endLeftOvers(notes, say, stopWithinMs);
  const ports = [
    Number(options.port),
    ...members.flatMap(({ settings: { port, adminPort } }) => [port, adminPort]),
  ];
  for (const port of ports) {
    if (await answers(port))
      throw new Error(
        `something that is not of this cluster listens at 127.0.0.1:${port}; end it, or choose others with --port`,
      );
  }
}

/** Nothing new is taken; gateways finish what they have, and only then do the others go. */
async function drain(members: readonly Member[], backends: readonly Backend[], balancer: Balancer | null) {
  const closing = balancer?.stop(balancerGraceMs);
  for (const backend of backends) backend.isReady = false;
  await Promise.all(
    members.filter(({ settings }) => settings.roles.includes('gateway')).map((one) => one.stop()),
  );
  await closing;
  await Promise.all(members.map((one) => one.stop()));
}

async function main(): Promise<void> {
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  const other = notedProcess(ownFile);
  if (other !== null) {
    say(`a cluster runs in ${options.folder} already (process ${other}); end it, or choose another --folder`);
    process.exitCode = 1;
    return;
  }
  noteProcess(ownFile, process.pid);
  await makeDatabase(options.database);
  const members = makeMembers(await sharedEnvironment());
  const backends: Backend[] = members
    .filter(({ settings }) => settings.roles.includes('gateway'))
    .map(({ settings }) => ({ name: settings.name, port: settings.port, isReady: false, connections: 0 }));
  const board = new StatusBoard(members, backends);
  const drawing = watch(members, backends, board);
  let balancer: Balancer | null = null;
  let ending: Promise<void> | null = null;
  const end = (): void => {
    ending ??= drain(members, backends, balancer).then(() => {
      board.draw();
      clearInterval(drawing);
      forgetProcess(ownFile);
    });
  };
  process.on('SIGINT', end);
  process.on('SIGTERM', end);
  try {
    await claimPlaces(members);
    await startInOrder(members, untilReady);
    balancer = await startBalancer(Number(options.port), backends);
    const admin = members[0]?.settings.adminPort ?? 0;
    process.stdout.write(
      `\nThe cluster is ready: tenants call http://127.0.0.1:${balancer.port}/v1, the operator http://127.0.0.1:${admin}.\n` +
        `Keys are in ${path.join(members[0]?.dataDirectory ?? '', 'credentials.json')}, logs in ${options.folder}. Ctrl-C drains.\n\n`,
    );
    board.restart();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
    end();
  }
}

await main();
