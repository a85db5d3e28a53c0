import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, beforeEach, describe, test } from 'node:test';
import { errorBody, readTenant, type TenantObject } from '@stoa/contracts';
import {
  createOperatorClient,
  createTenantClient,
  type OperatorClient,
  type ResultOf,
  StoaError,
  type TenantClient,
} from './index.ts';

/** One HTTP call as the server saw it. */
interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

const tenantId = 'ten_01h455vb4pex5vsknk084sn02q';
const key = 'stoa_sk_secretsecret';
const acme: TenantObject = {
  id: tenantId,
  object: 'tenant',
  name: 'Acme',
  state: 'active',
  version: 1,
  created_at: '2026-01-31T09:00:00.000Z',
  updated_at: '2026-01-31T09:00:00.000Z',
  suspended_at: null,
  deleted_at: null,
  purge_after: null,
};

let seen: Seen[] = [];
let answer: (response: ServerResponse, call: Seen) => void = () => undefined;
let base = '';
let tenant: TenantClient;
let operator: OperatorClient;

const server = createServer((request, response) => {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (part: string) => {
    body += part;
  });
  request.on('end', () => {
    const call = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, body };
    seen.push(call);
    answer(response, call);
  });
});

function json(status: number, body: unknown, headers: Record<string, string> = {}) {
  return (response: ServerResponse): void => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  };
}

function events(...frames: readonly string[]) {
  return (response: ServerResponse): void => {
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'x-request-id': 'req_1',
      'x-stoa-target': 'fast',
    });
    response.end(frames.join(''));
  };
}

function delta(content: string, index = 0): string {
  return `data: ${JSON.stringify({ id: 'c', choices: [{ index, delta: { content } }] })}\n\n`;
}

async function failureOf(promise: Promise<unknown>): Promise<StoaError> {
  const error = await promise.then(
    () => assert.fail('it did not fail'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof StoaError, String(error));
  return error;
}

async function all<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const found: Item[] = [];
  for await (const item of items) found.push(item);
  return found;
}

before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address: AddressInfo | string | null = server.address();
  assert.ok(typeof address === 'object' && address !== null);
  base = `http://127.0.0.1:${address.port}`;
  tenant = createTenantClient({ baseUrl: base, apiKey: key });
  operator = createOperatorClient({ adminUrl: base, operatorKey: 'stoa_op_secretsecret' });
});
// Pure tests share a process, and a hook beside them is everybody's: this one must do nothing that can fail.
beforeEach(() => {
  seen = [];
});
after(() => {
  server.closeAllConnections();
  server.close();
});

describe('calls', () => {
  test('carry the key, the path with its parameters, the query and the body of the endpoint', async () => {
    answer = json(200, { object: 'list', data: [], has_more: false, first_id: null, last_id: null });
    await operator.keys.list(tenantId, { limit: 5, after: 'a b' }).page();
    answer = json(201, acme);
    await operator.tenants.create({ name: 'Acme' }, { idempotencyKey: 'once' });
    answer = json(200, acme);
    await operator.tenants.change(tenantId, { name: 'New' }, { ifVersion: 3 });
    assert.deepEqual(
      seen.map(({ method, url, body }) => [method, url, body]),
      [
        ['GET', `/control/v1/tenants/${tenantId}/keys?limit=5&after=a+b`, ''],
        ['POST', '/control/v1/tenants', '{"name":"Acme"}'],
        ['PATCH', `/control/v1/tenants/${tenantId}`, '{"name":"New"}'],
      ],
    );
    assert.equal(seen[0]?.headers.authorization, 'Bearer stoa_op_secretsecret');
    assert.equal(seen[1]?.headers['idempotency-key'], 'once');
    assert.equal(seen[1]?.headers['content-type'], 'application/json');
    assert.equal(seen[2]?.headers['if-match'], '"3"');
  });

  test('answer with the type that the endpoint declares', async () => {
    type Same<Left, Right> = [Left, Right] extends [Right, Left] ? true : false;
    const isTyped: Same<ResultOf<typeof readTenant>, TenantObject> = true;
    assert.ok(isTyped);
    answer = json(200, { ...acme, later_member: 1 });
    const named: TenantObject = await operator.tenants.read(tenantId);
    const generic: TenantObject = await operator.call(readTenant, { params: { id: tenantId } });
    assert.deepEqual(named, acme);
    assert.deepEqual(generic, acme);
  });

  test('never leave their endpoint, whatever the parameter holds', async () => {
    answer = json(404, errorBody('not_found', 'No.'));
    await failureOf(tenant.keys.revoke('../models?x=1#y'));
    assert.equal(seen[0]?.url, '/v1/keys/..%2Fmodels%3Fx%3D1%23y');
    for (const id of ['', '.', '..']) {
      assert.equal((await failureOf(tenant.keys.revoke(id))).code, 'invalid_argument');
    }
    assert.equal(seen.length, 1);
  });

  test('reach the same paths where the base URL ends in /v1, as the OpenAI SDK wants it', async () => {
    answer = json(200, { object: 'list', data: [] });
    await createTenantClient({ baseUrl: `${base}/v1/`, apiKey: key }).models.list();
    await createTenantClient({ baseUrl: `${base}/stoa/`, apiKey: key }).models.list();
    assert.deepEqual(
      seen.map(({ url }) => url),
      ['/v1/models', '/stoa/v1/models'],
    );
    for (const baseUrl of ['127.0.0.1:8080', 'ftp://x', 'http://user:pass@x', 'http://x?y=1', '']) {
      assert.throws(() => createTenantClient({ baseUrl, apiKey: key }), { code: 'invalid_argument' });
    }
  });

  test('use the fetch that is handed in', async () => {
    const own = createTenantClient({
      baseUrl: 'http://nowhere.example',
      apiKey: key,
      fetch: () => Promise.resolve(Response.json({ object: 'list', data: [] })),
    });
    assert.deepEqual(await own.models.list(), { object: 'list', data: [] });
  });

  test('without an answer body resolve with nothing', async () => {
    answer = (response) => response.writeHead(204).end();
    assert.equal(await operator.providers.remove('prov_01h455vb4pex5vsknk084sn02q'), undefined);
  });
});

describe('errors', () => {
  test('hold status, code, parameter, request id and how long to wait, and never the key', async () => {
    answer = json(429, errorBody('rate_limit_exceeded', 'Slow down.', 'messages[0]'), {
      'x-request-id': 'req_9',
      'retry-after': '7',
    });
    const error = await failureOf(tenant.models.list());
    assert.deepEqual(
      [error.status, error.code, error.message, error.param, error.requestId, error.retryAfterSeconds],
      [429, 'rate_limit_exceeded', 'Slow down.', 'messages[0]', 'req_9', 7],
    );
    assert.ok(!JSON.stringify([error, error.message, error.stack]).includes(key));
  });

  test('of a proxy on the way keep their status, and none of its page', async () => {
    answer = (response) => response.writeHead(502).end('<html>stack trace</html>');
    const error = await failureOf(tenant.models.list());
    assert.deepEqual([error.status, error.code], [502, 'unexpected_answer']);
    assert.ok(!error.message.includes('stack trace'));
  });

  test('tell an answer of another shape from a success', async () => {
    answer = json(200, { ...acme, state: 'asleep' });
    assert.equal((await failureOf(operator.tenants.read(tenantId))).code, 'unexpected_answer');
    answer = (response) => response.writeHead(200).end('not JSON');
    assert.equal((await failureOf(operator.tenants.read(tenantId))).code, 'unexpected_answer');
  });

  test('tell a server that is not there, one that is late, and the own abort apart', async () => {
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const address = closed.address();
    assert.ok(typeof address === 'object' && address !== null);
    await new Promise((resolve) => closed.close(resolve));
    const away = createTenantClient({ baseUrl: `http://127.0.0.1:${address.port}`, apiKey: key });
    const unreachable = await failureOf(away.models.list());
    assert.equal(unreachable.code, 'connection_failed');
    assert.equal(unreachable.status, null);
    assert.match(unreachable.message, /ECONNREFUSED/);

    answer = () => undefined;
    assert.equal((await failureOf(tenant.models.list({ timeoutMs: 20 }))).code, 'client_timeout');
    const controller = new AbortController();
    const running = tenant.models.list({ signal: controller.signal });
    controller.abort(new Error('mine'));
    await assert.rejects(running, /^Error: mine$/);
  });
});

describe('lists', () => {
  test('give every item of every page once, and fetch a page only when it is reached', async () => {
    const ids = Array.from({ length: 5 }, (_, index) => `${tenantId.slice(0, -1)}${index}`);
    answer = (response, { url }) => {
      const query = new URL(url, base).searchParams;
      const start = query.has('after') ? ids.indexOf(query.get('after') ?? '') + 1 : 0;
      const data = ids.slice(start, start + 2).map((id) => ({ ...acme, id }));
      const hasMore = start + 2 < ids.length;
      const lastId = data.at(-1)?.id ?? null;
      json(200, { object: 'list', data, has_more: hasMore, first_id: data[0]?.id ?? null, last_id: lastId })(
        response,
      );
    };
    assert.deepEqual(
      (await all(operator.tenants.list({ state: 'active' }))).map(({ id }) => id),
      ids,
    );
    assert.equal(seen.length, 3);
    assert.ok(seen.every(({ url }) => url.includes('state=active')));
    assert.equal((await all(operator.tenants.list({ after: ids[1] }))).length, 3);
    seen = [];
    for await (const one of operator.tenants.list()) {
      assert.equal(one.id, ids[0]);
      break;
    }
    assert.equal(seen.length, 1);
  });

  test('end where a server names the same page again', async () => {
    answer = json(200, {
      object: 'list',
      data: [acme],
      has_more: true,
      first_id: tenantId,
      last_id: tenantId,
    });
    assert.equal((await all(operator.tenants.list())).length, 2);
  });
});

describe('streams', () => {
  const body = { model: 'auto', messages: [{ role: 'user', content: 'Hi' }] };
  const done = 'data: [DONE]\n\n';

  test('give the text of the first choice, across any cut of the bytes', async () => {
    const bytes = Buffer.from(
      `: wait\n\n${delta('Grüße, ')}${delta('no', 1)}data:{"choices":[]}\r\n\r\n${delta('🌍')}${done}`,
    );
    for (const size of [1, 3, 7, 1_000]) {
      const pieces = new ReadableStream<Uint8Array>({
        start(controller) {
          for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.subarray(at, at + size));
          controller.close();
        },
      });
      const client = createTenantClient({
        baseUrl: base,
        apiKey: key,
        fetch: () => Promise.resolve(new Response(pieces)),
      });
      const stream = await client.chat.stream(body);
      assert.equal((await all(stream.text())).join(''), 'Grüße, 🌍', `in pieces of ${size}`);
    }
  });

  test('give whole frames too, with the request id and the target', async () => {
    answer = events(
      delta('a'),
      `data: {"choices":[],"usage":{"prompt_tokens":1,"total_tokens":1}}\n\n`,
      done,
    );
    const stream = await tenant.chat.stream(body);
    assert.deepEqual([stream.requestId, stream.target], ['req_1', 'fast']);
    const chunks = await all(stream);
    assert.equal(chunks.length, 2);
    assert.equal(chunks[1]?.usage?.total_tokens, 1);
    assert.deepEqual(JSON.parse(seen[0]?.body ?? ''), { ...body, stream: true });
    assert.equal((await failureOf(all(stream))).code, 'stream_interrupted');
  });

  test('throw an error that comes inside them as the error that it is', async () => {
    const fault = errorBody('tenant_suspended', 'The tenant is suspended.');
    answer = events(delta('a'), `data: ${JSON.stringify({ error: fault.error })}\n\n`);
    const texts: string[] = [];
    const stream = await tenant.chat.stream(body);
    const error = await failureOf(
      (async () => {
        for await (const text of stream.text()) texts.push(text);
      })(),
    );
    assert.deepEqual(texts, ['a']);
    assert.deepEqual([error.code, error.status, error.requestId], ['tenant_suspended', 403, 'req_1']);
  });

  test('never end in silence: an end before [DONE] and an unreadable frame are errors', async () => {
    for (const frames of [[delta('a')], [delta('a'), 'data: {"choices"\n\n', done]]) {
      answer = events(...frames);
      const stream = await tenant.chat.stream(body);
      assert.equal((await failureOf(all(stream.text()))).code, 'stream_interrupted');
    }
  });

  test('that are left early, or aborted, close the connection', { timeout: 5_000 }, async () => {
    for (const leave of ['break', 'abort'] as const) {
      const controller = new AbortController();
      const closed = new Promise<void>((resolve) => {
        answer = (response) => {
          response.on('close', resolve);
          response.writeHead(200, { 'content-type': 'text/event-stream' }).write(delta('a'));
        };
      });
      const stream = await tenant.chat.stream(body, { signal: controller.signal });
      const reading = (async () => {
        for await (const text of stream.text()) {
          assert.equal(text, 'a');
          if (leave === 'break') break;
          controller.abort();
        }
      })();
      if (leave === 'break') await reading;
      else await assert.rejects(reading, { name: 'AbortError' });
      await closed;
    }
  });

  test('that are refused before they begin throw at once', async () => {
    answer = json(404, errorBody('model_not_found', 'No such model.', 'model'));
    assert.equal((await failureOf(tenant.chat.stream(body))).code, 'model_not_found');
  });
});
