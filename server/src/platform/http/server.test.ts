import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { endpoint } from '@stoa/contracts';
import { z } from 'zod';
import { AppError, asTenantId, newUuid, silentLogger, type TenantPrincipal } from '#kernel';
import { createBodyBudget } from './body.ts';
import { openRoute, operatorRoute, tenantRoute } from './routes.ts';
import { createHttpServer, type HttpServer } from './server.ts';
import type { RawRoute, Route } from './types.ts';

const principal: TenantPrincipal = {
  kind: 'tenant',
  tenantId: asTenantId(newUuid()),
  keyId: '00abcdefghij',
  role: 'viewer',
  scopes: null,
  projectId: null,
  tags: {},
  standing: { refusal: null },
};
const budget = createBodyBudget(64 * 1024, 130 * 1024);
const others = new Map(
  ['Bearer neighbour', 'Bearer third'].map((header) => [
    header,
    { ...principal, tenantId: asTenantId(newUuid()) },
  ]),
);
const nothing = { add: () => undefined, observe: () => undefined };

const shared = { summary: 'For the test.', errors: [], idempotent: 'no', example: {} } as const;
const echoContract = endpoint({
  ...shared,
  id: 'echo',
  listener: 'public',
  method: 'POST',
  path: '/v1/echo/{name}',
  access: { permission: 'usage:read' },
  params: z.object({ name: z.string() }),
  body: z.object({ list: z.array(z.object({ role: z.string() })) }),
  responses: { 200: { description: 'What came in' } },
});
const adminContract = endpoint({
  ...shared,
  id: 'admin',
  listener: 'public',
  method: 'GET',
  path: '/v1/admin',
  access: { permission: 'keys:write' },
  responses: {},
});
const restContract = endpoint({
  ...shared,
  id: 'rest',
  listener: 'public',
  method: 'GET',
  path: '/v1/rest/{id*}',
  access: 'anyone',
  params: z.object({ id: z.string() }),
  responses: {},
});
const operatorContract = endpoint({
  ...shared,
  id: 'operator',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/x',
  access: { permission: 'control:read' },
  responses: {},
});
const rawContract = endpoint({
  ...shared,
  id: 'raw',
  listener: 'public',
  method: 'POST',
  path: '/v1/raw',
  access: { permission: 'usage:read' },
  responses: {},
});

const rawRoute: RawRoute = {
  kind: 'raw',
  endpoint: rawContract,
  handle({ body, response }) {
    response.end(`${body.length} bytes`);
  },
};
const routes: Route[] = [
  tenantRoute(echoContract, async ({ params, body }) => ({
    status: 200,
    body: { name: params.name, roles: body.list.map((one) => one.role) },
  })),
  tenantRoute(adminContract, async () => ({ status: 204 })),
  openRoute(restContract, async ({ params }) => ({ status: 200, body: params })),
  operatorRoute(operatorContract, async () => Promise.reject(new Error('secret_table is broken'))),
  rawRoute,
];

let server: HttpServer;
let port = 0;

before(async () => {
  server = createHttpServer(
    {
      authenticator: {
        tenant(header) {
          if (header === 'Bearer good') return principal;
          const other = others.get(header ?? '');
          if (other) return other;
          if (header === 'Bearer slow') return Promise.resolve(principal);
          throw new AppError('invalid_api_key', 'The API key is not valid.');
        },
        operator: () => ({ kind: 'operator', keyId: 'op', role: 'operator' }),
      },
      idempotency: { once: async (_scope, fn) => fn(async (_tx, reply) => ({ kept: reply })) },
      budget,
      gate: () => null,
      logger: silentLogger,
      accessLog: null,
      metrics: { requests: nothing, seconds: nothing },
    },
    {
      routes,
      headersTimeoutMs: 1_000,
      requestTimeoutMs: 1_500,
      maximumHeaderBytes: 16 * 1024,
      keepAliveTimeoutMs: 5_000,
    },
  );
  port = (await server.listen({ host: '127.0.0.1', port: 0 })).port;
});
after(async () => {
  const drained = server.drain();
  server.destroy();
  await drained;
});

interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: string;
}

const errorShape = z.object({
  status: z.number(),
  error: z.object({ code: z.string(), param: z.string().nullable() }),
});

function call(
  method: string,
  path: string,
  options: { body?: string | Buffer; headers?: Record<string, string> } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        headers: { authorization: 'Bearer good', ...options.headers },
      },
      (response) => {
        let body = '';
        response.on('data', (part: Buffer) => {
          body += part.toString();
        });
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        );
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

/** Writes raw text to the port and returns all that comes back until the connection ends. */
function speak(text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = net.connect(port, '127.0.0.1', () => socket.write(text));
    socket.on('data', (part) => {
      answer += part.toString();
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', reject);
  });
}

const json = { 'content-type': 'application/json' };
const codeOf = (answer: Answer): string => errorShape.parse(JSON.parse(answer.body)).error.code;

test('a good request is answered with an id of ours', async () => {
  const answer = await call('POST', '/v1/echo/a%2Fb', {
    body: '{"list":[{"role":"user"}]}',
    headers: { ...json, 'x-request-id': 'mine' },
  });
  assert.deepEqual([answer.status, JSON.parse(answer.body)], [200, { name: 'a/b', roles: ['user'] }]);
  assert.match(String(answer.headers['x-request-id']), /^req_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
  assert.equal(
    (await call('POST', '/v1/raw', { body: '12345', headers: { ...json, authorization: 'Bearer slow' } }))
      .body,
    '5 bytes',
  );
  assert.deepEqual(JSON.parse((await call('GET', '/v1/rest/meta/llama%20x')).body), { id: 'meta/llama x' });
});

test('a stranger is refused before the body is read, a key without the permission likewise', async () => {
  const stranger = await call('POST', '/v1/raw', {
    body: 'x'.repeat(200_000),
    headers: { ...json, authorization: 'Bearer bad' },
  });
  assert.deepEqual([stranger.status, codeOf(stranger)], [401, 'invalid_api_key']);
  const viewer = await call('GET', '/v1/admin');
  assert.deepEqual([viewer.status, codeOf(viewer)], [403, 'permission_denied']);
});

test('an unknown path is 404 whatever the credential, a known one with another method 405', async () => {
  const unknown = await call('GET', '/v1/nothing', { headers: { authorization: 'Bearer bad' } });
  assert.deepEqual([unknown.status, codeOf(unknown)], [404, 'not_found']);
  const method = await call('DELETE', '/v1/raw');
  assert.deepEqual(
    [method.status, codeOf(method), method.headers.allow],
    [405, 'method_not_allowed', 'POST'],
  );
  const url = await call('GET', '/v1/rest/%zz');
  assert.deepEqual([url.status, codeOf(url)], [400, 'bad_request']);
});

test('bodies that are no JSON object of the shape are told what is wrong', async () => {
  const cases: [string, number, string, string | null][] = [
    ['{"list":[{"role":1}]}', 400, 'invalid_request', 'list[0].role'],
    ['{', 400, 'invalid_json', null],
    ['', 400, 'invalid_json', null],
    ['[]', 400, 'invalid_request', null],
    ['['.repeat(1000), 400, 'json_too_deep', null],
  ];
  for (const [body, status, code, param] of cases) {
    const answer = await call('POST', '/v1/echo/x', { body, headers: json });
    const { error } = errorShape.parse(JSON.parse(answer.body));
    assert.deepEqual([answer.status, error.code, error.param], [status, code, param], body.slice(0, 40));
  }
  const form = await call('POST', '/v1/raw', {
    body: 'a=b',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
  });
  assert.deepEqual([form.status, codeOf(form)], [415, 'unsupported_media_type']);
});

test('a body over the limit is 413 whether its length is stated or not', async () => {
  const stated = await call('POST', '/v1/raw', { body: 'x'.repeat(64 * 1024 + 1), headers: json });
  assert.deepEqual([stated.status, codeOf(stated)], [413, 'body_too_large']);
  const chunked = await call('POST', '/v1/raw', {
    body: Buffer.alloc(70 * 1024),
    headers: { ...json, 'transfer-encoding': 'chunked' },
  });
  assert.deepEqual([chunked.status, codeOf(chunked)], [413, 'body_too_large']);
  assert.equal(budget.inFlightBytes, 0);
});

/** A request whose stated body never comes; resolves once its bytes are taken. */
async function hold(credential: string): Promise<net.Socket> {
  const before = budget.inFlightBytes;
  const socket = net.connect(port, '127.0.0.1');
  socket.write(
    `POST /v1/raw HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${credential}\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n`,
  );
  while (budget.inFlightBytes === before) await new Promise((resume) => setImmediate(resume));
  return socket;
}

async function sendAs(credential: string): Promise<Answer> {
  const headers = { ...json, authorization: `Bearer ${credential}` };
  return call('POST', '/v1/raw', { body: 'x'.repeat(60_000), headers });
}

test('bodies in flight have a bound together and one for each tenant, and give it back', async () => {
  const first = await hold('good');
  const second = await sendAs('good');
  assert.deepEqual([second.status, codeOf(second), second.headers['retry-after']], [503, 'overloaded', '1']);
  assert.equal(
    (await sendAs('neighbour')).status,
    200,
    'a tenant that holds all it may leaves room for others',
  );
  const other = await hold('neighbour');
  const third = await sendAs('third');
  assert.deepEqual([third.status, codeOf(third)], [503, 'overloaded']);
  first.destroy();
  other.destroy();
  while (budget.inFlightBytes !== 0) await new Promise((resume) => setImmediate(resume));
  assert.equal(budget.heldBytes.size, 0);
  assert.equal((await sendAs('third')).status, 200);
});

test('a fault of ours is a 500 that shows nothing of its cause', async () => {
  const answer = await call('GET', '/control/v1/x');
  assert.deepEqual([answer.status, codeOf(answer)], [500, 'internal_error']);
  assert.doesNotMatch(answer.body, /secret_table/);
});

test('header floods, slow bodies and garbage get the same error body', async () => {
  const flood = await speak(`GET /v1/rest/x HTTP/1.1\r\nhost: x\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`);
  assert.match(flood, /^HTTP\/1\.1 431 [^]*header_too_large/);
  assert.match(await speak('nonsense\r\n\r\n'), /^HTTP\/1\.1 400 [^]*bad_request/);
  const slow = await speak(
    'POST /v1/raw HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n12',
  );
  assert.match(slow, /^HTTP\/1\.1 408 [^]*request_timeout/);
  assert.equal(budget.inFlightBytes, 0);
});
