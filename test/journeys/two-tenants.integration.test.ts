/**
 * Two tenants that call everything by the same names never see each other, through any operation that the OpenAPI document
 * of the running server lists; and what happens to one (suspension, a revoked key, deletion) leaves the other alone.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { codeOf, explain, headerOf, listRequests, readUsage } from './answer-shapes.ts';
import { type Answer, eventually, startStoa, type StoaProcess } from './stoa-process.ts';
import { dataOf, streamChat } from './streamed-answer.ts';

interface Tenant {
  readonly tenantId: string;
  readonly apiKey: string;
  readonly keyId: string;
  /** Ids of what it made, by the path that reads one. */
  readonly own: Readonly<Record<string, string>>;
  /** Every id that nobody else may ever read. */
  readonly ids: readonly string[];
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly listener: string;
  readonly isOpen: boolean;
  readonly body: unknown;
}

const script = `
models: [{ id: echo }, { id: vectors, kind: embedding }]
rules: [{ reply: "{{last_user_message}}", tokens: { input: 5, output: 3 } }]
`;

let upstream: MisbehavingUpstream;
let stoa: StoaProcess;
let operations: Operation[];
let first: Tenant;
let second: Tenant;

/** Ids in the right form that nobody has. */
const nobodys: Readonly<Record<string, string>> = {
  '/v1/keys/{id}': '00zzzzzzzzzz',
  '/v1/requests/{id}': 'req_01jz4x5t2sfkb8m6q0v9c3d7ea',
  '/v1/dead-letters/{id}': 'dlt_01jz4x5t2sfkb8m6q0v9c3d7ea',
  '/v1/events/{id}': 'evt_01jz4x5t2sfkb8m6q0v9c3d7ea',
  '/v1/members/{id}': 'mem_01jz4x5t2sfkb8m6q0v9c3d7ea',
  '/v1/issuers/{id}': 'isr_01jz4x5t2sfkb8m6q0v9c3d7ea',
  '/v1/webhooks/{id}': 'whe_01jz4x5t2sfkb8m6q0v9c3d7ea',
};
const nobodysDelivery = 'whd_01jz4x5t2sfkb8m6q0v9c3d7ea';

/** No module consumes events yet, so no tenant has any of these; real ones are proven beside their code. */
const notMadeYet: Readonly<Record<string, string>> = {
  '/v1/dead-letters/{id}': 'dlt_01jz4x5t2sfkb8m6q0v9c3d7eb',
  '/v1/events/{id}': 'evt_01jz4x5t2sfkb8m6q0v9c3d7eb',
};

before(async () => {
  upstream = await createMisbehavingUpstream({ listed: ['stall-midway'] });
  stoa = await startStoa({ script, env: { STOA_OPENAI_BASE_URL: upstream.url } });
  operations = await readOperations();
  first = await furnish(1);
  second = await furnish(2);
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

async function readOperations(): Promise<Operation[]> {
  const operation = z.looseObject({
    'x-stoa-listener': z.string(),
    security: z.array(z.unknown()),
    requestBody: z
      .object({ content: z.object({ 'application/json': z.object({ example: z.unknown() }) }) })
      .optional(),
  });
  const document = z
    .object({ paths: z.record(z.string(), z.record(z.string(), operation)) })
    .parse((await stoa.call('GET', '/openapi.json')).json);
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, told]) => ({
      method: method.toUpperCase(),
      path: path.replace('{id*}', '{id}'),
      listener: told['x-stoa-listener'],
      isOpen: told.security.length === 0,
      body: told.requestBody?.content['application/json'].example,
    })),
  );
}

const sameMember = { name: 'same member', external_id: 'same', role: 'developer' };
const sameIssuer = {
  name: 'same issuer',
  issuer: 'https://id.example.com',
  jwks_url: 'https://id.example.com/jwks.json',
  claims: { member: 'sub' },
};

const sameWebhook = { url: 'https://hooks.example.com/same', event_types: ['control.changed.v1'] };

async function idOf(made: Promise<Answer>): Promise<string> {
  const answer = await made;
  assert.equal(answer.status, 201, answer.text);
  return z.object({ id: z.string() }).parse(answer.json).id;
}

/** A tenant with a name, keys, a member, an issuer, a project, tags, an end user and requests that are called the same in every tenant. */
async function furnish(requests: number): Promise<Tenant> {
  const { tenantId, apiKey, keyId } = await stoa.newTenant('Same name');
  const call = (method: string, path: string, body: unknown, headers = {}): Promise<Answer> =>
    stoa.call(method, path, { key: apiKey, body, headers });
  const created = await call(
    'POST',
    '/v1/keys',
    { name: 'same key', role: 'admin', project_id: 'same project', tags: { same: 'tag' } },
    { 'idempotency-key': 'same-idempotency-key' },
  );
  assert.equal(created.status, 201, created.text);
  const made = z.object({ id: z.string(), key: z.string() }).parse(created.json);
  const ids = [tenantId, keyId, made.id];
  for (let index = 0; index < requests; index += 1) {
    const chat = await stoa.call('POST', '/v1/chat/completions', {
      key: made.key,
      body: {
        model: 'echo',
        user: 'same user',
        metadata: { same: 'tag' },
        messages: [{ role: 'user', content: 'x' }],
      },
      headers: { 'x-request-id': 'same request id' },
    });
    assert.equal(chat.status, 200, chat.text);
    ids.push(headerOf(chat, 'x-request-id'));
  }
  const own = {
    '/v1/keys/{id}': made.id,
    '/v1/requests/{id}': ids.at(-1) ?? '',
    '/v1/members/{id}': await idOf(call('POST', '/v1/members', sameMember)),
    '/v1/issuers/{id}': await idOf(
      call('POST', '/v1/issuers', { ...sameIssuer, audience: `stoa:${tenantId}` }),
    ),
    '/v1/webhooks/{id}': await idOf(call('POST', '/v1/webhooks', sameWebhook)),
  };
  ids.push(own['/v1/members/{id}'], own['/v1/issuers/{id}'], own['/v1/webhooks/{id}']);
  return { tenantId, apiKey, keyId, own, ids };
}

const tenants = (): [own: Tenant, other: Tenant][] => [
  [first, second],
  [second, first],
];

function inTenantHands(operation: Operation): boolean {
  return operation.listener === 'public' && !operation.isOpen;
}

test('the document lists the operations that the rest of this journey goes through', () => {
  const listed = operations.map(({ method, path }) => `${method} ${path}`);
  for (const known of ['GET /v1/requests/{id}', 'DELETE /v1/keys/{id}', 'GET /v1/usage', 'PUT /v1/policy']) {
    assert.ok(listed.includes(known), known);
  }
  assert.ok(operations.filter(inTenantHands).length >= 14, listed.join('\n'));
});

/** What stands below a resource is reached by the resource's own id. */
function idIn(ids: Readonly<Record<string, string>>, path: string): string | undefined {
  return ids[path] ?? ids[path.slice(0, path.indexOf('}') + 1)];
}

test("an id of another tenant's is answered like one that nobody has, by the very same bytes, for reading and for writing", async () => {
  const withId = operations.filter((operation) => inTenantHands(operation) && operation.path.includes('{'));
  assert.ok(withId.length >= 4);
  for (const { method, path, body } of withId) {
    if (path === '/v1/models/{id}') continue; // Models are the platform's; their test is the policy below.
    for (const [own, other] of tenants()) {
      const ask = (id: string | undefined): Promise<Answer> => {
        assert.ok(id, `${path}: say in this test which id a tenant has there`);
        return stoa.call(method, path.replace('{id}', id).replace('{delivery_id}', nobodysDelivery), {
          key: own.apiKey,
          ...(body ? { body } : {}),
        });
      };
      const strange = await ask(idIn(other.own, path) ?? notMadeYet[path]);
      const nobody = await ask(idIn(nobodys, path));
      assert.equal(codeOf(strange), 'not_found', `${method} ${path}`);
      assert.equal(strange.text, nobody.text, `${method} ${path}`);
      const names = (answer: Answer): string[] => Object.keys(answer.headers).sort();
      assert.deepEqual(names(strange), names(nobody), `${method} ${path}`);
    }
  }
  for (const [own] of tenants()) {
    for (const [path, id] of Object.entries(own.own)) {
      const answer = await stoa.call('GET', path.replace('{id}', id), { key: own.apiKey });
      assert.equal(answer.status, 200, `${path} is still there for its owner`);
    }
  }
});

test('no list, report or document that a tenant reads holds an id of another, whatever it filters by', async () => {
  const plain = operations.filter(
    (operation) => inTenantHands(operation) && operation.method === 'GET' && !operation.path.includes('{'),
  );
  assert.ok(plain.length >= 5);
  for (const { path } of plain) {
    for (const [own, other] of tenants()) {
      const queries = ['', '?limit=100'];
      for (const id of other.ids) {
        for (const name of ['after', 'key_id', 'project_id', 'end_user', 'model', 'target', 'tenant_id']) {
          queries.push(`?${name}=${id}`);
        }
      }
      for (const query of queries) {
        const { text } = await stoa.call('GET', `${path}${query}`, { key: own.apiKey });
        for (const id of other.ids) assert.ok(!text.includes(id), `${path}${query} holds ${id}`);
      }
    }
  }
});

test('lists and usage of the same names show each tenant its own rows and no others', async () => {
  for (const [own, other] of tenants()) {
    const requests = await listRequests(stoa, '&end_user=same%20user&project_id=same%20project', own.apiKey);
    assert.deepEqual(
      requests.map(({ id }) => id).sort(),
      own.ids.filter((id) => id.startsWith('req_')).sort(),
    );
    const usage = await readUsage(stoa, own.apiKey, '?group_by=end_user,project,key&end_user=same%20user');
    assert.equal(usage.totals.requests, requests.length);
    assert.deepEqual(
      usage.data.map(({ key_id: keyId }) => keyId),
      [own.own['/v1/keys/{id}']],
    );
    const foreign = await readUsage(stoa, own.apiKey, `?key_id=${other.own['/v1/keys/{id}'] ?? ''}`);
    assert.equal(foreign.totals.requests, 0);
  }
});

test('the same Idempotency-Key in two tenants replays to each its own first answer', async () => {
  const again = async (tenant: Tenant): Promise<Answer> =>
    stoa.call('POST', '/v1/keys', {
      key: tenant.apiKey,
      body: { name: 'same key', role: 'admin', project_id: 'same project', tags: { same: 'tag' } },
      headers: { 'idempotency-key': 'same-idempotency-key' },
    });
  for (const [own] of tenants()) {
    const replayed = z.object({ id: z.string() }).parse((await again(own)).json);
    assert.equal(replayed.id, own.own['/v1/keys/{id}'], 'the replay is of the own first answer');
  }
});

test('answers of two tenants that ask at the same time never cross', async () => {
  const ask = async (tenant: Tenant, word: string): Promise<void> => {
    const stream = await streamChat(stoa.credentials.baseUrl, tenant.apiKey, {
      model: 'echo',
      messages: [{ role: 'user', content: word }],
    });
    const content = dataOf(await stream.whole())
      .filter((data) => data !== '[DONE]')
      .map((data) => chunkShape.parse(JSON.parse(data)).choices[0]?.delta.content ?? '')
      .join('');
    assert.equal(content, word);
    const id = headerOf(stream, 'x-request-id');
    await explain(stoa, id, tenant.apiKey);
  };
  await Promise.all(
    Array.from({ length: 60 }, (_, index) =>
      ask(index % 2 === 0 ? first : second, `word ${index} of ${index % 2 === 0 ? 'first' : 'second'}`),
    ),
  );
});

const chunkShape = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
});

test('a request that has just ended is seen at once by its own tenant, and by the other never', async () => {
  const usedBefore = (await readUsage(stoa, second.apiKey)).totals.requests;
  for (let index = 0; index < 30; index += 1) {
    const id = headerOf(await chat(first), 'x-request-id');
    const [own, strange, list, usage] = await Promise.all([
      stoa.call('GET', `/v1/requests/${id}`, { key: first.apiKey }),
      stoa.call('GET', `/v1/requests/${id}`, { key: second.apiKey }),
      stoa.call('GET', '/v1/requests', { key: second.apiKey }),
      readUsage(stoa, second.apiKey),
    ]);
    assert.equal(own.status, 200);
    assert.deepEqual([strange.status, codeOf(strange)], [404, 'not_found']);
    assert.ok(!list.text.includes(id), id);
    assert.equal(usage.totals.requests, usedBefore);
  }
});

test("what one tenant allows itself changes nothing for the other's models", async () => {
  const put = await stoa.call('PUT', '/v1/policy', {
    key: first.apiKey,
    body: { order: ['echo'], allowed: ['echo'] },
  });
  assert.equal(put.status, 200, put.text);
  const ids = async (tenant: Tenant): Promise<string[]> => {
    const answer = await stoa.call('GET', '/v1/models', { key: tenant.apiKey });
    return z
      .object({ data: z.array(z.object({ id: z.string() })) })
      .parse(answer.json)
      .data.map(({ id }) => id);
  };
  assert.deepEqual((await ids(first)).sort(), ['auto', 'echo']);
  assert.ok((await ids(second)).includes('extractive'));
  const hidden = await stoa.call('GET', '/v1/models/extractive', { key: first.apiKey });
  const absent = await stoa.call('GET', '/v1/models/nothing-ab', { key: first.apiKey });
  assert.equal(hidden.text.replaceAll('extractive', '?'), absent.text.replaceAll('nothing-ab', '?'));
  assert.equal(hidden.status, 404);
  const embeddings = await stoa.call('POST', '/v1/embeddings', {
    key: first.apiKey,
    body: { model: 'vectors', input: 'x' },
  });
  assert.equal(codeOf(embeddings), 'model_not_found');
  const reset = await stoa.call('PUT', '/v1/policy', { key: first.apiKey, body: {} });
  assert.equal(reset.status, 200, reset.text);
});

test("a tenant's key opens no operation of the operator, and the operator's key none of a tenant", async () => {
  for (const operation of operations.filter(({ isOpen }) => !isOpen)) {
    const path = operation.path
      .replace('{id}', operation.path.startsWith('/control/v1/tenants') ? first.tenantId : 'x')
      .replace('{key_id}', first.keyId);
    const key = operation.listener === 'admin' ? first.apiKey : stoa.credentials.operatorKey;
    const answer = await stoa.call(operation.method, path, {
      key,
      ...(operation.body ? { body: operation.body } : {}),
    });
    assert.deepEqual(
      [answer.status, codeOf(answer)],
      [401, 'invalid_api_key'],
      `${operation.method} ${path}`,
    );
  }
});

test("the operator reaches a tenant's key only by way of its own tenant", async () => {
  for (const method of ['GET', 'PATCH', 'DELETE']) {
    const ask = (keyId: string): Promise<Answer> =>
      stoa.call(
        method,
        `/control/v1/tenants/${first.tenantId}/keys/${keyId}`,
        method === 'PATCH' ? { body: { name: 'taken over' } } : {},
      );
    const strange = await ask(second.keyId);
    assert.equal(codeOf(strange), 'not_found');
    assert.equal(strange.text, (await ask('00zzzzzzzzzz')).text);
  }
  assert.equal((await chat(second)).status, 200);
});

function chat(tenant: Tenant, key = tenant.apiKey): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', {
    key,
    body: { model: 'echo', messages: [{ role: 'user', content: 'x' }] },
  });
}

/** The codes with which running streams of these keys end, and how long after `act` the last of them did. */
async function endsOfStreams(
  keys: readonly string[],
  act: () => Promise<Answer>,
): Promise<[string[], number]> {
  const streams = await Promise.all(
    keys.map((key) => streamChat(stoa.credentials.baseUrl, key, { model: 'stall-midway' })),
  );
  await Promise.all(streams.map((stream) => stream.until('"content":"a"')));
  const acted = await act();
  assert.equal(acted.status, 200, acted.text);
  const startedMs = performance.now();
  const ends = await Promise.all(streams.map((stream) => stream.whole()));
  const codes = ends.map(
    (text) =>
      z.object({ error: z.object({ code: z.string() }) }).parse(JSON.parse(dataOf(text).at(-1) ?? '')).error
        .code,
  );
  return [codes, performance.now() - startedMs];
}

test('a suspended tenant is refused within a second, its running streams end in band, and the other goes on', async () => {
  const beside = await streamChat(stoa.credentials.baseUrl, second.apiKey, { model: 'stall-midway' });
  await beside.until('"content":"a"');
  const state = (to: string): Promise<Answer> =>
    stoa.call('PATCH', `/control/v1/tenants/${first.tenantId}`, { body: { state: to } });
  const [codes, tookMs] = await endsOfStreams([first.apiKey, first.apiKey], () => state('suspended'));
  assert.deepEqual(codes, ['tenant_suspended', 'tenant_suspended']);
  assert.ok(tookMs < 1_000, `${Math.round(tookMs)} ms`);
  const refused = await chat(first);
  assert.deepEqual([refused.status, codeOf(refused)], [403, 'tenant_suspended']);
  for (const { method, path, body } of operations.filter(inTenantHands)) {
    const answer = await stoa.call(method, path.replace('{id}', 'x'), {
      key: first.apiKey,
      ...(body ? { body } : {}),
    });
    assert.equal(codeOf(answer), 'tenant_suspended', `${method} ${path}`);
  }
  assert.equal((await chat(second)).status, 200);
  assert.equal(dataOf(beside.text()).length, 1, 'the stream of the other tenant goes on');
  beside.hangUp();

  const resumed = await state('active');
  assert.equal(resumed.status, 200);
  await eventually('resumed tenant', async () => (await chat(first)).status === 200, 1_000);
  const [interrupted] = await listRequests(stoa, '&model=stall-midway', first.apiKey);
  assert.deepEqual([interrupted?.outcome, interrupted?.error?.code], ['failed', 'tenant_suspended']);
});

test('a revoked key stops within a second, its running stream too, and the other keys of the tenant go on', async () => {
  const created = await stoa.call('POST', '/v1/keys', {
    key: first.apiKey,
    body: { name: 'short-lived', role: 'developer' },
  });
  const made = z.object({ id: z.string(), key: z.string() }).parse(created.json);
  const [codes, tookMs] = await endsOfStreams([made.key], () =>
    stoa.call('DELETE', `/v1/keys/${made.id}`, { key: first.apiKey }),
  );
  assert.deepEqual(codes, ['key_revoked']);
  assert.ok(tookMs < 1_000, `${Math.round(tookMs)} ms`);
  assert.equal(codeOf(await chat(first, made.key)), 'key_revoked');
  const guess = `${made.key.slice(0, 22)}${made.key.slice(22).split('').reverse().join('')}`;
  assert.equal(codeOf(await chat(first, guess)), 'invalid_api_key', 'only who holds the secret is told');
  assert.equal((await chat(first)).status, 200);
});

test('a deleted tenant is refused like one that never was, and is all there again once restored', async () => {
  const before = await listRequests(stoa, '', first.apiKey);
  const deleted = await stoa.call('DELETE', `/control/v1/tenants/${first.tenantId}`);
  assert.equal(deleted.status, 200, deleted.text);
  const gone = await eventually(
    'refusal',
    async () => {
      const answer = await chat(first);
      return answer.status === 200 ? null : answer;
    },
    1_000,
  );
  const never = await chat(first, `stoa_sk_${'0'.repeat(12)}_${'0'.repeat(36)}`);
  assert.equal(gone.text, never.text);
  assert.equal((await chat(second)).status, 200);
  const restored = await stoa.call('PATCH', `/control/v1/tenants/${first.tenantId}`, {
    body: { state: 'active' },
  });
  assert.equal(restored.status, 200, restored.text);
  await eventually('restored tenant', async () => (await chat(first)).status === 200, 1_000);
  const ids = (await listRequests(stoa, '', first.apiKey)).map(({ id }) => id);
  for (const { id } of before) assert.ok(ids.includes(id), `${id} was lost`);
});
