import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { controlModel, listOf, provider } from '@stoa/contracts';
import { sql } from 'kysely';
import type { z } from 'zod';
import {
  modelsPath,
  openRegistryStage,
  providersPath,
  refusal,
  type RegistryStage,
  sealer,
  secret,
  unknownModel,
  unknownProvider,
} from './registry.harness.ts';
import { eventually, openListingServer, openRegistry } from './testing.ts';

let stage: RegistryStage;
before(async () => {
  stage = await openRegistryStage();
});
after(() => stage.close());

test('a provider is made, read, listed, changed and deleted, and each change counts its version', async () => {
  const answer = await stage.plane.admin('POST', providersPath, {
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
  const read = await stage.plane.admin('GET', path);
  assert.equal(read.headers['etag'], '"1"');
  assert.equal(provider.strict().parse(read.body).name, 'life');
  const changed = await stage.plane.admin('PATCH', path, {
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
    refusal(await stage.plane.admin('PATCH', path, { body: { enabled: true }, headers: { 'if-match': '1' } }))
      .code,
    'version_conflict',
  );
  assert.equal(
    refusal(await stage.plane.admin('DELETE', path, { headers: { 'if-match': '1' } })).code,
    'version_conflict',
  );
  assert.equal((await stage.plane.admin('DELETE', path, { headers: { 'if-match': '2' } })).status, 204);
  assert.equal(refusal(await stage.plane.admin('GET', path)).code, 'not_found');
});

test('a credential is in no answer and in no row, and reaches the provider', async (t) => {
  const mine = await openListingServer(['credential-model']);
  t.after(() => mine.close());
  const created = await stage.addProvider({
    base_url: mine.baseUrl,
    credential: secret,
    headers: { 'x-api-key': 'another-secret-value' },
    discover: true,
  });
  await eventually('the listing', () => mine.credentials.includes(`Bearer ${secret}`));
  const answers = [
    await stage.plane.admin('GET', `${providersPath}/${created.id}`),
    await stage.plane.admin('GET', providersPath, {}),
    await stage.plane.admin('PATCH', `${providersPath}/${created.id}`, { body: { max_concurrency: 5 } }),
  ];
  const rows = await stage.database.db.withSystem('registry', (tx) =>
    sql`select * from platform.providers`.execute(tx),
  );
  const everything = JSON.stringify(
    [answers.map((answer) => [answer.text, answer.headers]), rows.rows],
    (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value),
  );
  for (const text of [secret, 'another-secret-value', Buffer.from(secret).toString('base64url').slice(0, 20)])
    assert.ok(!everything.includes(text));
  assert.ok(everything.includes('v1.'));
  await stage.plane.admin('DELETE', `${providersPath}/${created.id}`);
});

test('a secret is not sent to another host unless it is given again', async () => {
  const created = await stage.addProvider({ credential: secret, headers: { 'x-api-key': 'v' } });
  const path = `${providersPath}/${created.id}`;
  const move = (body: object) =>
    stage.plane.admin('PATCH', path, { body: { base_url: 'http://127.0.0.2:9/v1', ...body } });
  assert.deepEqual(refusal(await move({})), { code: 'invalid_request', param: 'credential' });
  assert.deepEqual(refusal(await move({ credential: null })), { code: 'invalid_request', param: 'headers' });
  assert.equal(
    (await stage.plane.admin('PATCH', path, { body: { base_url: 'http://127.0.0.1:9/v2' } })).status,
    200,
  );
  const moved = await move({ credential: null, headers: {} });
  assert.partialDeepStrictEqual(provider.parse(moved.body), {
    has_credential: false,
    credential_last_four: null,
    header_names: [],
  });
  await stage.plane.admin('DELETE', path);
});

test('nothing of a short credential is shown', async () => {
  const created = await stage.addProvider({ credential: 'short-one' });
  assert.deepEqual([created.has_credential, created.credential_last_four], [true, null]);
  await stage.plane.admin('DELETE', `${providersPath}/${created.id}`);
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
    const answer = await stage.plane.admin('POST', providersPath, { body: { ...valid, ...change } });
    assert.deepEqual(refusal(answer), { code: 'invalid_request', param }, JSON.stringify(change));
  }
  assert.equal(
    refusal(await stage.plane.admin('POST', providersPath, { body: { ...valid, extra: 1 } })).code,
    'invalid_request',
  );
  assert.equal(
    refusal(await stage.plane.admin('PATCH', `${providersPath}/${unknownProvider}`, { body: {} })).code,
    'invalid_request',
  );
  for (const id of ['x', 'mod_01h455vb4pex5vsknk084sn02q']) {
    assert.equal(refusal(await stage.plane.admin('GET', `${providersPath}/${id}`)).code, 'invalid_request');
  }
});

test('a name is given once, over the API, the file and what Stoa itself uses', async () => {
  const one = await stage.addProvider({ name: 'taken' });
  const two = await stage.addProvider();
  for (const name of ['taken', 'default', 'extractive', 'scripted']) {
    const body = { name, kind: 'openai-compatible', base_url: 'http://h/v1' };
    assert.deepEqual(refusal(await stage.plane.admin('POST', providersPath, { body })), {
      code: 'already_exists',
      param: 'name',
    });
    assert.equal(
      refusal(await stage.plane.admin('PATCH', `${providersPath}/${two.id}`, { body: { name } })).code,
      'already_exists',
    );
  }
  for (const { id } of [one, two]) await stage.plane.admin('DELETE', `${providersPath}/${id}`);
});

test('what is unknown is not found, whatever is done to it', async () => {
  for (const [path, body] of [
    [`${providersPath}/${unknownProvider}`, { enabled: true }],
    [`${modelsPath}/${unknownModel}`, { enabled: true }],
  ] as const) {
    for (const method of ['GET', 'PATCH', 'DELETE'] as const) {
      const answer = await stage.plane.admin(method, path, method === 'PATCH' ? { body } : {});
      assert.equal(refusal(answer).code, 'not_found');
    }
  }
});

test('a model is a target at once, under its name, until it is disabled or deleted', async () => {
  const of = await stage.addProvider();
  const created = await stage.addModel({
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
  assert.equal(stage.registry.api.snapshot().byId.get('fast/one')?.model, 'priced-model');
  const path = `${modelsPath}/${created.id}`;
  assert.equal(
    refusal(
      await stage.plane.admin('PATCH', path, { body: { enabled: false }, headers: { 'if-match': '7' } }),
    ).code,
    'version_conflict',
  );
  const changed = await stage.plane.admin('PATCH', path, {
    body: { enabled: false, context_tokens: null, deadlines: {} },
  });
  assert.partialDeepStrictEqual(controlModel.strict().parse(changed.body), {
    enabled: false,
    active: false,
    context_tokens: null,
    version: 2,
  });
  assert.equal(stage.registry.api.snapshot().byId.has('fast/one'), false);
  await stage.plane.admin('PATCH', path, { body: { enabled: true } });
  assert.equal(stage.registry.api.snapshot().byId.has('fast/one'), true);
  assert.equal(refusal(await stage.plane.admin('DELETE', `${providersPath}/${of.id}`)).code, 'conflict');
  assert.equal(
    refusal(await stage.plane.admin('DELETE', path, { headers: { 'if-match': '1' } })).code,
    'version_conflict',
  );
  assert.equal((await stage.plane.admin('DELETE', path)).status, 204);
  assert.equal(stage.registry.api.snapshot().byId.has('fast/one'), false);
  assert.equal((await stage.plane.admin('DELETE', `${providersPath}/${of.id}`)).status, 204);
});

test('a model that does not fit, or whose name is taken, is refused', async () => {
  const of = await stage.addProvider();
  const created = await stage.addModel({ target: 'once', provider_id: of.id });
  const other = await stage.addModel({ target: 'other', provider_id: of.id });
  const again = await stage.plane.admin('POST', modelsPath, { body: { target: 'once', provider_id: of.id } });
  assert.deepEqual(refusal(again), { code: 'already_exists', param: 'target' });
  assert.equal(
    refusal(await stage.plane.admin('PATCH', `${modelsPath}/${other.id}`, { body: { target: 'once' } })).code,
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
    const answer = await stage.plane.admin('POST', modelsPath, {
      body: { target: 'new', provider_id: of.id, ...change },
    });
    assert.deepEqual(refusal(answer), { code: 'invalid_request', param }, JSON.stringify(change));
  }
  assert.equal(
    refusal(await stage.plane.admin('PATCH', `${modelsPath}/${other.id}`, { body: {} })).code,
    'invalid_request',
  );
  assert.equal(refusal(await stage.plane.admin('GET', `${modelsPath}/nonsense`)).code, 'invalid_request');
  for (const { id } of [created, other]) await stage.plane.admin('DELETE', `${modelsPath}/${id}`);
  await stage.plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('lists hold every source, page by page, without a gap or a repeat', async () => {
  const of = await stage.addProvider({ name: 'zz-last' });
  const created = await stage.addModel({ target: 'zz-model', provider_id: of.id });
  const pages = async <Item extends { readonly id: string }>(
    path: string,
    item: z.ZodType<Item>,
  ): Promise<Item[]> => {
    const found: Item[] = [];
    for (let after: string | null = null; ; ) {
      const answer = await stage.plane.admin(
        'GET',
        `${path}?limit=2${after === null ? '' : `&after=${after}`}`,
      );
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
    assert.deepEqual(
      controlModel.parse((await stage.plane.admin('GET', `${modelsPath}/${one.id}`)).body),
      one,
    );
  }
  for (const path of [providersPath, modelsPath]) {
    assert.equal(refusal(await stage.plane.admin('GET', `${path}?limit=0`)).code, 'invalid_request');
    assert.deepEqual(refusal(await stage.plane.admin('GET', `${path}?after=nonsense`)), {
      code: 'invalid_request',
      param: 'after',
    });
  }
  await stage.plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await stage.plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('what the settings, a list or the process itself brings is read but not changed', async () => {
  const providers = listOf(provider).parse((await stage.plane.admin('GET', providersPath)).body).data;
  const models = listOf(controlModel).parse((await stage.plane.admin('GET', modelsPath)).body).data;
  assert.ok(providers.length >= 2 && models.length >= 4);
  for (const path of [
    ...providers.map(({ id }) => `${providersPath}/${id}`),
    ...models.map(({ id }) => `${modelsPath}/${id}`),
  ]) {
    assert.equal((await stage.plane.admin('GET', path)).status, 200);
    assert.equal(
      refusal(await stage.plane.admin('PATCH', path, { body: { enabled: false } })).code,
      'managed_by_file',
    );
    assert.equal(refusal(await stage.plane.admin('DELETE', path)).code, 'managed_by_file');
  }
});

test('a creating POST with an idempotency key makes one provider and one model', async () => {
  const headers = { 'idempotency-key': 'registry-1' };
  const body = { name: 'idem', kind: 'openai-compatible', base_url: 'http://h/v1', discover: false };
  const first = await stage.plane.admin('POST', providersPath, { body, headers });
  const again = await stage.plane.admin('POST', providersPath, { body, headers });
  assert.deepEqual([again.status, again.text], [201, first.text]);
  const other = await stage.plane.admin('POST', providersPath, { body: { ...body, name: 'idem2' }, headers });
  assert.equal(refusal(other).code, 'idempotency_conflict');
  const of = provider.parse(first.body);
  const modelHeaders = { 'idempotency-key': 'registry-2' };
  const modelBody = { target: 'idem-model', provider_id: of.id };
  const model = await stage.plane.admin('POST', modelsPath, { body: modelBody, headers: modelHeaders });
  assert.equal(
    (await stage.plane.admin('POST', modelsPath, { body: modelBody, headers: modelHeaders })).text,
    model.text,
  );
  const conflicting = await stage.plane.admin('POST', modelsPath, {
    body: { ...modelBody, target: 'x' },
    headers: modelHeaders,
  });
  assert.equal(refusal(conflicting).code, 'idempotency_conflict');
  await stage.plane.admin('DELETE', `${modelsPath}/${controlModel.parse(model.body).id}`);
  await stage.plane.admin('DELETE', `${providersPath}/${of.id}`);
});

test('changes of one process are in effect in another within the poll', async (t) => {
  const other = openRegistry(stage.database.db, { sealer, pollEveryMs: 20 });
  t.after(() => other.close());
  await other.lifecycle.start();
  const { id, key } = await stage.newTenantKey();
  assert.deepEqual(
    (await other.api.policyFor(id)).chatOrder.map((target) => target.id),
    ['extractive'],
  );
  const of = await stage.addProvider({ credential: secret });
  const created = await stage.addModel({ target: 'shared', provider_id: of.id });
  await eventually(
    'the model',
    () => other.api.snapshot().byId.get('shared')?.provider.credential === secret,
  );
  assert.equal(
    (await stage.plane.open('PUT', '/v1/policy', { key, body: { order: ['shared'] } })).status,
    200,
  );
  await stage.plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await stage.plane.admin('DELETE', `${providersPath}/${of.id}`);
  await eventually('the end of the model', () => !other.api.snapshot().byId.has('shared'));
  // Without the tenant's order it would be the extractive engine, so this waits for the policy, too.
  await eventually('the policy', async () => (await other.api.policyFor(id)).chatOrder.length === 0);
});

test('a model that appears upstream is found by the first who asks for it', async () => {
  const before = stage.upstream.ids;
  stage.upstream.ids = ['first', 'second/with slash', 'text-embedding-x', 'brand-new'];
  assert.equal(stage.registry.api.snapshot().byId.has('brand-new'), false);
  assert.equal((await stage.registry.api.refresh('brand-new'))?.id, 'brand-new');
  const asked = stage.upstream.credentials.length;
  assert.equal(await stage.registry.api.refresh('never'), null);
  assert.equal(stage.upstream.credentials.length, asked, 'a second listing within 2 s');
  stage.upstream.ids = before;
});

test('a server that comes up after Stoa brings its models, and start does not wait for it', async (t) => {
  const late = await openListingServer([]);
  t.after(() => late.close());
  late.ids = 'down';
  const own = openRegistry(stage.database.db, {
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
  const of = await stage.addProvider({ credential: secret });
  const created = await stage.addModel({ target: 'sealed-away', provider_id: of.id });
  const stranger = openRegistry(stage.database.db);
  t.after(() => stranger.close());
  await stranger.lifecycle.start();
  assert.equal(stranger.api.snapshot().byId.has('sealed-away'), false);
  assert.equal(stranger.api.snapshot().byId.has('extractive'), true);
  await stage.plane.admin('DELETE', `${modelsPath}/${created.id}`);
  await stage.plane.admin('DELETE', `${providersPath}/${of.id}`);
});
