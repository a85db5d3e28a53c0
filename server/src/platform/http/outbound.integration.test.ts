import { deepEqual, equal } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { createOutboundClient } from './outbound.ts';
import type {
  OutboundClient,
  OutboundFault,
  OutboundHeaders,
  OutboundRequest,
  OutboundSettings,
} from './outbound-types.ts';

async function listening(server: Server | ReturnType<typeof createTcpServer>): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}

async function open(respond: RequestListener, settings: OutboundSettings = {}) {
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    response.on('error', () => undefined);
    request.resume();
    respond(request, response);
  });
  const origin = await listening(server);
  const client = createOutboundClient(settings);
  return {
    server,
    origin,
    client,
    async [Symbol.asyncDispose]() {
      await client.close();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function send(client: OutboundClient, origin: string, fields: Partial<OutboundRequest> = {}) {
  const ended = Promise.withResolvers<void>();
  const heard: string[] = [];
  const answer: { status: number; headers: OutboundHeaders; body: string; fault: OutboundFault | null } = {
    status: 0,
    headers: {},
    body: '',
    fault: null,
  };
  const exchange = client.dispatch(
    { method: 'GET', origin, path: '/', headers: [], body: null, maxBodyBytes: 0, ...fields },
    {
      onHead(status, headers) {
        heard.push('head');
        Object.assign(answer, { status, headers });
      },
      onData(chunk) {
        heard.push('data');
        answer.body += chunk.toString();
        return true;
      },
      onEnd() {
        heard.push('end');
        ended.resolve();
      },
      onFault(fault) {
        heard.push('fault');
        answer.fault = fault;
        ended.resolve();
      },
    },
  );
  return { exchange, heard, answer, ended: ended.promise, heardInDispatch: heard.length };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 2_000;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`waited 2 s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

test('head, data and one end, on one connection for calls in a row', async () => {
  const sockets = new Set<unknown>();
  await using opened = await open((request, response) => {
    sockets.add(request.socket);
    response.end([request.method, request.url, request.headers['accept-encoding']].join(' '));
  });
  for (let index = 0; index < 3; index += 1) {
    const call = send(opened.client, opened.origin, {
      method: 'POST',
      path: '/a?b=1',
      body: Buffer.from('x'),
    });
    equal(call.heardInDispatch, 0);
    equal(opened.client.activeCalls, 1);
    await call.ended;
    deepEqual(call.heard, ['head', 'data', 'end']);
    equal(call.answer.status, 200);
    equal(call.answer.body, 'POST /a?b=1 identity');
    equal(opened.client.activeCalls, 0);
    // The connection is free one turn of the event loop after the answer's end.
    await new Promise((resolve) => setImmediate(resolve));
  }
  equal(sockets.size, 1);
});

test('an informational head is not the answer’s', async () => {
  await using opened = await open((_request, response) => {
    response.writeEarlyHints({ link: '</a>; rel=preload' });
    response.writeHead(201).end('x');
  });
  const call = send(opened.client, opened.origin);
  await call.ended;
  equal(call.answer.status, 201);
  deepEqual(call.heard, ['head', 'data', 'end']);
});

test('a redirect is an answer like any other', async () => {
  let calls = 0;
  await using opened = await open((_request, response) => {
    calls += 1;
    response.writeHead(307, { location: '/elsewhere' }).end();
  });
  const call = send(opened.client, opened.origin);
  await call.ended;
  equal(call.answer.status, 307);
  equal(calls, 1);
});

test('cancelling closes the connection and is told once, in a microtask', async () => {
  let isHungUp = false;
  await using opened = await open((_request, response) => {
    response.once('close', () => {
      isHungUp = !response.writableFinished;
    });
    response.write('x');
  });
  const call = send(opened.client, opened.origin);
  await until(() => call.heard.includes('data'), 'data');
  call.exchange.cancel();
  call.exchange.cancel();
  deepEqual(call.heard, ['head', 'data']);
  await call.ended;
  deepEqual(call.heard, ['head', 'data', 'fault']);
  equal(call.answer.fault?.kind, 'cancelled');
  await until(() => isHungUp, 'the server to be hung up on');
  equal(opened.client.activeCalls, 0);
});

test('a call cancelled while it waits for a connection is never sent', async () => {
  const arrived: string[] = [];
  await using opened = await open(
    (request, response) => {
      arrived.push(request.url ?? '');
      if (request.url === '/first') setTimeout(() => response.end('x'), 50);
      else response.end('x');
    },
    { connectionsPerOrigin: 1 },
  );
  const first = send(opened.client, opened.origin, { path: '/first' });
  const second = send(opened.client, opened.origin, { path: '/second' });
  const third = send(opened.client, opened.origin, { path: '/third' });
  second.exchange.cancel();
  await Promise.all([first.ended, second.ended, third.ended]);
  deepEqual(second.heard, ['fault']);
  equal(third.answer.status, 200);
  deepEqual(arrived, ['/first', '/third']);
});

test('calls beyond the connections and the queue of an origin are refused as overloaded', async () => {
  const held: (() => void)[] = [];
  await using opened = await open((_request, response) => held.push(() => response.end('x')), {
    connectionsPerOrigin: 2,
    waitingPerOrigin: 3,
  });
  const calls = Array.from({ length: 6 }, () => send(opened.client, opened.origin));
  await calls[5]?.ended;
  equal(calls[5]?.answer.fault?.kind, 'overloaded');
  await until(() => held.length === 2, 'the connections to be in use');
  equal(opened.client.activeCalls, 5);
  for (const call of calls) call.exchange.cancel();
  await Promise.all(calls.map((call) => call.ended));
  equal(opened.client.activeCalls, 0);
});

test('pools are bounded: the longest idle origin goes, one in use stays', async () => {
  const respond: RequestListener = (request, response) => {
    if (request.url === '/hold') response.write('x');
    else response.end('x');
  };
  await using first = await open(respond, { maxOrigins: 2 });
  await using second = await open(respond);
  await using third = await open(respond);
  const { client } = first;
  await send(client, first.origin).ended;
  await send(client, second.origin).ended;
  await send(client, first.origin).ended;
  await send(client, third.origin).ended;
  equal(client.origins, 2);
  await until(() => second.server.listening, 'the server');
  const open2 = await new Promise<number>((resolve) =>
    second.server.getConnections((_error, count) => resolve(count)),
  );
  equal(open2, 0, 'the connection to the longest unused origin is closed');
  const holding = [
    send(client, first.origin, { path: '/hold' }),
    send(client, third.origin, { path: '/hold' }),
  ];
  for (const call of holding) await until(() => call.heard.includes('data'), 'data');
  const refused = send(client, second.origin);
  await refused.ended;
  equal(refused.answer.fault?.kind, 'overloaded');
  for (const call of holding) call.exchange.cancel();
  await Promise.all(holding.map((call) => call.ended));
});

test('faults are told apart: unreachable, cut, unreadable, too large, invalid', async () => {
  await using opened = await open((request, response) => {
    if (request.url === '/big') response.end('x'.repeat(2_000));
    else if (request.url === '/head') response.writeHead(200, { 'x-a': 'a'.repeat(70_000) }).end();
    else if (request.url === '/long-head') response.writeHead(200, { 'x-a': 'a'.repeat(60_000) }).end();
    else if (request.url === '/reset') request.socket.resetAndDestroy();
    else if (request.url === '/short') {
      response.writeHead(200, { 'content-length': '100' });
      response.write('x', () => request.socket.destroy());
    } else response.write('x', () => request.socket.destroy());
  });
  const kindOf = async (fields: Partial<OutboundRequest>, origin = opened.origin) => {
    const call = send(opened.client, origin, fields);
    equal(call.heardInDispatch, 0);
    await call.ended;
    equal(call.heard.filter((heard) => heard === 'end' || heard === 'fault').length, 1);
    return call.answer.fault?.kind;
  };
  equal(await kindOf({ path: '/big', maxBodyBytes: 1_000 }), 'too_large');
  equal(await kindOf({ path: '/big', maxBodyBytes: 2_000 }), undefined);
  equal(await kindOf({ path: '/head' }), 'unreadable');
  equal(await kindOf({ path: '/long-head' }), undefined);
  equal(await kindOf({ path: '/reset' }), 'unreachable');
  equal(await kindOf({ path: '/short' }), 'cut');
  equal(await kindOf({ path: '/chunked' }), 'cut');
  equal(await kindOf({ headers: ['x-a', 'line\nbreak'] }), 'invalid');
  equal(await kindOf({ headers: ['transfer-encoding', 'chunked'] }), 'invalid');
  equal(await kindOf({ path: 'no slash' }), 'invalid');
  equal(await kindOf({}, 'no origin'), 'invalid');
  equal(await kindOf({}, 'http://nowhere.invalid'), 'unreachable');
  equal(opened.client.activeCalls, 0);
});

test('what is no HTTP is unreadable, and a handshake that never ends is unreachable at its deadline', async () => {
  const sockets = new Set<Socket>();
  const garbage = createTcpServer((socket) => {
    socket.on('error', () => undefined);
    socket.end('SSH-2.0-OpenSSH_9.2\r\n');
  });
  const silent = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
  });
  const client = createOutboundClient({ connectTimeoutMs: 100 });
  const kindAt = async (origin: string) => {
    const call = send(client, origin);
    await call.ended;
    return call.answer.fault?.kind;
  };
  equal(await kindAt(await listening(garbage)), 'unreadable');
  equal(await kindAt((await listening(silent)).replace('http:', 'https:')), 'unreachable');
  await client.close();
  for (const socket of sockets) socket.destroy();
  garbage.close();
  silent.close();
});

test('a connection that an idle server closed is not used again', async () => {
  await using opened = await open((_request, response) => response.end('x'));
  await send(opened.client, opened.origin).ended;
  opened.server.closeIdleConnections();
  const count = () =>
    new Promise<number>((resolve) =>
      opened.server.getConnections((_error, connections) => resolve(connections)),
    );
  while ((await count()) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const call = send(opened.client, opened.origin);
  await call.ended;
  equal(call.answer.fault, null);
});

test('closing ends what runs as cancelled, and a closed client sends nothing', async () => {
  await using opened = await open((_request, response) => response.write('x'));
  const call = send(opened.client, opened.origin);
  await until(() => call.heard.includes('data'), 'data');
  await opened.client.close();
  await call.ended;
  equal(call.answer.fault?.kind, 'cancelled');
  const late = send(opened.client, opened.origin);
  await late.ended;
  equal(late.answer.fault?.kind, 'cancelled');
  await opened.client.close();
});

test('requestJson gives the status and the JSON, or why there is none, and never rejects', async () => {
  await using opened = await open((request, response) => {
    if (request.url === '/json') response.writeHead(404).end('{"a":[1]}');
    else if (request.url === '/text') response.end('<html>');
    else if (request.url === '/big') response.end(' '.repeat(2_000));
  });
  const ask = (path: string, fields: { timeoutMs?: number; signal?: AbortSignal; url?: string } = {}) =>
    opened.client.requestJson({
      method: 'GET',
      url: fields.url ?? `${opened.origin}${path}`,
      headers: [],
      body: null,
      timeoutMs: fields.timeoutMs ?? 2_000,
      maxBodyBytes: 1_000,
      signal: fields.signal ?? new AbortController().signal,
    });
  const json = await ask('/json');
  deepEqual(json.outcome === 'answered' && [json.status, json.json], [404, { a: [1] }]);
  const text = await ask('/text');
  equal(text.outcome === 'answered' && text.json, undefined);
  const kindOf = async (answer: ReturnType<typeof ask>) => {
    const given = await answer;
    return given.outcome === 'failed' ? given.fault.kind : null;
  };
  equal(await kindOf(ask('/big')), 'too_large');
  equal(await kindOf(ask('/never', { timeoutMs: 20 })), 'timeout');
  equal(await kindOf(ask('/never', { signal: AbortSignal.abort() })), 'cancelled');
  equal(await kindOf(ask('', { url: 'no url' })), 'invalid');
  await until(() => opened.client.activeCalls === 0, 'no call to be left');
});
