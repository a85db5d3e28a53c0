/**
 * `npm run bench:roles`: the resident memory of each role's process, idle and under load.
 *
 *   npm run bench:roles -- [--idle 20] [--seconds 60] [--rate 200]
 *
 * Two gateways and two control processes on a PostgreSQL, a NATS and a Redis of its own, as the failure tests start them.
 * Idle is so many seconds after all are ready; the load is chats at the rate, every third a stream, and ten changes of a
 * tenant a second.
 */
import { readFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { request } from 'undici';
import { createMisbehavingUpstream } from '../../server/src/testing/misbehaving-upstream.ts';
import { startLoad } from '../failure/load.ts';
import { type Platform, startPlatform } from '../failure/platform.ts';
import { ownNats, ownPostgres, ownRedis } from '../failure/servers.ts';

const { values: options } = parseArgs({
  options: {
    idle: { type: 'string', default: '20' },
    seconds: { type: 'string', default: '60' },
    rate: { type: 'string', default: '200' },
  },
});
const changeEveryMs = 100;
const lookEveryMs = 250;

/** A line of /proc/PID/status, in MiB. */
function memoryMiB(pid: number | null, line: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, 'latin1');
  return Number(new RegExp(`${line}:\\s+(\\d+)`).exec(status)?.[1] ?? 0) / 1024;
}

const residentOf = (platform: Platform): number[] =>
  platform.members.map(({ pid }) => memoryMiB(pid, 'VmRSS'));

/** What control processes have to do: each change is an event, an entry of the audit, and news for every gateway. */
function startChanges(platform: Platform): { stop(): void; readonly count: number } {
  const { credentials, controls } = platform;
  let count = 0;
  const timer = setInterval(() => {
    const control = controls[count % controls.length];
    const url = `http://127.0.0.1:${String(control?.settings.adminPort)}/control/v1/tenants/${credentials.demo.tenantId}`;
    request(url, {
      method: 'PATCH',
      headers: { authorization: `Bearer ${credentials.operatorKey}`, 'content-type': 'application/json' },
      body: JSON.stringify({ name: `Demo ${count}` }),
    })
      .then(({ body }) => body.dump())
      .catch((error: unknown) => process.stderr.write(`a change failed: ${String(error)}\n`));
    count += 1;
  }, changeEveryMs);
  return {
    stop: () => clearInterval(timer),
    get count() {
      return count;
    },
  };
}

const upstream = await createMisbehavingUpstream({ listed: ['slow:20', 'ok:5'] });
const servers = { database: await ownPostgres(), nats: await ownNats(), redis: await ownRedis() };
let platform: Platform | null = null;
try {
  platform = await startPlatform({
    STOA_DATABASE_URL: servers.database.url,
    STOA_NATS_URL: `nats://127.0.0.1:${servers.nats.port}`,
    STOA_REDIS_URL: `redis://127.0.0.1:${servers.redis.port}`,
    STOA_OPENAI_BASE_URL: upstream.url,
    STOA_CLUSTER_SECRET: 'a-secret-of-the-load-runs-0123456789abcdefgh',
    STOA_LOG_LEVEL: 'warn',
  });
  await platform.ready();
  await sleep(Number(options.idle) * 1000);
  const idle = residentOf(platform);
  const changes = startChanges(platform);
  const load = startLoad({
    url: platform.url,
    keys: [platform.credentials.demo.apiKey],
    perSecond: Number(options.rate),
    models: ['slow:20', 'ok:5'],
    timeoutMs: 60_000,
  });
  const looks: number[][] = [];
  const endMs = performance.now() + Number(options.seconds) * 1000;
  while (performance.now() < endMs) {
    await sleep(lookEveryMs);
    looks.push(residentOf(platform));
  }
  changes.stop();
  const view = await load.stop();
  const refused = [...view.refused.values()].reduce((sum, one) => sum + one, 0);
  process.stdout.write(
    `${new Date().toISOString()} · Node ${process.version} · ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'} · load ${loadavg()[0]?.toFixed(1) ?? ''}\n` +
      `${view.completed.size} chats of ${view.sent} completed, ${refused} refused, ${view.lost.length} lost; ${changes.count} changes\n\n` +
      `| process | idle after ${options.idle} s, MiB | under load, middle MiB | under load, most MiB | peak since its start, MiB |\n| --- | ---: | ---: | ---: | ---: |\n`,
  );
  for (const [index, { settings, pid }] of platform.members.entries()) {
    const seen = looks.map((look) => look[index] ?? 0).sort((left, right) => left - right);
    const middle = seen[Math.floor(seen.length / 2)] ?? 0;
    const figures = [idle[index] ?? 0, middle, seen.at(-1) ?? 0, memoryMiB(pid, 'VmHWM')];
    process.stdout.write(`| ${settings.name} | ${figures.map((one) => one.toFixed(0)).join(' | ')} |\n`);
  }
} finally {
  await platform?.dispose();
  await Promise.all([servers.database.dispose(), servers.nats.dispose(), servers.redis.dispose()]);
  await upstream.close();
}
