import { deepEqual, equal, match, ok } from 'node:assert/strict';
import type { IncomingMessage, RequestListener } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'node:test';
import { selfSigned } from '#testing';
import { type AllowList, readAllowList } from './allow-list.ts';
import { createGuardedClient, type GuardedSettings } from './guarded.ts';
import type { GuardedAnswer, GuardedLimits } from './guarded-types.ts';
import { noMetrics } from './testing/no-metrics.ts';
import { playInternet } from './testing/played-internet.ts';

const tenantId = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80';
const otherTenantId = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f81';
const publicAnswers = {
  'a.example.com': [['93.184.216.34']],
  'z.example.net': [['1.1.1.1']],
};

async function open(
  respond: RequestListener,
  {
    answers = publicAnswers,
    settings = {},
    allowOf,
    names = ['a.example.com', 'z.example.net'],
  }: {
    answers?: Readonly<Record<string, readonly (readonly string[])[]>>;
    settings?: GuardedSettings;
    allowOf?: (tenantId: string) => AllowList;
    names?: readonly string[];
  } = {},
) {
  const certificates = Object.fromEntries(names.map((name) => [name, selfSigned(name)]));
  const internet = await playInternet(answers, respond, certificates);
  const client = createGuardedClient(
    { metrics: noMetrics, resolve: internet.resolve, ...(allowOf ? { allowOf } : {}) },
    settings,
  );
  return {
    internet,
    client,
    get: (url: string, headers: readonly string[] = [], limits: GuardedLimits = {}) =>
      client.call({ tenantId, method: 'GET', url, headers, limits }),
    async [Symbol.asyncDispose]() {
      await client.close();
      await internet.close();
    },
  };
}

function shown(answer: GuardedAnswer): string {
  if (answer.outcome === 'answered') return `${answer.status} ${answer.body.toString()}`;
  return answer.outcome === 'refused' ? answer.refusal.reason : answer.fault.kind;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}

function answerWith(request: IncomingMessage, answer: (body: string) => void): void {
  bodyOf(request).then(answer, (error: unknown) => request.destroy(new Error(String(error))));
}

test('a name that points elsewhere at its second look-up never leads there', async () => {
  const answers = { 'a.example.com': [['93.184.216.34'], ['127.0.0.1']] };
  await using opened = await open(
    (_request, response) => response.writeHead(200, { connection: 'close' }).end('x'),
    {
      answers,
    },
  );
  equal(shown(await opened.get('https://a.example.com/')), '200 x');
  equal(shown(await opened.get('https://a.example.com/')), 'special_address');
  deepEqual(opened.internet.dialled, ['93.184.216.34']);
  equal(opened.internet.lookups.length, 2, 'one look-up for each connection');
});

test('one address among several that is not public is enough to refuse the name', async () => {
  const answers = { 'a.example.com': [['93.184.216.34', '10.0.0.5']] };
  await using opened = await open((_request, response) => response.end('x'), { answers });
  equal(shown(await opened.get('https://a.example.com/')), 'special_address');
  deepEqual(opened.internet.dialled, []);
});

test('the host header and the certificate are the name’s, not the address’s', async () => {
  {
    await using opened = await open((request, response) => response.end(request.headers.host));
    equal(shown(await opened.get('https://a.example.com/')), '200 a.example.com');
  }
  await using wrong = await open((_request, response) => response.end('x'), { names: ['z.example.net'] });
  equal(shown(await wrong.get('https://a.example.com/')), 'unreachable');
});

test('a redirect is judged like a URL of its own, and three are followed', async () => {
  const to: Record<string, string> = {
    '/private': 'http://10.0.0.1/',
    '/name': 'https://localhost/',
    '/port': 'https://a.example.com:22/',
    '/credentials': 'https://u:p@a.example.com/',
    '/scheme': 'file:///etc/passwd',
    '/nowhere': 'https://',
    '/down': 'http://a.example.com/',
    '/1': '/2',
    '/2': '/3',
    '/3': '/end',
    '/4': '/1',
    '/loop': '/loop',
  };
  await using opened = await open((request, response) => {
    const location = to[request.url ?? ''];
    if (location === undefined) response.end('end');
    else response.writeHead(302, { location }).end();
  });
  const get = async (path: string) => shown(await opened.get(`https://a.example.com${path}`));
  equal(await get('/private'), 'redirect');
  equal(await get('/name'), 'inner_name');
  equal(await get('/port'), 'port');
  equal(await get('/credentials'), 'credentials');
  equal(await get('/scheme'), 'scheme');
  equal(await get('/nowhere'), 'redirect');
  equal(await get('/down'), 'redirect');
  equal(await get('/1'), '200 end');
  equal(await get('/4'), 'redirect');
  equal(await get('/loop'), 'redirect');
  const none = await opened.get('https://a.example.com/1', [], { maxRedirects: 0 });
  equal(shown(none), '302 ');
  ok(opened.internet.dialled.every((address) => address === '93.184.216.34'));
});

test('nothing that could be a credential crosses to another origin, and it does not come back', async () => {
  const heard: { path: string; headers: IncomingMessage['headers'] }[] = [];
  await using opened = await open((request, response) => {
    heard.push({ path: `${request.headers.host ?? ''}${request.url ?? ''}`, headers: request.headers });
    const location = { '/a': '/b', '/b': 'https://z.example.net/c', '/c': 'https://a.example.com/d' }[
      request.url ?? ''
    ];
    if (location === undefined) response.end('x');
    else response.writeHead(307, { location }).end();
  });
  const secrets = ['Authorization', 'cookie', 'x-api-key', 'webhook-signature', 'x-anything-else'];
  const headers = [...secrets.flatMap((name) => [name, 'secret']), 'accept', 'text/plain'];
  equal(shown(await opened.get('https://a.example.com/a', headers)), '200 x');
  const had = heard.map(({ path, headers: got }) => [
    path,
    secrets.filter((name) => got[name.toLowerCase()] !== undefined).length,
    got.accept,
  ]);
  deepEqual(had, [
    ['a.example.com/a', 5, 'text/plain'],
    ['a.example.com/b', 5, 'text/plain'],
    ['z.example.net/c', 0, 'text/plain'],
    ['a.example.com/d', 0, 'text/plain'],
  ]);
});

test('method and body follow a redirect as browsers send them', async () => {
  const heard: string[] = [];
  await using opened = await open((request, response) => {
    answerWith(request, (body) => {
      heard.push(`${request.method ?? ''} ${request.headers['content-type'] ?? '-'} ${body}`);
      const status = Number(request.url?.slice(1));
      if (status > 0) response.writeHead(status, { location: '/' }).end();
      else response.end('x');
    });
  });
  for (const status of [301, 302, 303, 307, 308]) {
    await opened.client.call({
      tenantId,
      method: 'POST',
      url: `https://a.example.com/${status}`,
      headers: ['content-type', 'text/plain'],
      body: Buffer.from('b'),
    });
  }
  const kept = 'POST text/plain b';
  deepEqual(
    heard.filter((_line, index) => index % 2 === 1),
    ['GET - ', 'GET - ', 'GET - ', kept, kept],
  );
});

test('an answer is bounded in bytes and in time, over all of its redirects', async () => {
  await using opened = await open((request, response) => {
    if (request.url === '/big') response.end('x'.repeat(200_000));
    else if (request.url === '/slow')
      setTimeout(() => response.writeHead(302, { location: '/slow' }).end(), 60);
    else if (request.url === '/drip') response.write('x');
  });
  const limits = { maxBodyBytes: 1_000, timeoutMs: 150 };
  equal(shown(await opened.get('https://a.example.com/big', [], limits)), 'too_large');
  const cut = await opened.get('https://a.example.com/big', [], { ...limits, whenTooLarge: 'cut' });
  ok(cut.outcome === 'answered' && cut.isCut && cut.body.length === 1_000);
  equal(shown(await opened.get('https://a.example.com/slow', [], limits)), 'timeout');
  equal(shown(await opened.get('https://a.example.com/drip', [], limits)), 'timeout');
  equal(shown(await opened.get('https://a.example.com/drip', [], { timeoutMs: 0 })), 'timeout');
});

test('what the caller or the client ends is told as cancelled, and the connection is closed', async () => {
  const hungUp = Promise.withResolvers<void>();
  await using opened = await open((request, response) => {
    request.socket.once('close', () => hungUp.resolve());
    response.write('x');
  });
  const controller = new AbortController();
  const call = opened.client.call({
    tenantId,
    method: 'GET',
    url: 'https://a.example.com/',
    signal: controller.signal,
  });
  setTimeout(() => controller.abort(), 50);
  equal(shown(await call), 'cancelled');
  await hungUp.promise;
  const running = opened.get('https://a.example.com/');
  await delay(20);
  await opened.client.close();
  equal(shown(await running), 'cancelled');
  equal(shown(await opened.get('https://a.example.com/')), 'cancelled');
});

test('a slow look-up ends with the call’s time', async () => {
  const client = createGuardedClient({ metrics: noMetrics, resolve: () => new Promise(() => undefined) });
  const answer = await client.call({
    tenantId,
    method: 'GET',
    url: 'https://a.example.com/',
    limits: { timeoutMs: 50 },
  });
  equal(shown(answer), 'timeout');
  await client.close();
});

test('the deployment’s list passes for all tenants, a tenant’s for that one', async () => {
  const read = (entry: string): AllowList => {
    const list = readAllowList([entry]);
    ok('list' in list);
    return list.list;
  };
  const answers = {
    'hooks.corp': [['10.0.0.1']],
    'a.example.com': [['10.0.0.2']],
    'b.example.com': [['10.9.9.9']],
  };
  await using opened = await open((_request, response) => response.end('x'), {
    answers,
    settings: { allow: read('hooks.corp') },
    allowOf: (asked) => read(asked === tenantId ? '10.0.0.0/24' : '192.0.2.1'),
  });
  const get = async (by: string, url: string) =>
    shown(await opened.client.call({ tenantId: by, method: 'GET', url }));
  equal(await get(tenantId, 'http://hooks.corp/'), '200 x');
  equal(await get(otherTenantId, 'http://hooks.corp/'), '200 x');
  equal(await get(tenantId, 'http://a.example.com/'), '200 x');
  equal(await get(otherTenantId, 'http://a.example.com/'), 'special_address');
  equal(await get(tenantId, 'http://b.example.com/'), 'special_address');
  equal(await get(tenantId, 'http://10.0.0.2/'), '200 x');
  equal(await get(otherTenantId, 'http://10.0.0.2/'), 'special_address');
});

test('connections are never shared between tenants', async () => {
  const sockets = new Set<unknown>();
  await using opened = await open((request, response) => {
    sockets.add(request.socket);
    response.end('x');
  });
  for (const by of [tenantId, tenantId, otherTenantId]) {
    await opened.client.call({ tenantId: by, method: 'GET', url: 'https://a.example.com/' });
    await delay(5);
  }
  equal(sockets.size, 2);
});

test('headers of the connection are not the caller’s, and broken ones are a fault', async () => {
  await using opened = await open((_request, response) => response.end('x'));
  for (const headers of [
    ['Host', 'b'],
    ['transfer-encoding', 'chunked'],
    ['content-length', '1'],
    ['x'],
    ['x', 'a\r\nb: c'],
  ])
    equal(shown(await opened.get('https://a.example.com/', headers)), 'invalid', headers.join(':'));
});

test('one tenant holds at most a quarter of the calls', async () => {
  await using opened = await open(() => undefined, { settings: { maxCalls: 8 } });
  const held = [1, 2].map(() => opened.get('https://a.example.com/', [], { timeoutMs: 200 }));
  equal(shown(await opened.get('https://a.example.com/')), 'overloaded');
  const other = await opened.client.call({
    tenantId: otherTenantId,
    method: 'GET',
    url: 'https://a.example.com/',
    limits: { timeoutMs: 50 },
  });
  equal(shown(other), 'timeout');
  await Promise.all(held);
});

test('tenants whose many origins hang leave room for another’s', async () => {
  const names = Array.from({ length: 8 }, (_, index) => `h${index}.example.com`);
  const answers = Object.fromEntries([...names, 'a.example.com'].map((name) => [name, [['93.184.216.34']]]));
  await using opened = await open(
    (request, response) => (request.headers.host === 'a.example.com' ? response.end('x') : undefined),
    { answers, names: [...names, 'a.example.com'], settings: { maxCalls: 12 } },
  );
  const hanging = names.map((name, index) =>
    opened.client.call({
      tenantId: `018f4d2a-7c1b-7def-8a12-3b4c5d6e7f9${Math.floor(index / 2)}`,
      method: 'GET',
      url: `https://${name}/`,
      limits: { timeoutMs: 1_000 },
    }),
  );
  equal(shown(await opened.get('https://a.example.com/')), '200 x');
  await Promise.all(hanging);
});

test('the hook for libraries answers as fetch does, and rejects where there is no answer', async () => {
  await using opened = await open((request, response) => {
    answerWith(request, (body) =>
      response
        .writeHead(request.url === '/none' ? 204 : 201, { 'x-a': ['1', '2'] })
        .end(request.url === '/none' ? '' : `{"body":"${body}"}`),
    );
  });
  const fetchIt = opened.client.fetchFor(tenantId);
  const answer = await fetchIt('https://a.example.com/', {
    method: 'POST',
    body: 'é',
    headers: { 'x-b': '1' },
  });
  equal(answer.status, 201);
  equal(answer.headers.get('x-a'), '1, 2');
  deepEqual(await answer.json(), { body: 'é' });
  equal((await fetchIt('https://a.example.com/none')).status, 204);
  await fetchIt('https://localhost/').then(
    () => ok(false),
    (error: unknown) => {
      ok(error instanceof TypeError);
      match(error.message, /inside a network/);
    },
  );
});

test('a URL is judged where it is given, without a look-up', async () => {
  await using opened = await open((_request, response) => response.end('x'));
  equal(opened.client.check('https://a.example.com/', tenantId), null);
  equal(opened.client.check('https://10.0.0.1/', tenantId)?.reason, 'special_address');
  deepEqual(opened.internet.lookups, []);
});
