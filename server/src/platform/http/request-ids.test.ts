import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { endpoint } from '@stoa/contracts';
import { request } from 'undici';
import { AppError, asTenantId, newUuid, silentLogger, type TenantPrincipal, toTypeId } from '#kernel';
import { createBodyBudget } from './body.ts';
import { type AccessLine, createHttpServer, type HttpServer } from './server.ts';
import type { RawRoute } from './types.ts';

const principal: TenantPrincipal = {
  kind: 'tenant',
  tenantId: asTenantId(newUuid()),
  keyId: '00abcdefghij',
  role: 'developer',
  scopes: null,
  projectId: null,
  tags: {},
  standing: { refusal: null },
};
const traced: RawRoute = {
  kind: 'raw',
  endpoint: endpoint({
    id: 'traced',
    listener: 'public',
    method: 'GET',
    path: '/v1/traced',
    summary: 'For the test.',
    access: { permission: 'chat:create' },
    responses: {},
    errors: [],
    idempotent: 'no',
    example: {},
  }),
  handle({ context, response }) {
    context.traceId = '0af7651916cd43dd8448eb211c80319c';
    response.writeHead(200).end(context.clientRequestId);
  },
};
const nothing = { add: () => undefined, observe: () => undefined };
const lines: AccessLine[] = [];
let server: HttpServer;
let url: string;

before(async () => {
  const denied = (): never => {
    throw new AppError('invalid_api_key', 'The API key is not valid.');
  };
  server = createHttpServer(
    {
      authenticator: {
        tenant: (header) => (header === 'Bearer good' ? principal : denied()),
        operator: denied,
      },
      idempotency: { once: async (_scope, fn) => fn(async (_tx, reply) => ({ kept: reply })) },
      budget: createBodyBudget(1024, 4096),
      gate: () => null,
      logger: silentLogger,
      accessLog: (line) => lines.push(line),
      metrics: { requests: nothing, seconds: nothing },
    },
    {
      routes: [traced],
      headersTimeoutMs: 1_000,
      requestTimeoutMs: 1_500,
      maximumHeaderBytes: 16 * 1024,
      keepAliveTimeoutMs: 5_000,
    },
  );
  url = `http://127.0.0.1:${(await server.listen({ host: '127.0.0.1', port: 0 })).port}/v1/traced`;
});
after(async () => {
  const drained = server.drain();
  server.destroy();
  await drained;
});

async function answerTo(headers: Record<string, string>) {
  const response = await request(url, { headers });
  const single = (name: string): string | null => {
    const value = response.headers[name];
    return typeof value === 'string' ? value : null;
  };
  const id = single('x-request-id') ?? '';
  return { id, clientId: single('x-client-request-id'), text: await response.body.text() };
}

test("x-request-id is ours, and the caller's own comes back as x-client-request-id, whatever the answer", async () => {
  const good = { authorization: 'Bearer good' };
  const own = await answerTo({ ...good, 'x-request-id': 'mine-1' });
  assert.match(own.id, /^req_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
  assert.deepEqual([own.clientId, own.text], ['mine-1', 'mine-1']);
  assert.equal((await answerTo({ ...good, 'x-client-request-id': 'mine-2' })).clientId, 'mine-2');
  assert.equal((await answerTo(good)).clientId, null);
  const refused = await answerTo({ 'x-request-id': 'm'.repeat(500) });
  assert.equal(refused.clientId, 'm'.repeat(128));
});

test('the log line of a request names the request, the tenant and the trace as the outside knows them', async () => {
  const { id } = await answerTo({ authorization: 'Bearer good' });
  const stranger = await answerTo({});
  assert.partialDeepStrictEqual(
    lines.find((line) => line.request_id === id),
    {
      tenant_id: toTypeId('ten', principal.tenantId),
      trace_id: '0af7651916cd43dd8448eb211c80319c',
      key_id: principal.keyId,
      status: 200,
    },
  );
  const refused = lines.find((line) => line.request_id === stranger.id);
  assert.deepEqual([refused?.tenant_id, refused?.trace_id, refused?.status], [null, undefined, 401]);
});
