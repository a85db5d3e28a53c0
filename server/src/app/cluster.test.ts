import assert from 'node:assert/strict';
import { once } from 'node:events';
import type http from 'node:http';
import type { ServerResponse } from 'node:http';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { endpoint } from '@stoa/contracts';
import { createOutboundClient, type RawRoute, type Route } from '#http';
import { type Principal, silentLogger, systemClock } from '#kernel';
import { startListener, testSecrets } from '#testing';
import { createCluster } from './cluster.ts';
import {
  ask,
  authenticator,
  closeAll,
  closing,
  deadOrigin,
  type Handler,
  open,
  openGateway,
  openRole,
  principal,
  responseTo,
  table,
  textOf,
  until,
} from './cluster.harness.ts';

after(closeAll);

test('what lies under a prefix of a role elsewhere goes there as it came, and comes back as it is', async () => {
  const seen: { method: string; url: string; headers: http.IncomingHttpHeaders; text: string }[] = [];
  const role = await openRole((request, response) => {
    textOf(request).then(
      (text) => {
        seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, text });
        response.writeHead(207, {
          'content-type': 'text/plain',
          'set-cookie': ['a=1', 'b=2'],
          connection: 'x-private',
          'x-private': '1',
          'x-request-id': 'of-the-role',
        });
        response.end(`heard ${text}`);
      },
      () => response.destroy(),
    );
  });
  const gateway = await openGateway([role.origin]);
  const heard = await ask(gateway, '/v1/fixture/a%2Fb?x=1&y=%20', {
    method: 'PATCH',
    body: 'some bytes \u00e4',
    headers: {
      'x-request-id': 'mine',
      'content-type': 'text/odd',
      connection: 'close, x-hop',
      'x-hop': '1',
      te: 'trailers',
      'x-kept': 'yes',
      'x-stoa-forwarded': 'forged',
      'accept-encoding': 'gzip',
    },
  });
  const [one] = seen;
  assert.ok(one);
  assert.equal(`${one.method} ${one.url} ${one.text}`, 'PATCH /v1/fixture/a%2Fb?x=1&y=%20 some bytes \u00e4');
  const { headers } = one;
  assert.equal(headers.authorization, 'Bearer good');
  assert.equal(headers['x-kept'], 'yes');
  assert.equal(headers['content-type'], 'text/odd');
  assert.deepEqual(
    [headers['x-hop'], headers.te, headers['accept-encoding']],
    [undefined, undefined, 'identity'],
  );
  assert.match(String(headers['x-stoa-forwarded']), /^time=\d+,id=/);
  assert.equal(headers['x-client-request-id'], 'mine');
  assert.equal(heard.status, 207);
  assert.equal(heard.text, 'heard some bytes \u00e4');
  assert.deepEqual(heard.headers['set-cookie'], ['a=1', 'b=2']);
  assert.equal(heard.headers['x-private'], undefined);
  assert.match(String(heard.headers['x-request-id']), /^req_/);
  assert.equal(headers['x-request-id'], heard.headers['x-request-id'], 'the role heard of another id');
  assert.equal(heard.headers['x-client-request-id'], 'mine');
  for (const path of ['/v1/fixture', '/v1/fixture?x', '/v1/fixtures/1']) {
    assert.equal((await ask(gateway, path)).status, 207, path);
  }
  assert.equal((await ask(gateway, '/v1/fixturex')).code, 'not_found');
  assert.equal((await ask(gateway, '/v1/fixture', { method: 'HEAD' })).status, 207);
});

test('a role that has code in this process is not forwarded, nor is anything by a process that is no gateway', () => {
  const outbound = createOutboundClient();
  const settings = { clusterSecret: null, clusterSecretPrevious: null, clusterListen: null, roleUrls: null };
  const deps = { settings, outbound, clock: systemClock, logger: silentLogger, services: [], table };
  const prefixes = (roles: string[]): string[] =>
    createCluster({ ...deps, roles }).forwards.map(({ prefix }) => prefix);
  assert.deepEqual(prefixes(['gateway']), ['/v1/fixture', '/v1/fixtures']);
  assert.deepEqual(prefixes(['gateway', 'fixture']), []);
  assert.deepEqual(prefixes(['fixture']), []);
});

test('a role that is away is 503, named in message and header, with Retry-After', async () => {
  for (const origins of [[], [await deadOrigin()], [await deadOrigin(), await deadOrigin()]]) {
    const gateway = await openGateway(origins);
    for (const method of ['GET', 'POST']) {
      const heard = await ask(gateway, '/v1/fixture', {
        method,
        body: method === 'POST' ? 'x'.repeat(100_000) : '',
      });
      assert.equal(`${heard.status} ${heard.code}`, '503 role_unavailable');
      assert.match(heard.text, /named fixture is away/);
      assert.equal(heard.headers['x-stoa-role'], 'fixture');
      assert.ok(Number(heard.headers['retry-after']) >= 1);
    }
  }
});

test('its processes are taken in turn; one that is away costs no request, whatever its method and body', async () => {
  const counts = [0, 0];
  const roles = await Promise.all(
    counts.map((_count, index) =>
      openRole((request, response) => {
        counts[index] = (counts[index] ?? 0) + 1;
        textOf(request).then(
          (text) => response.end(String(text.length)),
          () => response.destroy(),
        );
      }),
    ),
  );
  const gateway = await openGateway([roles[0]?.origin ?? '', await deadOrigin(), roles[1]?.origin ?? '']);
  const body = 'x'.repeat(300_000);
  for (let turn = 0; turn < 30; turn++) {
    const heard = await ask(gateway, '/v1/fixture', { method: 'POST', body });
    assert.equal(`${heard.status} ${heard.text}`, '200 300000');
  }
  assert.equal((counts[0] ?? 0) + (counts[1] ?? 0), 30);
  assert.ok(Math.min(...counts) >= 10, `the turns were ${counts.join(' and ')}`);
});

test('a role that does not answer is 504 in its time, then 503 at once; it is back as soon as it answers', async () => {
  let isSlow = true;
  let calls = 0;
  const role = await openRole((_request, response) => {
    calls += 1;
    if (!isSlow) response.end('awake');
  });
  const gateway = await openGateway([role.origin]);
  const slow = await Promise.all(Array.from({ length: 5 }, () => ask(gateway, '/v1/fixture')));
  for (const heard of slow) {
    assert.equal(
      `${heard.status} ${heard.code} ${String(heard.headers['x-stoa-role'])}`,
      '504 deadline_exceeded fixture',
    );
  }
  const startedAt = performance.now();
  const refused = await ask(gateway, '/v1/fixture');
  assert.equal(refused.code, 'role_unavailable');
  assert.ok(performance.now() - startedAt < 250, 'it waited for a role whose breaker is open');
  assert.equal(calls, 5);
  isSlow = false;
  const retryAfter = Number(refused.headers['retry-after']);
  await pause(retryAfter * 1_000);
  assert.equal((await ask(gateway, '/v1/fixture')).text, 'awake');
});

test('what a role answers passes as it is, 5xx too, and closes nothing; one that answers 503 rests while there is another', async () => {
  let status = 500;
  const failing = await openRole((_request, response) => {
    response.writeHead(status, { 'retry-after': '7' }).end('{"why":"mine"}');
  });
  const alone = await openGateway([failing.origin]);
  for (status of [500, 502, 503, 504, 429, 404]) {
    for (let turn = 0; turn < 8; turn++) {
      const heard = await ask(alone, '/v1/fixture');
      assert.deepEqual(
        [heard.status, heard.text, heard.headers['retry-after']],
        [status, '{"why":"mine"}', '7'],
      );
    }
  }
  status = 503;
  const sound = await openRole((_request, response) => response.end('sound'));
  const both = await openGateway([failing.origin, sound.origin]);
  const heard = [];
  for (let turn = 0; turn < 12; turn++) heard.push((await ask(both, '/v1/fixture')).status);
  assert.equal(heard.filter((one) => one === 503).length, 1, heard.join(' '));
});

test('an answer that breaks off mid-stream is cut for the caller, never ended as if whole', async () => {
  const role = await openRole((request, response) => {
    if (request.url?.endsWith('/stall') === true) response.write('half');
    else response.write('half', () => response.destroy());
  });
  const gateway = await openGateway([role.origin]);
  for (const path of ['/v1/fixture/cut', '/v1/fixture/stall']) {
    const request = open(gateway, path);
    request.end();
    const response = await responseTo(request);
    assert.equal(response.statusCode, 200);
    await assert.rejects(textOf(response), { code: 'ECONNRESET' }, path);
  }
});

test('a stream passes piece by piece, and a caller that leaves ends the call to the role', async () => {
  const pieces = Promise.withResolvers<ServerResponse>();
  let isGone = false;
  const role = await openRole((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.once('close', () => {
      isGone = true;
    });
    response.write('data: 1\n\n');
    pieces.resolve(response);
  });
  const gateway = await openGateway([role.origin]);
  const request = open(gateway, '/v1/fixture/stream');
  request.end();
  const response = await responseTo(request);
  const heard: string[] = [];
  response.on('data', (chunk: Buffer) => heard.push(chunk.toString()));
  response.on('error', () => undefined);
  await until(() => heard.length === 1, 'the first piece');
  (await pieces.promise).write('data: 2\n\n');
  await until(() => heard.length === 2, 'the second piece');
  assert.equal(isGone, false);
  request.destroy();
  await until(() => isGone, 'the role to hear that the caller left');
});

test('a caller that leaves before the answer, or in the middle of its body, ends the call to the role', async () => {
  let arrived = 0;
  let gone = 0;
  const role = await openRole((request, response) => {
    arrived += 1;
    request.resume();
    request.on('error', () => undefined);
    response.once('close', () => {
      gone += 1;
    });
  });
  const gateway = await openGateway([role.origin], {
    table: { ...table, fixture: { ...table.fixture, silenceMs: 60_000 } },
  });
  const waiting = open(gateway, '/v1/fixture');
  const sending = open(gateway, '/v1/fixture', { method: 'POST', headers: { 'content-length': '100' } });
  for (const request of [waiting, sending]) request.on('error', () => undefined);
  waiting.end();
  sending.write('some');
  await until(() => arrived === 2, 'both at the role');
  waiting.destroy();
  sending.destroy();
  await until(() => gone === 2, 'both gone');
});

test('neither side is read faster than the other reads', async () => {
  let written = 0;
  const bound = 32 * 1024 * 1024;
  let received = 0;
  const endless: Handler = (_request, response) => {
    const write = (): void => {
      do written += 64 * 1024;
      while (response.write(Buffer.alloc(64 * 1024)));
      response.once('drain', () => setImmediate(write));
    };
    write();
  };
  const role = await openRole((request, response) => {
    if (request.method === 'GET') endless(request, response);
    else
      request.once('data', (chunk: Buffer) => {
        received += chunk.length;
        request.pause();
      });
  });
  const gateway = await openGateway([role.origin], {
    table: { ...table, fixture: { ...table.fixture, silenceMs: 60_000 } },
  });
  const download = open(gateway, '/v1/fixture');
  download.end();
  const response = await responseTo(download);
  response.pause();
  // It is held back once nothing more goes out for a while; a gateway that hoards takes bytes for as long as they come.
  const isStill = async (): Promise<boolean> => {
    const before = written;
    await pause(300);
    return written === before || written >= bound;
  };
  while (!(await isStill()));
  assert.ok(written < bound, `${written} bytes for a caller that reads nothing`);
  download.destroy();
  const upload = open(gateway, '/v1/fixture', { method: 'POST' });
  upload.on('error', () => undefined);
  let sent = 0;
  let isHeldBack = false;
  while (!isHeldBack && sent < 64 * 1024 * 1024) {
    sent += 64 * 1024;
    if (upload.write(Buffer.alloc(64 * 1024))) continue;
    const drained = once(upload, 'drain').then(() => false);
    isHeldBack = await Promise.race([drained, pause(500, true)]);
  }
  await until(() => received > 0, 'the first bytes');
  assert.ok(sent < bound, `${sent} bytes for a role that reads nothing`);
  upload.destroy();
});

test('a body of which a part is gone is not sent to another process', async () => {
  const sizes: number[] = [];
  const breaking = await openRole((request) => {
    request.once('data', () => request.socket.resetAndDestroy());
  });
  const sound = await openRole((request, response) => {
    textOf(request).then(
      (text) => {
        sizes.push(text.length);
        response.end('whole');
      },
      () => response.destroy(),
    );
  });
  const gateway = await openGateway([breaking.origin, sound.origin]);
  // GET is safe to repeat, and may have a body all the same; without a length a part of it looks whole.
  const body = 'x'.repeat(500_000);
  const heard = await ask(gateway, '/v1/fixture', {
    method: 'GET',
    body,
    headers: { 'transfer-encoding': 'chunked' },
  });
  assert.equal(`${heard.status} ${heard.code}`, '503 role_unavailable');
  assert.deepEqual(sizes, []);
});

test('a stranger is refused before the role hears of it', async () => {
  let calls = 0;
  const role = await openRole((_request, response) => {
    calls += 1;
    response.end();
  });
  const gateway = await openGateway([role.origin]);
  const heard = await ask(gateway, '/v1/fixture', {
    method: 'POST',
    body: 'x',
    headers: { authorization: 'Bearer bad' },
  });
  assert.equal(`${heard.status} ${heard.code} ${calls}`, '401 invalid_api_key 0');
});

test('a caller that waits for 100 Continue gets it once the role takes the body', async () => {
  const role = await openRole((request, response) => {
    textOf(request).then(
      (text) => response.end(text),
      () => response.destroy(),
    );
  });
  const gateway = await openGateway([role.origin]);
  const request = open(gateway, '/v1/fixture', {
    method: 'POST',
    headers: { expect: '100-continue', 'content-length': '4' },
  });
  request.flushHeaders();
  await once(request, 'continue');
  request.end('body');
  assert.equal(await textOf(await responseTo(request)), 'body');
});

test('a role answers to the gateway alone, checks the key by itself, and keeps the id that the gateway gave', async () => {
  const outbound = createOutboundClient();
  const seen: { requestId: string; client: string | null; principal: Principal }[] = [];
  const contract = endpoint({
    id: 'thing',
    listener: 'public',
    method: 'POST',
    path: '/v1/fixture/thing',
    access: { permission: 'chat:create' },
    summary: 'For the test.',
    responses: {},
    errors: [],
    idempotent: 'no',
    example: {},
  });
  const route: RawRoute = {
    kind: 'raw',
    endpoint: contract,
    handle({ response, body, context, principal: caller }) {
      seen.push({ requestId: context.publicRequestId, client: context.clientRequestId, principal: caller });
      response.end(body);
    },
  };
  const routes: Route[] = [route];
  const settings = {
    clusterSecret: testSecrets.current,
    clusterSecretPrevious: null,
    clusterListen: { host: '127.0.0.1', port: 0 },
    roleUrls: null,
  };
  const deps = { outbound, clock: systemClock, logger: silentLogger, services: [], table };
  const { listener } = createCluster({ ...deps, settings, roles: ['fixture'] });
  assert.ok(listener);
  const { relays, readForwarded } = listener;
  const role = await startListener({ authenticator, routes, relays, readForwarded });
  closing.push(async () => {
    await role.close();
    await outbound.close();
  });
  const body = { method: 'POST', body: '{}', headers: { 'content-type': 'application/json' } };
  const direct = await ask(role, '/v1/fixture/thing', body);
  assert.equal(`${direct.status} ${direct.code}`, '401 invalid_cluster_signature');
  const gateway = await openGateway([role.origin]);
  const heard = await ask(gateway, '/v1/fixture/thing', {
    ...body,
    headers: { ...body.headers, 'x-client-request-id': 'mine' },
  });
  assert.equal(`${heard.status} ${heard.text}`, '200 {}');
  assert.deepEqual(seen, [{ requestId: heard.headers['x-request-id'], client: 'mine', principal }]);
  const other = await openGateway([role.origin], {
    settings: {
      ...settings,
      clusterSecret: 'the secret of another cluster',
      roleUrls: `fixture=${role.origin}`,
    },
  });
  assert.equal((await ask(other, '/v1/fixture/thing', body)).code, 'invalid_cluster_signature');
  assert.equal(seen.length, 1);
});
