import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { endpoint } from '@stoa/contracts';
import { request } from 'undici';
import { AppError, asTenantId, silentLogger, type TenantPrincipal } from '#kernel';
import { createBodyBudget } from '../body.ts';
import { tenantRoute } from '../routes.ts';
import { createHttpServer, type Denied, type HttpServer } from '../server.ts';
import type { RawRoute } from '../types.ts';

const principal: TenantPrincipal = {
  kind: 'tenant',
  tenantId: asTenantId('00000000-0000-4000-8000-000000000001'),
  keyId: 'key',
  role: 'developer',
  scopes: null,
  projectId: null,
  tags: {},
  standing: { refusal: null },
};

const declared = {
  listener: 'public',
  method: 'GET',
  summary: 'x',
  responses: { 200: { description: 'x' } },
  errors: [],
  idempotent: 'yes',
  example: {},
} as const;

let taken = 0;
let ended = Promise.withResolvers<void>();
let isFailing = false;

/** Parts without an end, or one and a fault. */
async function* content(): AsyncGenerator<string> {
  try {
    for (;;) {
      taken += 1;
      yield `${'x'.repeat(64 * 1024)}\n`;
      if (isFailing) throw new Error('planted');
    }
  } finally {
    ended.resolve();
  }
}

const parts = tenantRoute(
  endpoint({ ...declared, id: 'parts', path: '/v1/parts', access: { permission: 'models:read' } }),
  async () => ({ status: 200, parts: { contentType: 'application/x-ndjson', content: content() } }),
);
const adminsOnly = tenantRoute(
  endpoint({ ...declared, id: 'admins', path: '/v1/admins', access: { permission: 'keys:read' } }),
  async () => ({ status: 200 }),
);
const refusing: RawRoute = {
  kind: 'raw',
  endpoint: endpoint({
    ...declared,
    id: 'refusing',
    method: 'POST',
    path: '/v1/refusing',
    access: { permission: 'chat:create' },
  }),
  handle: ({ fail }) => fail(new AppError('permission_denied', 'Not this one.')),
};

let server: HttpServer;
let url = '';
let denied: Denied[] = [];

before(async () => {
  const nothing = { add: () => undefined, observe: () => undefined };
  server = createHttpServer(
    {
      authenticator: {
        tenant(header) {
          if (header === 'Bearer good') return principal;
          throw new AppError('invalid_api_key', 'The API key is not valid.');
        },
        operator: () => ({ kind: 'operator', keyId: 'op', role: 'operator' }),
      },
      idempotency: { once: async (_scope, fn) => fn(async (_tx, reply) => ({ kept: reply })) },
      onDenied: (one) => denied.push(one),
      budget: createBodyBudget(1024, 4096),
      gate: () => null,
      logger: silentLogger,
      accessLog: null,
      metrics: { requests: nothing, seconds: nothing },
    },
    {
      routes: [parts, adminsOnly, refusing],
      headersTimeoutMs: 1_000,
      requestTimeoutMs: 1_500,
      maximumHeaderBytes: 16 * 1024,
      keepAliveTimeoutMs: 5_000,
    },
  );
  url = `http://127.0.0.1:${(await server.listen({ host: '127.0.0.1', port: 0 })).port}`;
});

after(async () => {
  const drained = server.drain();
  server.destroy();
  await drained;
});

beforeEach(() => {
  taken = 0;
  ended = Promise.withResolvers();
  isFailing = false;
  denied = [];
});

const authorization = 'Bearer good';

test('parts are taken as the reader has room, and no more of them once it has gone', async () => {
  const answer = await request(`${url}/v1/parts`, { headers: { authorization } });
  assert.deepEqual([answer.statusCode, answer.headers['content-type']], [200, 'application/x-ndjson']);
  for await (const part of answer.body) if (part instanceof Buffer) break;
  await ended.promise;
  assert.ok(taken < 400, `${taken} parts of 64 KiB were taken for a reader of one`);
});

test('parts that fail cut the answer: it never ends as if it were whole', async () => {
  isFailing = true;
  const answer = await request(`${url}/v1/parts`, { headers: { authorization } });
  assert.equal(answer.statusCode, 200);
  await assert.rejects(answer.body.text());
});

test('a HEAD takes no part', async () => {
  const answer = await request(`${url}/v1/parts`, { method: 'HEAD', headers: { authorization } });
  await answer.body.dump();
  assert.deepEqual([answer.statusCode, taken], [200, 0]);
});

test('what is denied to somebody known is told with the permission; strangers are not', async () => {
  for (const [method, path] of [
    ['GET', '/v1/admins'],
    ['POST', '/v1/refusing'],
  ] as const) {
    for (const header of [authorization, 'Bearer other']) {
      const answer = await request(`${url}${path}`, { method, headers: { authorization: header } });
      await answer.body.dump();
      assert.equal(answer.statusCode, header === authorization ? 403 : 401);
    }
  }
  assert.deepEqual(
    denied.map(({ principal: { keyId }, endpointId, permission }) => [keyId, endpointId, permission]),
    [
      ['key', 'admins', 'keys:read'],
      ['key', 'refusing', 'chat:create'],
    ],
  );
});
