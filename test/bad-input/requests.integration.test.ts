import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import { type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { everyEndpoint, pathOf } from './endpoints.ts';
import { type AnyAnswer, assertError, errorCodeOf } from './error-answer.ts';
import { head, onlyAnswer, rawExchange } from './raw-http.ts';

let upstream: EchoUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'error' } });
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

const chat = { model: echoModel, messages: [{ role: 'user', content: 'hi' }] };
const resource = z.looseObject({ id: z.string() });

/** A GET by hand, so that no client library tidies the path up. */
async function get(path: string, headers: Record<string, string> = {}): Promise<AnyAnswer> {
  const { baseUrl, adminUrl, operatorKey, demo } = stoa.credentials;
  const isControl = path.startsWith('/control');
  const authorization = `Bearer ${isControl ? operatorKey : demo.apiKey}`;
  const text = head(`GET ${path}`, { authorization, ...headers });
  return onlyAnswer(await rawExchange(isControl ? adminUrl : baseUrl, (socket) => socket.write(text)));
}

test('every list refuses a limit outside of 1 to 100 and an `after` that is no place in it', async () => {
  const lists = everyEndpoint.filter(({ method, query }) => method === 'GET' && query !== undefined);
  assert.ok(lists.length >= 8);
  for (const endpoint of lists) {
    const isTenants = endpoint.path.startsWith('/control/v1/tenants/');
    const path = pathOf(endpoint, isTenants ? { id: stoa.credentials.demo.tenantId } : {});
    for (const limit of [
      '0',
      '-1',
      '1e9',
      'abc',
      '',
      '1.5',
      '101',
      'NaN',
      'Infinity',
      '%00',
      '1&limit=2',
      '9'.repeat(400),
    ]) {
      assertError(
        await get(`${path}?limit=${limit}`),
        'invalid_request',
        'limit',
        `${endpoint.id} limit=${limit}`,
      );
    }
    for (const after of [
      'garbage',
      '%00',
      '%ff',
      '%F0%9F%92%A9',
      "'%20or%201=1--",
      '..%2f..',
      '-1',
      '9'.repeat(30),
      'x'.repeat(5_000),
    ]) {
      const answer = await get(`${path}?after=${after}`);
      const code = errorCodeOf(answer, `${endpoint.id} after=${after}`);
      assert.ok(
        ['invalid_request', 'invalid_text'].includes(code),
        `${endpoint.id} after=${after}: ${answer.text}`,
      );
    }
  }
});

test('absurd filters are refused or find nothing', async () => {
  const queries = [
    '/v1/requests?from=yesterday',
    '/v1/requests?from=9999999-01-01T00:00:00Z',
    '/v1/requests?outcome=great',
    '/v1/requests?model=%00',
    '/v1/requests?end_user=%ED%A0%80',
    '/v1/requests?after=req_00000000000000000000000000',
    '/v1/requests?model=a&model=b',
    '/v1/requests?__proto__=x&constructor=y',
    '/v1/requests?from=0000-01-01T00:00:00Z&to=9999-12-31T23:59:59Z',
    '/v1/usage?group_by=day,day,day',
    '/v1/usage?group_by=password',
    '/v1/usage?from=2026-13-45',
    '/v1/usage?from=0001-01-01&to=9999-12-31',
    '/v1/usage?from=2026-02-01&to=2026-01-01',
    '/v1/usage?project_id=%00',
    '/v1/usage?group_by=model&after=%7B%22',
    '/control/v1/tenants?state=dead',
    '/control/v1/audit?tenant_id=x',
    '/control/v1/audit?after=99999999999999999999',
    '/control/v1/prices?model=%00',
    '/control/v1/prices?provider=%25_%27',
    `/v1/requests?${'a=b&'.repeat(3_000)}`,
  ];
  for (const path of queries) {
    const answer = await get(path);
    if (answer.status === 200) continue;
    const code = errorCodeOf(answer, path);
    assert.ok(['invalid_request', 'invalid_text', 'not_found'].includes(code), `${path}: ${answer.text}`);
  }
});

test('ids and paths that name nothing are refused, whatever they hold', async () => {
  const ids = [
    'x',
    '..',
    '%2e%2e%2f%2e%2e%2fetc%2fpasswd',
    '%00',
    '%0d%0aSet-Cookie:x',
    '%f0%9f%92%a9',
    '%ff',
    '%',
    '%zz',
    "'%20or%201=1--",
    'a'.repeat(1_500),
    '__proto__',
    'constructor',
    '%2F',
    '*',
    'null',
  ];
  const byId = everyEndpoint.filter(
    ({ method, path, params }) => method === 'GET' && path.includes('{') && params !== undefined,
  );
  assert.ok(byId.length >= 5);
  for (const endpoint of byId) {
    for (const id of ids) {
      const path = endpoint.path.replaceAll(/\{\w+\*?\}/g, id);
      const answer = await get(path);
      const code = errorCodeOf(answer, path.slice(0, 100));
      assert.ok(
        [
          'invalid_request',
          'invalid_text',
          'not_found',
          'model_not_found',
          'bad_request',
          'method_not_allowed',
        ].includes(code),
        `${path}: ${answer.text}`,
      );
    }
  }
  for (const path of [
    '/',
    '//',
    '/..',
    '/../../etc/passwd',
    '/v1',
    '/v1/',
    '/v1/models/',
    '/%2e%2e/',
    '/v1/../control/v1/tenants',
    '/v1//models',
    '/.env',
    '/v1/models;x=1',
    '/V1/MODELS',
    '/metrics',
    '/v1/chat/completions/',
    `/${'a/'.repeat(3_000)}`,
    '*',
    'http://other.example/v1/none',
    '/control/v1/tenants',
  ]) {
    const { baseUrl } = stoa.credentials;
    const answer = onlyAnswer(await rawExchange(baseUrl, (socket) => socket.write(head(`GET ${path}`, {}))));
    const code = errorCodeOf(answer, path.slice(0, 100));
    assert.ok(
      ['not_found', 'bad_request', 'method_not_allowed', 'invalid_api_key'].includes(code),
      `${path}: ${answer.text}`,
    );
  }
});

test('an Authorization header that is not exactly a bearer credential of ours is one and the same 401', async () => {
  const { apiKey } = stoa.credentials.demo;
  const { operatorKey } = stoa.credentials;
  const wrong = [
    '',
    'Bearer',
    'Bearer ',
    apiKey,
    `Basic ${apiKey}`,
    `Basic ${Buffer.from(`x:${apiKey}`).toString('base64')}`,
    `Bearer ${apiKey} x`,
    `Bearer ${apiKey},${apiKey}`,
    `Bearer x${apiKey}`,
    `Bearer ${apiKey.slice(0, -1)}`,
    `Bearer ${apiKey}0`,
    `Bearer ${apiKey.toUpperCase()}`,
    `Bearer ${operatorKey}`,
    'Bearer null',
    'Bearer undefined',
    "Bearer ' or 1=1 --",
    'Bearer stoa_sk_',
    `Bearer stoa_sk_${'0'.repeat(12)}_${'0'.repeat(36)}`,
    'Bearer é',
    `Bearer ${'a'.repeat(10_000)}`,
    `Bearer ${apiKey}\t\u00a0`,
    'Bearer __proto__',
  ];
  const bodies = new Set<string>();
  for (const authorization of wrong) {
    const answer = await get('/v1/models', { authorization });
    assertError(answer, 'invalid_api_key', null, authorization.slice(0, 60));
    bodies.add(answer.text);
  }
  assert.equal(bodies.size, 1, 'nobody learns from the answer which part was wrong');
  for (const [first, second] of [
    ['x', apiKey],
    [apiKey, 'x'],
    [apiKey, apiKey],
  ] as const) {
    const twice = `GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${first}\r\nAuthorization: Bearer ${second}\r\n\r\n`;
    assertError(
      onlyAnswer(await rawExchange(stoa.credentials.baseUrl, (socket) => socket.write(twice))),
      'invalid_api_key',
    );
  }
  for (const authorization of [`bearer ${apiKey}`, `BEARER  ${apiKey}`, `Bearer ${apiKey} `]) {
    assert.equal((await get('/v1/models', { authorization })).status, 200, authorization.slice(0, 10));
  }
  assertError(await get('/control/v1/tenants', { authorization: `Bearer ${apiKey}` }), 'invalid_api_key');
});

test('an Idempotency-Key that is empty, long or not plain text is refused; on chats it is ignored', async () => {
  const { baseUrl, demo } = stoa.credentials;
  const body = JSON.stringify({ name: 'k', role: 'viewer' });
  const common = {
    authorization: `Bearer ${demo.apiKey}`,
    'content-type': 'application/json',
    'content-length': String(body.length),
  };
  for (const key of ['', ' ', 'a b', 'x'.repeat(256), 'é', 'a\tb']) {
    const text = head('POST /v1/keys', { ...common, 'idempotency-key': key }) + body;
    const answer = onlyAnswer(
      await rawExchange(baseUrl, (socket) => socket.write(Buffer.from(text, 'latin1'))),
    );
    assertError(answer, 'invalid_request', 'Idempotency-Key', JSON.stringify(key));
  }
  const headers = { 'idempotency-key': "' or 1=1 --".replaceAll(' ', '_') };
  const first = await stoa.call('POST', '/v1/keys', { body, headers });
  const again = await stoa.call('POST', '/v1/keys', { body, headers });
  assert.deepEqual([first.status, again.status, again.text], [201, 201, first.text]);
  const other = await stoa.call('POST', '/v1/keys', { body: { name: 'other', role: 'viewer' }, headers });
  assertError(other, 'idempotency_conflict');
  const sent = await stoa.call('POST', '/v1/chat/completions', {
    body: chat,
    headers: { 'idempotency-key': 'a b' },
  });
  assert.equal(sent.status, 200);
});

test('If-Match is a version: what is none is 400, another one is 412', async () => {
  const { id } = resource.parse(
    (await stoa.call('POST', '/control/v1/tenants', { body: { name: 'match' } })).json,
  );
  const path = `/control/v1/tenants/${id}`;
  const change = async (ifMatch: string): Promise<AnyAnswer> =>
    stoa.call('PATCH', path, { body: { name: 'match' }, headers: { 'if-match': ifMatch } });
  for (const odd of ['abc', '"abc"', '-1', '1.5', '"', "' or 1=1", '9'.repeat(400), '1 2', 'W/', ',']) {
    assertError(await change(odd), 'invalid_request', 'If-Match', odd);
  }
  for (const old of ['"999"', '999', 'W/"77"', '5, 6', '"0"'])
    assertError(await change(old), 'version_conflict', undefined, old);
  assert.equal((await change('*')).status, 200);
});

test('x-stoa-timeout-ms is a whole number of milliseconds or refused', async () => {
  for (const odd of [
    '0',
    '-1',
    'abc',
    '1.5',
    '1e3',
    '600001',
    '9'.repeat(100),
    ' ',
    '0x10',
    'Infinity',
    '1,2',
  ]) {
    const answer = await stoa.call('POST', '/v1/chat/completions', {
      body: chat,
      headers: { 'x-stoa-timeout-ms': odd },
    });
    assertError(answer, 'invalid_request', 'x-stoa-timeout-ms', odd);
  }
  const good = await stoa.call('POST', '/v1/chat/completions', {
    body: chat,
    headers: { 'x-stoa-timeout-ms': '5000' },
  });
  assert.equal(good.status, 200);
});

test("a caller's own request id and trace are kept as harmless text and never become ours", async () => {
  const { baseUrl, demo } = stoa.credentials;
  const body = JSON.stringify(chat);
  for (const own of [
    'x'.repeat(10_000),
    'é\u0080ÿ',
    '"}{',
    'req_00000000000000000000000000',
    "'; drop table requests; --",
    '\t',
  ]) {
    const headers = {
      authorization: `Bearer ${demo.apiKey}`,
      'content-type': 'application/json',
      'content-length': String(body.length),
      'x-request-id': own,
      traceparent: own,
      tracestate: own,
    };
    const text = Buffer.from(head('POST /v1/chat/completions', headers) + body, 'latin1');
    if (text.length > 16_000) headers.traceparent = headers.tracestate = 'x';
    const sent = Buffer.from(head('POST /v1/chat/completions', headers) + body, 'latin1');
    const answer = onlyAnswer(await rawExchange(baseUrl, (socket) => socket.write(sent)));
    assert.equal(answer.status, 200, answer.text);
    const id = String(answer.headers['x-request-id']);
    assert.match(id, /^req_[0-7]/);
    assert.notEqual(id, own);
    const explained = z
      .looseObject({ client_request_id: z.string().nullable() })
      .parse((await stoa.call('GET', `/v1/requests/${id}`)).json);
    assert.match(explained.client_request_id ?? '', /^[\x20-\x7e]{0,128}$/);
  }
});
