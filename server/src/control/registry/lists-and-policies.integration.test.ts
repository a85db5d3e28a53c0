import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { listedModel, operatorPolicy, tenantPolicy } from '@stoa/contracts';
import { z } from 'zod';
import { openRegistryStage, refusal, type RegistryStage } from './registry.harness.ts';

let stage: RegistryStage;
before(async () => {
  stage = await openRegistryStage();
});
after(() => stage.close());

test('a tenant lists models in the shape of OpenAI, `auto` first, and reads each by its name, slashes and all', async () => {
  const { key } = await stage.newTenantKey('viewer');
  const answer = await stage.plane.open('GET', '/v1/models', { key });
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
      assert.deepEqual((await stage.plane.open('GET', `/v1/models/${path}`, { key })).body, one);
    }
  }
  assert.deepEqual(refusal(await stage.plane.open('GET', '/v1/models/none', { key })), {
    code: 'model_not_found',
    param: 'model',
  });
  assert.equal(
    refusal(await stage.plane.open('GET', `/v1/models/${'x'.repeat(201)}`, { key })).code,
    'invalid_request',
  );
  assert.equal(refusal(await stage.plane.open('GET', '/v1/models')).code, 'invalid_api_key');
});

test("the operator's order is the order of `auto` for everybody, and names chat targets only", async () => {
  const path = '/control/v1/policy';
  const before = operatorPolicy.strict().parse((await stage.plane.admin('GET', path)).body);
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
    assert.deepEqual(refusal(await stage.plane.admin('PUT', path, { body: { order } })), {
      code: 'invalid_request',
      param,
    });
  }
  const set = await stage.plane.admin('PUT', path, {
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
    stage.registry.api.snapshot().chatOrder.map((target) => target.id),
    ['extractive', 'first'],
  );
  assert.equal(
    refusal(await stage.plane.admin('PUT', path, { body: { order: [] }, headers: { 'if-match': '0' } })).code,
    'version_conflict',
  );
  await stage.plane.admin('PUT', path, { body: { order: [] } });
  assert.deepEqual(
    stage.registry.api.snapshot().chatOrder.map((target) => target.id),
    before.in_effect,
  );
});

test("a tenant's policy is its own: order and allowed targets, by name, by `auto` and in the list", async () => {
  const [one, two] = [await stage.newTenantKey(), await stage.newTenantKey()];
  const path = '/v1/policy';
  assert.partialDeepStrictEqual(
    tenantPolicy.strict().parse((await stage.plane.open('GET', path, { key: one.key })).body),
    { order: [], allowed: null, version: 0 },
  );
  const body = { order: ['second/with slash'], allowed: ['second/with slash', 'text-embedding-x'] };
  const set = await stage.plane.open('PUT', path, { key: one.key, body, headers: { 'if-match': '"0"' } });
  assert.equal(set.status, 200, set.text);
  assert.partialDeepStrictEqual(tenantPolicy.strict().parse(set.body), {
    ...body,
    in_effect: ['second/with slash'],
    version: 1,
  });
  const policy = await stage.registry.api.policyFor(one.id);
  assert.deepEqual(
    policy.chatOrder.map((target) => target.id),
    ['second/with slash'],
  );
  const { byId } = stage.registry.api.snapshot();
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
      .parse((await stage.plane.open('GET', '/v1/models', { key })).body)
      .data.map((model) => model.id);
  assert.deepEqual(await names(one.key), ['auto', 'second/with slash', 'text-embedding-x']);
  assert.equal(
    refusal(await stage.plane.open('GET', '/v1/models/first', { key: one.key })).code,
    'model_not_found',
  );
  assert.equal((await names(two.key)).length, 5);
  assert.deepEqual(
    (await stage.registry.api.policyFor(two.id)).chatOrder,
    stage.registry.api.snapshot().chatOrder,
  );
  assert.partialDeepStrictEqual(
    tenantPolicy.parse((await stage.plane.open('GET', path, { key: two.key })).body),
    {
      order: [],
      version: 0,
    },
  );
  assert.equal(
    refusal(await stage.plane.open('PUT', path, { key: one.key, body: {}, headers: { 'if-match': '0' } }))
      .code,
    'version_conflict',
  );
  const cleared = await stage.plane.open('PUT', path, {
    key: one.key,
    body: {},
    headers: { 'if-match': '1' },
  });
  assert.partialDeepStrictEqual(tenantPolicy.parse(cleared.body), { order: [], allowed: null, version: 2 });
  assert.equal((await names(one.key)).length, 5);
});

test('a policy that names what is unknown, not allowed or no chat model is refused with the place', async () => {
  const { key } = await stage.newTenantKey();
  for (const [body, param] of [
    [{ order: ['none'] }, 'order[0]'],
    [{ order: ['first', 'text-embedding-x'] }, 'order[1]'],
    [{ allowed: ['first', 'none'] }, 'allowed[1]'],
    [{ order: ['first'], allowed: ['extractive'] }, 'order[0]'],
    [{ allowed: [] }, 'allowed'],
    [{ order: 'first' }, 'order'],
  ] as const) {
    assert.deepEqual(
      refusal(await stage.plane.open('PUT', '/v1/policy', { key, body })),
      { code: 'invalid_request', param },
      JSON.stringify(body),
    );
  }
  const { key: developer } = await stage.newTenantKey('developer');
  assert.equal((await stage.plane.open('GET', '/v1/policy', { key: developer })).status, 200);
  assert.equal(
    refusal(await stage.plane.open('PUT', '/v1/policy', { key: developer, body: {} })).code,
    'permission_denied',
  );
});

test('a known policy is there at once; without an order, `auto` uses what is allowed', async () => {
  const { id, key } = await stage.newTenantKey();
  assert.ok(stage.registry.api.policyFor(id) instanceof Promise);
  await stage.registry.api.policyFor(id);
  assert.ok(!(stage.registry.api.policyFor(id) instanceof Promise));
  await stage.plane.open('PUT', '/v1/policy', { key, body: { allowed: ['extractive', 'first'] } });
  const policy = await stage.registry.api.policyFor(id);
  assert.deepEqual(
    policy.chatOrder.map((target) => target.id),
    ['first'],
  );
});
