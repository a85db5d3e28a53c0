import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import {
  type ControlModel,
  controlModel,
  createdApiKey,
  errorTable,
  listedModel,
  listOf,
  operatorPolicy,
  type Provider,
  provider,
  tenant,
  tenantPolicy,
} from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { asTenantId, createSealer, fromTypeId, type TenantId } from '#kernel';
import type { Target } from '#models';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';
import {
  eventually,
  type ListingServer,
  openListingServer,
  openRegistry,
  type TestRegistry,
} from './testing.ts';

const secret = 'sk-very-secret-credential-1234';
const sealer = createSealer(randomBytes(32));
let database: TestDatabase;
let upstream: ListingServer;
let registry: TestRegistry;
let plane: ControlPlane;

const priceOf = (target: Target) =>
  target.priceKey.model === 'priced-model' ? { input: '0.000001', output: '0.000002' } : null;

before(async () => {
  database = await openTestDatabase();
  upstream = await openListingServer(['first', 'second/with slash', 'text-embedding-x']);
  registry = openRegistry(database.db, {
    sealer,
    priceOf,
    openai: { baseUrl: upstream.baseUrl, apiKey: null },
  });
  await registry.lifecycle.start();
  plane = await openControlPlane(database.db, { routes: () => registry.routes });
});

after(async () => {
  await plane.close();
  await registry.close();
  await upstream.close();
  await database.close();
});

const providersPath = '/control/v1/providers';
const modelsPath = '/control/v1/models';
const unknownProvider = 'prov_01h455vb4pex5vsknk084sn02q';
const unknownModel = 'mod_01h455vb4pex5vsknk084sn02q';

let made = 0;
async function addProvider(values: Record<string, unknown> = {}): Promise<Provider> {
  made++;
  const body = {
    name: `p${made}`,
    kind: 'openai-compatible',
    base_url: 'http://127.0.0.1:9/v1',
    discover: false,
    ...values,
  };
  const answer = await plane.admin('POST', providersPath, { body });
  assert.equal(answer.status, 201, answer.text);
  return provider.strict().parse(answer.body);
}

async function addModel(values: Record<string, unknown>): Promise<ControlModel> {
  const answer = await plane.admin('POST', modelsPath, { body: values });
  assert.equal(answer.status, 201, answer.text);
  return controlModel.strict().parse(answer.body);
}

async function newTenantKey(role = 'admin'): Promise<{ readonly id: TenantId; readonly key: string }> {
  const made = tenant.parse((await plane.admin('POST', '/control/v1/tenants', { body: { name: 'T' } })).body);
  const path = `/control/v1/tenants/${made.id}/keys`;
  const { key } = createdApiKey.parse((await plane.admin('POST', path, { body: { name: 'k', role } })).body);
  return { id: asTenantId(fromTypeId('ten', made.id) ?? ''), key };
}

function refusal(answer: Answer): { code: string; param: string | null } {
  const { code, param, status } = errorIn(answer);
  const row = Object.entries(errorTable).find(([name]) => name === code)?.[1];
  assert.equal(status, row?.status);
  return { code, param };
}

test('a provider is made, read, listed, changed and deleted, and each change counts its version', async () => {
  const answer = await plane.admin('POST', providersPath, {
    body: {
      name: 'life',
      kind: 'openai-compatible',
      base_url: 'https://example.test/v1/',
      credential: secret,
      headers: { 'X-Extra': 'abc' },
    },
  });
  const created = provider.strict().parse(answer.body);
  assert.equal(answer.status, 201);
  assert.equal(answer.headers['location'], `${providersPath}/${created.id}`);
  assert.partialDeepStrictEqual(created, {
    base_url: 'https://example.test/v1',
    header_names: ['X-Extra'],
    has_credential: true,
    credential_last_four: '1234',
    max_concurrency: 1000,
    discover: true,
    enabled: true,
    source: 'api',
    version: 1,
  });
  const path = `${providersPath}/${created.id}`;
  const read = await plane.admin('GET', path);
  assert.equal(read.headers['etag'], '"1"');
  assert.equal(provider.strict().parse(read.body).name, 'life');
  const changed = await plane.admin('PATCH', path, {
    body: { name: 'lives', max_concurrency: 3, enabled: false },
    headers: { 'if-match': '"1"' },
  });
  assert.equal(changed.status, 200);
  assert.partialDeepStrictEqual(provider.strict().parse(changed.body), {
    name: 'lives',
    max_concurrency: 3,
    enabled: false,
    version: 2,
  });
  assert.equal(
    refusal(await plane.admin('PATCH', path, { body: { enabled: true }, headers: { 'if-match': '1' } })).code,
    'version_conflict',
  );
  assert.equal(
    refusal(await plane.admin('DELETE', path, { headers: { 'if-match': '1' } })).code,
    'version_conflict',
  );
  assert.equal((await plane.admin('DELETE', path, { headers: { 'if-match': '2' } })).status, 204);
  assert.equal(refusal(await plane.admin('GET', path)).code, 'not_found');
});

test('a credential is in no answer and in no row, and reaches the provider', async (t) => {
  const mine = await openListingServer(['credential-model']);
  t.after(() => mine.close());
  const created = await addProvider({
    base_url: mine.baseUrl,
    credential: secret,
    headers: { 'x-api-key': 'another-secret-value' },
    discover: true,
  });
  await eventually('the listing', () => mine.credentials.includes(`Bearer ${secret}`));
  const answers = [
    await plane.admin('GET', `${providersPath}/${created.id}`),
    await plane.admin('GET', providersPath, {}),
    await plane.admin('PATCH', `${providersPath}/${created.id}`, { body: { max_concurrency: 5 } }),
  ];
  const rows = await database.db.withSystem('registry', (tx) =>
    sql`select * from platform.providers`.execute(tx),
  );
  const everything = JSON.stringify(
    [answers.map((answer) => [answer.text, answer.headers]), rows.rows],
    (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
  );
  for (const text of [secret, 'another-secret-value', Buffer.from(secret).toString('base64url').slice(0, 20)])
    assert.ok(!everything.includes(text));
  assert.ok(everything.includes('v1.'));
  await plane.admin('DELETE', `${providersPath}/${created.id}`);
});

test('a secret is not sent to another host unless it is given again', async () => {
  const created = await addProvider({ credential: secret, headers: { 'x-api-key': 'v' } });
  const path = `${providersPath}/${created.id}`;
  const move = (body: object) =>
    plane.admin('PATCH', path, { body: { base_url: 'http://127.0.0.2:9/v1', ...body } });
  assert.deepEqual(refusal(await move({})), { code: 'invalid_request', param: 'credential' });
  assert.deepEqual(refusal(await move({ credential: null })), { code: 'invalid_request', param: 'headers' });
  assert.equal(
    (await plane.admin('PATCH', path, { body: { base_url: 'http://127.0.0.1:9/v2' } })).status,
    200,
  );
  const moved = await move({ credential: null, headers: {} });
  assert.partialDeepStrictEqual(provider.parse(moved.body), {
    has_credential: false,
    credential_last_four: null,
    header_names: [],
  });
  await plane.admin('DELETE', path);
});

test('nothing of a short credential is shown', async () => {
  const created = await addProvider({ credential: 'short-one' });
  assert.deepEqual([created.has_credential, created.credential_last_four], [true, null]);
  await plane.admin('DELETE', `${providersPath}/${created.id}`);
});

test('a provider that does not fit is refused with the field at fault', async () => {
  const valid = { name: 'fits', kind: 'openai-compatible', base_url: 'http://h/v1' };
  const cases: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ name: 'Upper' }, 'name'],
    [{ kind: 'extractive' }, 'kind'],
    [{ base_url: 'ftp://h' }, 'base_url'],
    [{ base_url: 'http://u:p@h/v1' }, 'base_url'],
    [{ base_url: undefined }, 'base_url'],
    [{ credential: 'a\r\nb' }, 'credential'],
    [{ credential: '' }, 'credential'],
    [{ headers: { Host: 'x' } }, 'headers'],
    [{ headers: { 'a b': 'x' } }, 'headers.a b'],
    [{ max_concurrency: 0 }, 'max_concurrency'],
  ];
  for (const [change, param] of cases) {
    const answer = await plane.admin('POST', providersPath, { body: { ...valid, ...change } });
    assert.deepEqual(refusal(answer), { code: 'invalid_request', param }, JSON.stringify(change));
  }
  assert.equal(
    refusal(await plane.admin('POST', providersPath, { body: { ...valid, extra: 1 } })).code,
    'invalid_request',
  );
  assert.equal(
    refusal(await plane.admin('PATCH', `${providersPath}/${unknownProvider}`, { body: {} })).code,
    'invalid_request',
  );
  for (const id of ['x', 'mod_01h455vb4pex5vsknk084sn02q']) {
    assert.equal(refusal(await plane.admin('GET', `${providersPath}/${id}`)).code, 'invalid_request');
  }
});

test('a name is given once, over the API, the file and what Stoa itself uses', async () => {
  const one = await addProvider({ name: 'taken' });
  const two = await addProvider();
  for (const name of ['taken', 'default', 'extractive', 'scripted']) {
    const body = { name, kind: 'openai-compatible', base_url: 'http://h/v1' };
    assert.deepEqual(refusal(await plane.admin('POST', providersPath, { body })), {
      code: 'already_exists',
      param: 'name',
    });
    assert.equal(
      refusal(await plane.admin('PATCH', `${providersPath}/${two.id}`, { body: { name } })).code,
      'already_exists',
    );
  }
  for (const { id } of [one, two]) await plane.admin('DELETE', `${providersPath}/${id}`);
});

test('what is unknown is not found, whatever is done to it', async () => {
  for (const [path, body] of [
    [`${providersPath}/${unknownProvider}`, { enabled: true }],
    [`${modelsPath}/${unknownModel}`, { enabled: true }],
  ] as const) {
    for (const method of ['GET', 'PATCH', 'DELETE'] as const) {
      const answer = await plane.admin(method, path, method === 'PATCH' ? { body } : {});
      assert.equal(refusal(answer).code, 'not_found');
    }
  }
});

test('a model is a target at once, under its name, until it is disabled or deleted', async () => {
  const of = await addProvider();
  const created = await addModel({
    target: 'fast/one',
    provider_id: of.id,
    model: 'priced-model',
    context_tokens: 1000,
    deadlines: { whole_ms: 5 },
  });
  assert.partialDeepStrictEqual(created, {
    target: 'fast/one',
    provider: of.name,
    model: 'priced-model',
    active: true,
    priced: true,
    source: 'api',
    discovered: false,
    version: 1,
  });
  assert.deepEqual(created.deadlines, { whole_ms: 5, first_frame_ms: 120_000, between_frames_ms: 60_000 });
  assert.equal(registry.api.snapshot().byId.get('fast/one')?.model, 'priced-model');
  const path = `${modelsPath}/${created.id}`;
  assert.equal(
    refusal(await plane.admin('PATCH', path, { body: { enabled: false }, headers: { 'if-match': '7' } }))
      .code,
    'version_conflict',
  );
  const changed = await plane.admin('PATCH', path, {
    body: { enabled: false, context_tokens: null, deadlines: {} },
  });
  assert.partialDeepStrictEqual(controlModel.strict().parse(changed.body), {
    enabled: false,
    active: false,
    context_tokens: null,
    version: 2,
  });
  assert.equal(registry.api.snapshot().byId.has('fast/one'), false);
  await plane.admin('PATCH', path, { body: { enabled: true } });
  assert.equal(registry.api.snapshot().byId.has('fast/one'), true);
  assert.equal(refusal(await plane.admin('DELETE', `${providersPath}/${of.id}`)).code, 'conflict');
  assert.equal(
    refusal(await plane.admin('DELETE', path, { headers: { 'if-match': '1' } })).code,
    'version_conflict',
  );
  assert.equal((await plane.admin('DELETE', path)).status, 204);
  assert.equal(registry.api.snapshot().byId.has('fast/one'), false);
  assert.equal((await plane.admin('DELETE', `${providersPath}/${of.id}`)).status, 204);
});

test('a model that does not fit, or whose name is taken, is refused', async () => {
  const of = await addProvider();
  const created = await addModel({ target: 'once', provider_id: of.id });
  const other = await addModel({ target: 'other', provider_id: of.id });
  const again = await plane.admin('POST', modelsPath, { body: { target: 'once', provider_id: of.id } });
  assert.deepEqual(refusal(again), { code: 'already_exists', param: 'target' });
  assert.equal(
    refusal(await plane.admin('PATCH', `${modelsPath}/${other.id}`, { body: { target: 'once' } })).code,
    'already_exists',
  );
  for (const [change, param] of [
    [{ target: 'auto' }, 'target'],
    [{ target: ' x' }, 'target'],
    [{ target: 'x\u0000' }, 'target'],
    [{ provider_id: unknownProvider }, 'provider_id'],
    [{ kind: 'speech' }, 'kind'],
    [{ context_tokens: 0 }, 'context_tokens'],
    [{ deadlines: { whole_ms: 0 } }, 'deadlines.whole_ms'],
  ] as const) {
    const answer = await plane.admin('POST', modelsPath, {
      body: { target: 'new', provider_id: of.id, ...change },
    });
    assert.deepEqual(refusal(answer), { code: 'invalid_request', param }, JSON.stringify(change));
  }
  assert.equal(
    refusal(await plane.admin('PATCH', `${modelsPath}/${other.id}`, { body: {} })).code,
    'invalid_request',
  );
  assert.equal(refusal(await plane.admin('GET', `${modelsPath}/nonsense`)).code, 'invalid_request');
  for (const { id } of [created, other]) await plane.admin('DELETE', `${modelsPath}/${id}`);
  await plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('lists hold every source, page by page, without a gap or a repeat', async () => {
  const of = await addProvider({ name: 'zz-last' });
  const created = await addModel({ target: 'zz-model', provider_id: of.id });
  const pages = async <Item extends { readonly id: string }>(
    path: string,
    item: z.ZodType<Item>,
  ): Promise<Item[]> => {
    const found: Item[] = [];
    for (let after: string | null = null; ; ) {
      const answer = await plane.admin('GET', `${path}?limit=2${after === null ? '' : `&after=${after}`}`);
      const page = listOf(item).parse(answer.body);
      assert.ok(page.data.length <= 2);
      found.push(...page.data);
      if (!page.has_more) return found;
      after = page.last_id;
    }
  };
  const providers = await pages(providersPath, provider.strict());
  assert.deepEqual(
    providers.map((one) => `${one.name} ${one.source}`),
    ['default settings', 'extractive built-in', 'zz-last api'],
  );
  assert.partialDeepStrictEqual(providers[0]?.discovery, { state: 'working', models: 3, error: null });
  const models = await pages(modelsPath, controlModel.strict());
  assert.deepEqual(
    models.map((one) => `${one.target} ${one.kind} ${one.source} ${one.discovered}`),
    [
      'extractive chat built-in false',
      'first chat settings true',
      'second/with slash chat settings true',
      'text-embedding-x embedding settings true',
      'zz-model chat api false',
    ],
  );
  for (const one of models) {
    assert.deepEqual(controlModel.parse((await plane.admin('GET', `${modelsPath}/${one.id}`)).body), one);
  }
  for (const path of [providersPath, modelsPath]) {
    assert.equal(refusal(await plane.admin('GET', `${path}?limit=0`)).code, 'invalid_request');
    assert.deepEqual(refusal(await plane.admin('GET', `${path}?after=nonsense`)), {
      code: 'invalid_request',
      param: 'after',
    });
  }
  await plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('what the settings, a list or the process itself brings is read but not changed', async () => {
  const providers = listOf(provider).parse((await plane.admin('GET', providersPath)).body).data;
  const models = listOf(controlModel).parse((await plane.admin('GET', modelsPath)).body).data;
  assert.ok(providers.length >= 2 && models.length >= 4);
  for (const path of [
    ...providers.map(({ id }) => `${providersPath}/${id}`),
    ...models.map(({ id }) => `${modelsPath}/${id}`),
  ]) {
    assert.equal((await plane.admin('GET', path)).status, 200);
    assert.equal(
      refusal(await plane.admin('PATCH', path, { body: { enabled: false } })).code,
      'managed_by_file',
    );
    assert.equal(refusal(await plane.admin('DELETE', path)).code, 'managed_by_file');
  }
});

test('a creating POST with an idempotency key makes one provider and one model', async () => {
  const headers = { 'idempotency-key': 'registry-1' };
  const body = { name: 'idem', kind: 'openai-compatible', base_url: 'http://h/v1', discover: false };
  const first = await plane.admin('POST', providersPath, { body, headers });
  const again = await plane.admin('POST', providersPath, { body, headers });
  assert.deepEqual([again.status, again.text], [201, first.text]);
  const other = await plane.admin('POST', providersPath, { body: { ...body, name: 'idem2' }, headers });
  assert.equal(refusal(other).code, 'idempotency_conflict');
  const of = provider.parse(first.body);
  const modelHeaders = { 'idempotency-key': 'registry-2' };
  const modelBody = { target: 'idem-model', provider_id: of.id };
  const model = await plane.admin('POST', modelsPath, { body: modelBody, headers: modelHeaders });
  assert.equal(
    (await plane.admin('POST', modelsPath, { body: modelBody, headers: modelHeaders })).text,
    model.text,
  );
  const conflicting = await plane.admin('POST', modelsPath, {
    body: { ...modelBody, target: 'x' },
    headers: modelHeaders,
  });
  assert.equal(refusal(conflicting).code, 'idempotency_conflict');
  await plane.admin('DELETE', `${modelsPath}/${controlModel.parse(model.body).id}`);
  await plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('a tenant lists models in the shape of OpenAI, `auto` first, and reads each by its name, slashes and all', async () => {
  const { key } = await newTenantKey('viewer');
  const answer = await plane.open('GET', '/v1/models', { key });
  assert.equal(answer.status, 200);
  const { data } = z
    .strictObject({ object: z.literal('list'), data: z.array(listedModel.strict()) })
    .parse(answer.body);
  assert.deepEqual(
    data.map((one) => `${one.id} ${one.kind} ${one.generative}`),
    [
      'auto chat true',
      'first chat true',
      'second/with slash chat true',
      'text-embedding-x embedding false',
      'extractive chat false',
    ],
  );
  assert.partialDeepStrictEqual(data[1], {
    created: 1_700_000_000,
    owned_by: 'upstream',
    priced: false,
    price: null,
  });
  assert.equal(data[0]?.owned_by, 'stoa');
  for (const one of data) {
    for (const path of [encodeURIComponent(one.id), encodeURI(one.id)]) {
      assert.deepEqual((await plane.open('GET', `/v1/models/${path}`, { key })).body, one);
    }
  }
  assert.deepEqual(refusal(await plane.open('GET', '/v1/models/none', { key })), {
    code: 'model_not_found',
    param: 'model',
  });
  assert.equal(
    refusal(await plane.open('GET', `/v1/models/${'x'.repeat(201)}`, { key })).code,
    'invalid_request',
  );
  assert.equal(refusal(await plane.open('GET', '/v1/models')).code, 'invalid_api_key');
});

test("the operator's order is the order of `auto` for everybody, and names chat targets only", async () => {
  const path = '/control/v1/policy';
  const before = operatorPolicy.strict().parse((await plane.admin('GET', path)).body);
  assert.deepEqual(before, {
    object: 'policy',
    order: [],
    in_effect: ['first', 'second/with slash'],
    version: 0,
    updated_at: null,
  });
  for (const [order, param] of [
    [['first', 'none'], 'order[1]'],
    [['text-embedding-x'], 'order[0]'],
    [['first', 'first'], 'order'],
  ] as const) {
    assert.deepEqual(refusal(await plane.admin('PUT', path, { body: { order } })), {
      code: 'invalid_request',
      param,
    });
  }
  const set = await plane.admin('PUT', path, {
    body: { order: ['extractive', 'first'] },
    headers: { 'if-match': '0' },
  });
  assert.equal(set.status, 200);
  assert.partialDeepStrictEqual(operatorPolicy.strict().parse(set.body), {
    order: ['extractive', 'first'],
    in_effect: ['extractive', 'first'],
    version: 1,
  });
  assert.deepEqual(
    registry.api.snapshot().chatOrder.map((target) => target.id),
    ['extractive', 'first'],
  );
  assert.equal(
    refusal(await plane.admin('PUT', path, { body: { order: [] }, headers: { 'if-match': '0' } })).code,
    'version_conflict',
  );
  await plane.admin('PUT', path, { body: { order: [] } });
  assert.deepEqual(
    registry.api.snapshot().chatOrder.map((target) => target.id),
    before.in_effect,
  );
});

test("a tenant's policy is its own: order and allowed targets, by name, by `auto` and in the list", async () => {
  const [one, two] = [await newTenantKey(), await newTenantKey()];
  const path = '/v1/policy';
  assert.partialDeepStrictEqual(
    tenantPolicy.strict().parse((await plane.open('GET', path, { key: one.key })).body),
    { order: [], allowed: null, version: 0 },
  );
  const body = { order: ['second/with slash'], allowed: ['second/with slash', 'text-embedding-x'] };
  const set = await plane.open('PUT', path, { key: one.key, body, headers: { 'if-match': '"0"' } });
  assert.equal(set.status, 200, set.text);
  assert.partialDeepStrictEqual(tenantPolicy.strict().parse(set.body), {
    ...body,
    in_effect: ['second/with slash'],
    version: 1,
  });
  const policy = await registry.api.policyFor(one.id);
  assert.deepEqual(
    policy.chatOrder.map((target) => target.id),
    ['second/with slash'],
  );
  const { byId } = registry.api.snapshot();
  const isAllowed = [...byId.values()].map((target) => [target.id, policy.isAllowed(target)]);
  assert.deepEqual(Object.fromEntries(isAllowed), {
    first: false,
    'second/with slash': true,
    'text-embedding-x': true,
    extractive: false,
  });
  const names = async (key: string) =>
    z
      .object({ data: z.array(listedModel) })
      .parse((await plane.open('GET', '/v1/models', { key })).body)
      .data.map((model) => model.id);
  assert.deepEqual(await names(one.key), ['auto', 'second/with slash', 'text-embedding-x']);
  assert.equal(
    refusal(await plane.open('GET', '/v1/models/first', { key: one.key })).code,
    'model_not_found',
  );
  assert.equal((await names(two.key)).length, 5);
  assert.deepEqual((await registry.api.policyFor(two.id)).chatOrder, registry.api.snapshot().chatOrder);
  assert.partialDeepStrictEqual(tenantPolicy.parse((await plane.open('GET', path, { key: two.key })).body), {
    order: [],
    version: 0,
  });
  assert.equal(
    refusal(await plane.open('PUT', path, { key: one.key, body: {}, headers: { 'if-match': '0' } })).code,
    'version_conflict',
  );
  const cleared = await plane.open('PUT', path, { key: one.key, body: {}, headers: { 'if-match': '1' } });
  assert.partialDeepStrictEqual(tenantPolicy.parse(cleared.body), { order: [], allowed: null, version: 2 });
  assert.equal((await names(one.key)).length, 5);
});

test('a policy that names what is unknown, not allowed or no chat model is refused with the place', async () => {
  const { key } = await newTenantKey();
  for (const [body, param] of [
    [{ order: ['none'] }, 'order[0]'],
    [{ order: ['first', 'text-embedding-x'] }, 'order[1]'],
    [{ allowed: ['first', 'none'] }, 'allowed[1]'],
    [{ order: ['first'], allowed: ['extractive'] }, 'order[0]'],
    [{ allowed: [] }, 'allowed'],
    [{ order: 'first' }, 'order'],
  ] as const) {
    assert.deepEqual(
      refusal(await plane.open('PUT', '/v1/policy', { key, body })),
      { code: 'invalid_request', param },
      JSON.stringify(body),
    );
  }
  const { key: developer } = await newTenantKey('developer');
  assert.equal((await plane.open('GET', '/v1/policy', { key: developer })).status, 200);
  assert.equal(
    refusal(await plane.open('PUT', '/v1/policy', { key: developer, body: {} })).code,
    'permission_denied',
  );
});

test('a known policy is there at once; without an order, `auto` uses what is allowed', async () => {
  const { id, key } = await newTenantKey();
  assert.ok(registry.api.policyFor(id) instanceof Promise);
  await registry.api.policyFor(id);
  assert.ok(!(registry.api.policyFor(id) instanceof Promise));
  await plane.open('PUT', '/v1/policy', { key, body: { allowed: ['extractive', 'first'] } });
  const policy = await registry.api.policyFor(id);
  assert.deepEqual(
    policy.chatOrder.map((target) => target.id),
    ['first'],
  );
});

test('changes of one process are in effect in another within the poll', async (t) => {
  const other = openRegistry(database.db, { sealer, pollEveryMs: 20 });
  t.after(() => other.close());
  await other.lifecycle.start();
  const { id, key } = await newTenantKey();
  assert.deepEqual(
    (await other.api.policyFor(id)).chatOrder.map((target) => target.id),
    ['extractive'],
  );
  const of = await addProvider({ credential: secret });
  const created = await addModel({ target: 'shared', provider_id: of.id });
  await eventually(
    'the model',
    () => other.api.snapshot().byId.get('shared')?.provider.credential === secret,
  );
  assert.equal((await plane.open('PUT', '/v1/policy', { key, body: { order: ['shared'] } })).status, 200);
  await plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await plane.admin('DELETE', `${providersPath}/${of.id}`);
  await eventually('the end of the model', () => !other.api.snapshot().byId.has('shared'));
  // Without the tenant's order it would be the extractive engine, so this waits for the policy, too.
  await eventually('the policy', async () => (await other.api.policyFor(id)).chatOrder.length === 0);
});

test('a model that appears upstream is found by the first who asks for it', async () => {
  const before = upstream.ids;
  upstream.ids = ['first', 'second/with slash', 'text-embedding-x', 'brand-new'];
  assert.equal(registry.api.snapshot().byId.has('brand-new'), false);
  assert.equal((await registry.api.refresh('brand-new'))?.id, 'brand-new');
  const asked = upstream.credentials.length;
  assert.equal(await registry.api.refresh('never'), null);
  assert.equal(upstream.credentials.length, asked, 'a second listing within 2 s');
  upstream.ids = before;
});

test('a server that comes up after Stoa brings its models, and start does not wait for it', async (t) => {
  const late = await openListingServer([]);
  t.after(() => late.close());
  late.ids = 'down';
  const own = openRegistry(database.db, {
    openai: { baseUrl: `${late.baseUrl}/`, apiKey: 'sk-late' },
    firstListingWaitMs: 500,
  });
  t.after(() => own.close());
  await own.lifecycle.start();
  assert.deepEqual([...own.api.snapshot().byId.keys()], ['extractive']);
  late.ids = ['late-model'];
  await eventually('the model', () => own.api.snapshot().chatOrder[0]?.id === 'late-model');
  assert.equal(late.credentials.at(-1), 'Bearer sk-late');
});

test('providers sealed under another master key are left out, and the rest goes on', async (t) => {
  const of = await addProvider({ credential: secret });
  const created = await addModel({ target: 'sealed-away', provider_id: of.id });
  const stranger = openRegistry(database.db);
  t.after(() => stranger.close());
  await stranger.lifecycle.start();
  assert.equal(stranger.api.snapshot().byId.has('sealed-away'), false);
  assert.equal(stranger.api.snapshot().byId.has('extractive'), true);
  await plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await plane.admin('DELETE', `${providersPath}/${of.id}`);
});
