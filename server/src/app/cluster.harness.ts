/** A gateway and roles elsewhere, each a server of the test, and callers that send and hear piece by piece. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { createOutboundClient } from '#http';
import { AppError, silentLogger, systemClock } from '#kernel';
import { startListener, type TestListener, testPrincipal, testSecrets } from '#testing';
import { type ClusterDeps, createCluster } from './cluster.ts';

export const principal = testPrincipal();
export const authenticator = {
  tenant(header: string | undefined) {
    if (header === 'Bearer good') return principal;
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  },
  operator(): never {
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  },
};
const line = { serves: 'tests', silenceMs: 60_000, runsTasks: false };
export const table = {
  gateway: { ...line, prefixes: [] },
  fixture: { ...line, prefixes: ['fixture', 'fixtures'], silenceMs: 300 },
};
export const closing: (() => Promise<unknown>)[] = [];

/** What was opened, the last first; after the tests. */
export async function closeAll(): Promise<void> {
  for (const close of closing.toReversed()) await close();
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** A process of the role that behaves as the test says. */
export async function openRole(handler: Handler): Promise<{ origin: string; server: http.Server }> {
  const server = http.createServer((request, response) => {
    response.on('error', () => undefined);
    handler(request, response);
  });
  server.on('checkContinue', handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return { origin: originOf(server.address()), server };
}

function originOf(address: string | AddressInfo | null): string {
  assert.ok(typeof address === 'object' && address !== null);
  return `http://127.0.0.1:${address.port}`;
}

/** An address at which nobody listens. */
export async function deadOrigin(): Promise<string> {
  const { origin, server } = await openRole(() => undefined);
  server.close();
  await once(server, 'close');
  return origin;
}

export async function openGateway(
  origins: readonly string[],
  changes: Partial<ClusterDeps> = {},
): Promise<TestListener> {
  const outbound = createOutboundClient();
  const cluster = createCluster({
    settings: {
      clusterSecret: testSecrets.current,
      clusterSecretPrevious: null,
      clusterListen: null,
      roleUrls: origins.map((origin) => `fixture=${origin}`).join(','),
    },
    roles: ['gateway'],
    outbound,
    clock: systemClock,
    logger: silentLogger,
    services: [],
    table,
    ...changes,
  });
  const listener = await startListener({ authenticator, relays: cluster.forwards });
  closing.push(async () => {
    await listener.close();
    await outbound.close();
  });
  return listener;
}

interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

export function open({ origin }: { origin: string }, path: string, asked: Asked = {}): http.ClientRequest {
  const { method = 'GET', headers = {} } = asked;
  return http.request(`${origin}${path}`, {
    method,
    headers: { authorization: 'Bearer good', ...headers },
    agent: false,
  });
}

interface Heard {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly text: string;
  readonly code: string;
}

export async function ask(at: { origin: string }, path: string, asked: Asked = {}): Promise<Heard> {
  const request = open(at, path, asked);
  request.end(asked.body);
  const response = await responseTo(request);
  const text = await textOf(response);
  const code = /"code":"(\w+)"/.exec(text)?.[1] ?? '';
  return { status: response.statusCode ?? 0, headers: response.headers, text, code };
}

export function responseTo(request: http.ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on('response', resolve);
    request.on('error', reject);
  });
}

export async function textOf(stream: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  stream.on('data', (chunk: Uint8Array) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks).toString();
}

export async function until(isTrue: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!isTrue()) {
    assert.ok(performance.now() < deadline, `waited in vain: ${what}`);
    await pause(5);
  }
}
