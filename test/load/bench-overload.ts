/**
 * `npm run bench:overload`: what becomes of a server that gets more requests than it can answer.
 *
 *   npm run bench:overload -- [--seconds 10] [--times 3] [--connections 512] [--embedded] [--database URL]
 *
 * The server is pinned to the first core, the generator and its upstream to the second (taskset, Linux). First as many
 * requests as 64 connections carry: that saturates it. Then so many times as many on a schedule, of which 70 % are
 * interactive, 15 % agent steps and 15 % batch: what was admitted and what refused, how late the event loop was meanwhile by
 * the server's own metric, and how quickly health answered.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { request } from 'undici';
import { flood, type FloodResult, type Kind } from './flood.ts';
import { quantile, type Shot } from './generator.ts';
import { cpuUs } from './processes.ts';
import { type Measured, withTargets } from './targets.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    times: { type: 'string', default: '3' },
    connections: { type: 'string', default: '512' },
    embedded: { type: 'boolean', default: false },
    database: {
      type: 'string',
      default: process.env['STOA_DATABASE_URL'] ?? 'postgres://root@127.0.0.1:5432/postgres',
    },
  },
});

function pin(pid: number | undefined, core: number): void {
  const { status } = spawnSync('taskset', ['-apc', String(core), String(pid)], { stdio: 'ignore' });
  if (status !== 0) process.stderr.write(`process ${String(pid)} could not be pinned to core ${core}\n`);
}

/** Milliseconds for which a process's main thread could run and got no core: what others on the machine do to its lag. */
function waitedMs(pid: number | undefined): number {
  const [, waitedNs] = readFileSync(`/proc/${String(pid)}/schedstat`, 'latin1').split(' ');
  return Number(waitedNs) / 1e6;
}

function bytesOf({ path, body, authorization }: Shot, priority: string | null): Buffer {
  const lines = [
    `POST ${path} HTTP/1.1`,
    'host: stoa',
    'content-type: application/json',
    `authorization: ${authorization}`,
    ...(priority === null ? [] : [`x-stoa-priority: ${priority}`]),
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

/** Seconds by quantile since the last call. */
async function lagMs(adminOrigin: string): Promise<Record<string, number>> {
  const { body } = await request(`${adminOrigin}/metrics`);
  const text = await body.text();
  const found = text.matchAll(/^stoa_event_loop_lag_seconds\{quantile="([\d.]+)"\} (\S+)$/gm);
  return Object.fromEntries([...found].map(([, name = '', value]) => [name, Number(value) * 1000]));
}

async function healthMs(origin: string, until: () => boolean): Promise<readonly number[]> {
  const times: number[] = [];
  while (!until()) {
    const startMs = performance.now();
    const { statusCode, body } = await request(`${origin}/readyz`);
    await body.dump();
    if (statusCode !== 200) throw new Error(`/readyz answered ${statusCode}`);
    times.push(performance.now() - startMs);
    await new Promise((resume) => setTimeout(resume, 50));
  }
  return times;
}

const round = (value: number): string => (Number.isNaN(value) ? '-' : value.toFixed(1));

function report(
  result: FloodResult,
  lag: Record<string, number>,
  health: readonly number[],
  shares: { readonly cpu: number; readonly waited: number },
): void {
  process.stdout.write(
    '\n| priority | sent/s | admitted/s | p50 / p99 ms | refused/s | p50 / p99 ms | else |\n|---|---|---|---|---|---|---|\n',
  );
  for (const [name, tally] of result.byKind) {
    const perSecond = (count: number): string => (count / result.seconds).toFixed(0);
    const times = (sample: readonly number[]): string =>
      `${round(quantile(sample, 0.5))} / ${round(quantile(sample, 0.99))}`;
    process.stdout.write(
      `| ${name} | ${perSecond(tally.sent)} | ${perSecond(tally.admitted)} | ${times(tally.admittedMs)} | ${perSecond(tally.shed)} | ${times(tally.shedMs)} | ${tally.other} |\n`,
    );
  }
  process.stdout.write(
    `\nevent loop late by p50 ${round(lag['0.5'] ?? NaN)} ms, p99 ${round(lag['0.99'] ?? NaN)} ms, at most ${round(lag['1'] ?? NaN)} ms; ` +
      `/readyz p50 ${round(quantile(health, 0.5))} ms, p99 ${round(quantile(health, 0.99))} ms; ` +
      `server at ${(shares.cpu * 100).toFixed(0)} % of a core, ready and without a core for ${(shares.waited * 100).toFixed(0)} % of the time; held back by the generator: ${result.held}\n`,
  );
}

async function measure({ origin, adminOrigin, process: server, shots }: Measured): Promise<void> {
  pin(server.pid, 0);
  pin(process.pid, 1);
  const [shot] = shots(false);
  if (!shot || adminOrigin === undefined) throw new Error('there is nothing to send');
  const plain: Kind[] = [{ name: 'interactive', bytes: bytesOf(shot, null), share: 100 }];
  await flood(origin, plain, null, { connections: 64, seconds: 3 });
  const saturated = await flood(origin, plain, null, { connections: 64, seconds: 4 });
  const { admitted = 0, shed = 0 } = saturated.byKind.get('interactive') ?? {};
  const perSecond = admitted / saturated.seconds;
  const lagBefore = await lagMs(adminOrigin);
  process.stdout.write(
    `saturated by 64 connections: ${perSecond.toFixed(0)} requests/s, ${shed} refused, event loop late by p99 ${round(lagBefore['0.99'] ?? NaN)} ms\n`,
  );
  const kinds: Kind[] = [
    { name: 'interactive', bytes: bytesOf(shot, null), share: 70 },
    { name: 'agent-step', bytes: bytesOf(shot, 'agent-step'), share: 15 },
    { name: 'batch', bytes: bytesOf(shot, 'batch'), share: 15 },
  ];
  const wanted = perSecond * Number(options.times);
  const size = { connections: Number(options.connections) };
  await flood(origin, kinds, wanted, { ...size, seconds: 3 });
  await lagMs(adminOrigin);
  let isOver = false;
  const health = healthMs(origin, () => isOver);
  const cpuBefore = cpuUs(server);
  const waitedBefore = waitedMs(server.pid);
  const result = await flood(origin, kinds, wanted, { ...size, seconds: Number(options.seconds) });
  isOver = true;
  const wholeSeconds = result.seconds + 0.5;
  const shares = {
    cpu: (cpuUs(server) - cpuBefore) / 1e6 / wholeSeconds,
    waited: (waitedMs(server.pid) - waitedBefore) / 1e3 / wholeSeconds,
  };
  report(result, await lagMs(adminOrigin), await health, shares);
}

process.stdout.write(
  `node ${process.version}, ${cpus()[0]?.model ?? 'unknown'} x ${cpus().length}, load average ${loadavg()[0]?.toFixed(1) ?? ''}, ${new Date().toISOString()}\n`,
);
await withTargets(
  { embedded: options.embedded, database: options.database, tenants: 1 },
  [],
  async ([bare, stoa]) => {
    if (!bare || !stoa) throw new Error('there is no server');
    bare.process.kill('SIGSTOP');
    await measure(stoa);
    bare.process.kill('SIGCONT');
  },
);
process.exit(0);
