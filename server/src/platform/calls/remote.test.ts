import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { internalPrefix } from '@stoa/contracts';
import { createOutboundClient } from '#http';
import { AppError, type Logger, silentLogger, systemClock } from '#kernel';
import { createFixtureService, fixtureApi, startReceiver, testCall, testSecrets } from '#testing';
import { createDestinations } from './destinations.ts';
import { remoteService } from './remote.ts';
import { serveApi } from './services.ts';
import { createClusterSigner } from './signature.ts';
import type { ServiceOf } from './types.ts';
import { writeCall } from './wire.ts';

const outbound = createOutboundClient();
const signer = createClusterSigner(testSecrets, systemClock);
const closing: (() => Promise<void>)[] = [() => outbound.close()];
after(async () => {
  for (const close of closing.toReversed()) await close();
});

function callerOf(
  origins: readonly string[],
  changes: { secret?: string; logger?: Logger } = {},
): ServiceOf<typeof fixtureApi> {
  const { secret = testSecrets.current, logger = silentLogger } = changes;
  return remoteService(fixtureApi, createDestinations('fixture', origins, systemClock), {
    outbound,
    signer: createClusterSigner({ current: secret, previous: null }, systemClock),
    clock: systemClock,
    logger,
  });
}

async function openCallee(logger: Logger = silentLogger) {
  const { service, state } = createFixtureService();
  const receiver = await startReceiver([serveApi(fixtureApi, service)], { logger });
  closing.push(() => receiver.close());
  return { origin: receiver.origin, state };
}

/** A process that answers anything with `handler`. */
async function openOther(handler: http.RequestListener): Promise<string> {
  const server = http.createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(async () => {
    server.closeAllConnections();
    server.close();
  });
  return originOf(server.address());
}

function originOf(address: string | AddressInfo | null): string {
  assert.ok(typeof address === 'object' && address !== null);
  return `http://127.0.0.1:${address.port}`;
}

async function deadOrigin(): Promise<string> {
  const server = http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = originOf(server.address());
  server.close();
  await once(server, 'close');
  return origin;
}

async function until(isTrue: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 5_000;
  while (!isTrue()) {
    assert.ok(performance.now() < deadline, `waited in vain: ${what}`);
    await pause(5);
  }
}

interface Sent {
  readonly authorization?: string;
  readonly body: string;
  readonly method?: string;
  readonly path?: string;
}

const addPath = `${internalPrefix}/fixture/add`;

async function send(
  origin: string,
  { authorization, body, method = 'POST', path = addPath }: Sent,
): Promise<string> {
  const request = http.request(`${origin}${path}`, {
    method,
    headers: { 'content-type': 'application/json', ...(authorization ? { authorization } : {}) },
    agent: false,
  });
  request.end(body);
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on('response', resolve);
    request.on('error', reject);
  });
  const chunks: Uint8Array[] = [];
  response.on('data', (chunk: Uint8Array) => chunks.push(chunk));
  await once(response, 'end');
  const text = Buffer.concat(chunks).toString();
  return `${response.statusCode ?? 0} ${/"code":"(\w+)"/.exec(text)?.[1] ?? 'done'}`;
}

test('only a signed call is made, once, with the body that was signed', async () => {
  const { origin, state } = await openCallee();
  const body = writeCall(fixtureApi.methods.add, testCall({ idempotencyKey: 'k' }), { amount: 3n }, 5_000);
  const refused = '401 invalid_cluster_signature';
  assert.equal(await send(origin, { body }), refused);
  assert.equal(await send(origin, { body, authorization: 'Bearer good' }), refused);
  const foreign = createClusterSigner({ current: 'another', previous: null }, systemClock);
  assert.equal(await send(origin, { body, authorization: foreign.signCall('POST', addPath, body) }), refused);
  const other = body.replace('"3"', '"4"');
  assert.equal(
    await send(origin, { body: other, authorization: signer.signCall('POST', addPath, body) }),
    refused,
  );
  assert.equal(state.sum, 0n);
  const authorization = signer.signCall('POST', addPath, body);
  assert.equal(await send(origin, { body, authorization }), '200 done');
  assert.equal(state.sum, 3n);
  assert.equal(await send(origin, { body, authorization }), refused, 'a replay was taken');
});

test('a signed call that cannot be read, or of a method that is not served, is refused with its code', async () => {
  const { origin } = await openCallee();
  const signed = (body: string, path = addPath, method = 'POST'): Sent => ({
    body,
    path,
    method,
    authorization: signer.signCall(method, path, body),
  });
  assert.equal(await send(origin, signed('{')), '400 invalid_json');
  assert.equal(await send(origin, signed('{"version":1}')), '400 invalid_request');
  const wrong = writeCall(fixtureApi.methods.fail, testCall(), { how: 'conflict' }, 5_000);
  assert.equal(await send(origin, signed(wrong)), '400 invalid_request');
  assert.equal(await send(origin, signed('{}', `${internalPrefix}/fixture/none`)), '404 not_found');
  assert.equal(await send(origin, signed('{}', `${internalPrefix}/fixture/toString`)), '404 not_found');
  assert.equal(await send(origin, signed('{}', addPath, 'PUT')), '405 method_not_allowed');
  assert.equal(await send(origin, signed(`"${'x'.repeat(2_000_000)}"`)), '413 body_too_large');
});

test('a caller without the secret of the cluster learns internal_error, not a code of its own', async () => {
  const { origin, state } = await openCallee();
  const lines: string[] = [];
  const logger = {
    ...silentLogger,
    error: (fields: object) => lines.push(JSON.stringify(Object.keys(fields))),
  };
  const caller = callerOf([origin], { secret: 'another', logger });
  await assert.rejects(caller.count(undefined, testCall()), { code: 'internal_error' });
  assert.equal(state.calls, 0);
  assert.equal(lines.length, 1, 'nothing was logged');
});

test('the time that is left crosses, whatever the clocks say, and the callee is told when it is over', async () => {
  const { origin, state } = await openCallee();
  const caller = callerOf([origin]);
  await caller.whoami(undefined, testCall({ timeoutMs: 2_000 }));
  const leftMs = state.lastDeadlineAtMs - performance.now();
  assert.ok(leftMs > 500 && leftMs <= 2_000, `${leftMs} ms`);
  await assert.rejects(caller.wait(undefined, testCall({ timeoutMs: 60 })), { code: 'deadline_exceeded' });
  await until(() => state.stopped === 1, 'the callee to stop');
});

test('a caller that gives up cancels the call over there', async () => {
  const { origin, state } = await openCallee();
  const giving = new AbortController();
  const call = callerOf([origin]).wait(undefined, testCall({ signal: giving.signal }));
  await until(() => state.waiting === 1, 'the callee to wait');
  giving.abort();
  await assert.rejects(call, { code: 'client_closed' });
  await until(() => state.stopped === 1, 'the callee to stop');
});

test('a process that is away is passed over; where all are, the error names the role', async () => {
  const { origin, state } = await openCallee();
  const caller = callerOf([await deadOrigin(), origin]);
  for (let turn = 1; turn <= 12; turn++) assert.equal(await caller.count(undefined, testCall()), turn);
  assert.equal(state.calls, 12);
  for (const origins of [[], [await deadOrigin()]]) {
    await assert.rejects(callerOf(origins).count(undefined, testCall()), {
      code: 'role_unavailable',
      details: { role: 'fixture' },
    });
  }
});

test('a call whose answer is lost is made again only where that is safe, with the same key', async () => {
  const { origin, state } = await openCallee();
  const keys: string[] = [];
  let losses = 0;
  // Passes the call on and cuts the connection instead of answering, twice.
  const lossy = await openOther((request, response) => {
    const chunks: Uint8Array[] = [];
    request.on('data', (chunk: Uint8Array) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      keys.push(/"idempotency_key":("[^"]*"|null)/.exec(body)?.[1] ?? '');
      const { authorization = '' } = request.headers;
      send(origin, { body, authorization, path: request.url ?? '' }).then(
        () => {
          losses += 1;
          response.destroy();
        },
        () => response.destroy(),
      );
    });
  });
  const caller = callerOf([lossy, origin]);
  assert.deepEqual(await caller.add({ amount: 9n }, testCall()), { sum: 9n });
  assert.equal(state.sum, 9n, 'the effect came twice');
  assert.match(keys[0] ?? '', /^"[0-9a-f-]{36}"$/);
  const alone = callerOf([lossy]);
  await assert.rejects(alone.count(undefined, testCall()), { code: 'role_unavailable' });
  assert.equal(state.calls, 1, 'a call that is not idempotent was repeated');
  assert.equal(losses, 2);
});

test('an answer that is none of a method is internal_error; a process that starts or drains is away', async () => {
  let answer = { status: 200, body: '' };
  const other = await openOther((request, response) => {
    request.resume();
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body);
  });
  const codeOf = async (status: number, body: string): Promise<unknown> => {
    answer = { status, body };
    return callerOf([other])
      .count(undefined, testCall())
      .then(
        (count) => count,
        (error: unknown) => (error instanceof AppError ? error.code : error),
      );
  };
  assert.equal(await codeOf(200, '{"version":1,"output":4}'), 4);
  for (const body of [
    '',
    '<html>',
    '{}',
    '[]',
    '{"version":1}',
    '{"version":2,"output":4}',
    '{"version":1,"output":"x"}',
  ]) {
    assert.equal(await codeOf(200, body), 'internal_error', body);
  }
  assert.equal(await codeOf(404, '{"error":{"code":"not_found","message":"x"}}'), 'internal_error');
  assert.equal(await codeOf(503, '{"error":{"code":"draining","message":"x"}}'), 'role_unavailable');
  const newer =
    '{"code":"of_the_future","message":"secret","param":null,"retry_after_ms":null,"was_money_spent":false,"details":{}}';
  assert.equal(await codeOf(418, `{"version":1,"error":${newer}}`), 'internal_error');
});

test('an unexpected error is logged where it happened, and only there', async () => {
  const lines: object[] = [];
  const { origin } = await openCallee({ ...silentLogger, error: (fields) => lines.push(fields) });
  await assert.rejects(callerOf([origin]).fail({ how: 'unknown' }, testCall()), { code: 'internal_error' });
  assert.equal(lines.length, 1);
  const [line] = lines;
  assert.ok(line && 'place' in line && 'err' in line && line.err instanceof TypeError);
  assert.equal(line.place, 'fixture.fail');
});
