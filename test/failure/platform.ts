/**
 * The platform under test: two gateways behind the TCP balancer and two control processes on servers of the test's own,
 * supervised like `npm run cluster` does it.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { type Backend, type Balancer, startBalancer } from '../../scripts/cluster/balancer.ts';
import { Member } from '../../scripts/cluster/member.ts';
import { startInOrder } from '../../scripts/cluster/start.ts';
import { freePort } from './servers.ts';

const credentialsShape = z.object({
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ tenantId: z.string(), apiKey: z.string() }),
});
type Credentials = z.infer<typeof credentialsShape>;

const storedUrlsShape = z.object({
  urls: z.object({ tenant: z.string(), operator: z.string(), system: z.string(), migration: z.string() }),
});
export type DatabaseUrls = z.infer<typeof storedUrlsShape>['urls'];

export interface Platform {
  readonly url: string;
  readonly credentials: Credentials;
  readonly members: readonly Member[];
  readonly gateways: readonly Member[];
  readonly controls: readonly Member[];
  /** The logins' URLs, as the first process made them. */
  readonly databaseUrls: DatabaseUrls;
  /** Waits until all of them are ready, or degraded where that may be. */
  ready(allowed?: readonly Member['state'][]): Promise<void>;
  dispose(): Promise<void>;
}

const lookEveryMs = 100;
const readyWithinMs = 90_000;

/** @param firstGateway what the first gateway gets beyond the environment of all */
export async function startPlatform(
  environment: Readonly<Record<string, string>>,
  firstGateway: Readonly<Record<string, string>> = {},
): Promise<Platform> {
  const folder = mkdtempSync(path.join(tmpdir(), 'stoa-failure-platform-'));
  const make = async (
    name: string,
    role: string,
    own: Readonly<Record<string, string>> = {},
  ): Promise<Member> => {
    const [port, adminPort] = [await freePort(), await freePort()];
    const settings = { name, roles: [role], port, adminPort, folder: path.join(folder, name) };
    return new Member({ ...settings, environment: { ...environment, ...own } });
  };
  const controls = [await make('control-1', 'control'), await make('control-2', 'control')];
  const gateways = [await make('gateway-1', 'gateway', firstGateway), await make('gateway-2', 'gateway')];
  const members = [...controls, ...gateways];
  const backends: Backend[] = gateways.map(({ settings }) => ({
    name: settings.name,
    port: settings.port,
    isReady: false,
    connections: 0,
  }));
  const watching = setInterval(() => {
    for (const member of members) member.look().catch(() => undefined);
    for (const [index, backend] of backends.entries()) backend.isReady = isUp(gateways[index]);
  }, lookEveryMs);
  let balancer: Balancer | null = null;
  const dispose = async (): Promise<void> => {
    clearInterval(watching);
    await balancer?.stop(0);
    await Promise.all(members.map((member) => member.stop()));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const credentials = await start(members);
    balancer = await startBalancer(0, backends);
    return {
      url: `http://127.0.0.1:${balancer.port}`,
      credentials,
      members,
      gateways,
      controls,
      databaseUrls: storedUrlsShape.parse(
        JSON.parse(readFileSync(path.join(controls[0]?.dataDirectory ?? '', 'database-urls.json'), 'utf8')),
      ).urls,
      ready: async (allowed = ['ready']) => {
        for (const member of members) await untilState(member, allowed);
        await until('a backend', () => backends.every(({ isReady }) => isReady));
      },
      dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function start(members: readonly Member[]): Promise<Credentials> {
  await startInOrder(members, (member) => untilState(member, ['ready', 'degraded']));
  const file = path.join(members[0]?.dataDirectory ?? '', 'credentials.json');
  return credentialsShape.parse(JSON.parse(readFileSync(file, 'utf8')));
}

function isUp(member: Member | undefined): boolean {
  return member?.state === 'ready' || member?.state === 'degraded';
}

async function untilState(member: Member, allowed: readonly Member['state'][]): Promise<void> {
  try {
    await until(`${member.settings.name} being ${allowed.join(' or ')}`, () =>
      allowed.includes(member.state),
    );
  } catch (error) {
    const log = existsSync(member.logFile) ? readFileSync(member.logFile, 'utf8').slice(-4_000) : '';
    throw new Error(`${String(error)}; it is ${member.state} ${member.degraded.join(', ')}\n${log}`, {
      cause: error,
    });
  }
}

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + readyWithinMs;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`within ${readyWithinMs} ms there was no ${what}`);
    await new Promise((resume) => setTimeout(resume, lookEveryMs));
  }
}
