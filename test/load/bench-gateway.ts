/**
 * `npm run bench:gateway`: what Stoa's chat path costs beside a bare proxy, in one interleaved run on one machine.
 *
 *   npm run bench:gateway -- [--rounds 3] [--seconds 4] [--connections 32] [--tenants 1] [--embedded] [--database URL]
 *
 * With `--tenants 10000` it compares ten tenants and all of them in one process, each with its key known already.
 *
 * Starts its own upstream, its own bare proxy and `serve gateway` in a scratch data directory, on the PostgreSQL of
 * `--database` (default STOA_DATABASE_URL, else the local one; a scratch database is made and dropped) or, with
 * `--embedded`, on PGlite. CPU per request of the server's process is the figure to trust on a shared machine.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { closedLoop, median, openLoop, quantile, type Result } from './generator.ts';
import { cpuUs, peakMiB } from './processes.ts';
import { type LoadSettings, type Measured, withTargets } from './targets.ts';

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
const settings: LoadSettings = {
  embedded: options.embedded,
  database: options.database,
  tenants: Number(options.tenants),
};

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

async function main(): Promise<void> {
  const seconds = Number(options.seconds);
  const connections = Number(options.connections);
  process.stdout.write(
    `${new Date().toISOString()} · Node ${process.version} · ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'} · ${options.tenants} tenant(s)\n`,
  );
  await withTargets(settings, [], async (targets) => {
    await compare(`chat, ${connections} connections, closed loop`, targets, (one) =>
      closedLoop(one.origin, one.shots(false), connections, seconds),
    );
    await compare(`stream of 50 chunks, ${connections} connections, closed loop`, targets, (one) =>
      closedLoop(one.origin, one.shots(true), connections, seconds),
    );
  });
  await withTargets(settings, ['--latency', '60', '--interval', '5'], async (targets) => {
    await compare('chat at 60 ms upstream, 300/s, open loop', targets, (one) =>
      openLoop(one.origin, one.shots(false), 300, seconds),
    );
    await compare('stream at 60 ms upstream, 100/s, open loop', targets, (one) =>
      openLoop(one.origin, one.shots(true), 100, seconds),
    );
  });
}

await main();
