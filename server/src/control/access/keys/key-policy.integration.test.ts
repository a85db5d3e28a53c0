import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { apiKey, type ApiKeyObject, createdApiKey, keyPolicy, listOf, tenant } from '@stoa/contracts';
import { sql } from 'kysely';
import { fromTypeId, type ManualClock, manualClock } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';

let database: TestDatabase;
let plane: ControlPlane;
let clock: ManualClock;
/** The clock moves by days here, and no poll runs. */
const aged = { maximumAgeMs: Number.POSITIVE_INFINITY };

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  plane = await openControlPlane(database.db, { clock, access: aged });
});

after(async () => {
  await plane.close();
  await database.close();
});

const tenants = '/control/v1/tenants';
const dayMs = 24 * 60 * 60 * 1000;
const inDays = (days: number): string => new Date(clock.now() + days * dayMs).toISOString();

interface Owner {
  readonly id: string;
  readonly admin: ApiKeyObject & { readonly key: string };
}

async function newOwner(): Promise<Owner> {
  const { id } = tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Acme' } })).body);
  const answer = await plane.admin('POST', `${tenants}/${id}/keys`, {
    body: { name: 'admin', role: 'admin' },
  });
  return { id, admin: createdApiKey.parse(answer.body) };
}

async function make({ admin }: Owner, body: object = {}): Promise<Answer> {
  return plane.open('POST', '/v1/keys', { key: admin.key, body: { name: 'a', role: 'viewer', ...body } });
}

async function setPolicy({ admin }: Owner, body: object): Promise<Answer> {
  return plane.open('PUT', '/v1/key-policy', { key: admin.key, body });
}

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

test('without a policy keys live for as long as they are told to', async () => {
  const owner = await newOwner();
  const answer = await plane.open('GET', '/v1/key-policy', { key: owner.admin.key });
  assert.deepEqual(keyPolicy.strict().parse(answer.body), {
    object: 'key_policy',
    max_lifetime_days: null,
    allow_no_expiry: true,
    keys_beyond: 0,
    version: 0,
    updated_at: null,
  });
  assert.equal((await make(owner)).status, 201);
  assert.equal((await make(owner, { expires_at: inDays(3000) })).status, 201);
  const none = await plane.open('GET', '/v1/keys?beyond_policy=true', { key: owner.admin.key });
  assert.deepEqual(listOf(apiKey).parse(none.body).data, []);
});

test('a new key that would live longer than the policy allows is refused, whoever makes it', async () => {
  const owner = await newOwner();
  assert.equal((await setPolicy(owner, { max_lifetime_days: 30, allow_no_expiry: false })).status, 200);
  for (const body of [
    {},
    { expires_at: null },
    { expires_at: new Date(clock.now() + 30 * dayMs + 1).toISOString() },
  ]) {
    const refused = await make(owner, body);
    expectError(refused, 400, 'key_lifetime_exceeded');
    assert.equal(errorIn(refused).param, 'expires_at');
    assert.match(errorIn(refused).message, new RegExp(inDays(30)));
    const byOperator = await plane.admin('POST', `${tenants}/${owner.id}/keys`, {
      body: { name: 'a', role: 'viewer', ...body },
    });
    expectError(byOperator, 400, 'key_lifetime_exceeded');
  }
  assert.equal((await make(owner, { expires_at: inDays(30) })).status, 201);
  await setPolicy(owner, { max_lifetime_days: 30 });
  assert.equal((await make(owner)).status, 201, 'no expiry is allowed beside a longest life');
  expectError(await make(owner, { expires_at: inDays(31) }), 400, 'key_lifetime_exceeded');
  await setPolicy(owner, { allow_no_expiry: false });
  expectError(await make(owner), 400, 'key_lifetime_exceeded');
  assert.equal((await make(owner, { expires_at: inDays(3000) })).status, 201);
});

test('a key lives on by a rotation only, which must stay within the policy', async () => {
  const owner = await newOwner();
  const { id } = createdApiKey.parse((await make(owner, { expires_at: inDays(10) })).body);
  await setPolicy(owner, { max_lifetime_days: 30, allow_no_expiry: false });
  const { key } = owner.admin;
  const change = (body: object) => plane.open('PATCH', `/v1/keys/${id}`, { key, body });
  const rotate = (body: object) => plane.open('POST', `/v1/keys/${id}/rotate`, { key, body });
  clock.advance(9 * dayMs);
  assert.equal((await change({ expires_at: inDays(21) })).status, 200);
  expectError(await change({ expires_at: inDays(22) }), 400, 'key_lifetime_exceeded');
  expectError(await change({ expires_at: null }), 400, 'key_lifetime_exceeded');
  const operators = await plane.admin('PATCH', `${tenants}/${owner.id}/keys/${id}`, {
    body: { expires_at: inDays(22) },
  });
  expectError(operators, 400, 'key_lifetime_exceeded');
  expectError(await rotate({ expires_at: inDays(31) }), 400, 'key_lifetime_exceeded');
  expectError(
    await plane.admin('POST', `${tenants}/${owner.id}/keys/${id}/rotate`, { body: { expires_at: null } }),
    400,
    'key_lifetime_exceeded',
  );
  assert.equal((await rotate({ expires_at: inDays(30) })).status, 200);
  assert.equal((await change({ expires_at: inDays(29) })).status, 200);
  // The admin's own key has no end: it goes on, but is rotated only into what the policy allows.
  const own = `/v1/keys/${owner.admin.id}/rotate`;
  expectError(await plane.open('POST', own, { key, body: {} }), 400, 'key_lifetime_exceeded');
  assert.equal((await change({ name: 'renamed' })).status, 200);
});

test('keys that were there before a policy go on, and are counted and listed', async () => {
  const owner = await newOwner();
  await make(owner, { name: 'long', expires_at: inDays(91) });
  await make(owner, { name: 'short', expires_at: inDays(90) });
  const revoked = createdApiKey.parse((await make(owner, { name: 'revoked' })).body);
  await plane.open('DELETE', `/v1/keys/${revoked.id}`, { key: owner.admin.key });
  const answer = await setPolicy(owner, { max_lifetime_days: 90, allow_no_expiry: false });
  const policy = keyPolicy.strict().parse(answer.body);
  assert.deepEqual([policy.keys_beyond, policy.version, answer.headers['etag']], [2, 1, '"1"']);
  const beyond = async (query = 'beyond_policy=true'): Promise<string[]> => {
    const listed = await plane.open('GET', `/v1/keys?${query}`, { key: owner.admin.key });
    return listOf(apiKey)
      .parse(listed.body)
      .data.map(({ name }) => name)
      .sort();
  };
  assert.deepEqual(await beyond(), ['admin', 'long']);
  assert.equal((await beyond('beyond_policy=false')).length, 4);
  await setPolicy(owner, { max_lifetime_days: 90 });
  assert.deepEqual(await beyond(), ['long']);
  assert.equal((await plane.open('GET', '/v1/keys', { key: owner.admin.key })).status, 200);
});

test('a policy is changed by who may, in the version that was read, and another tenant has its own', async () => {
  const [owner, other] = [await newOwner(), await newOwner()];
  const path = `${tenants}/${owner.id}/key-policy`;
  const set = await plane.admin('PUT', path, {
    body: { max_lifetime_days: 7, allow_no_expiry: true },
    headers: { 'if-match': '"0"' },
  });
  assert.equal(keyPolicy.strict().parse(set.body).max_lifetime_days, 7);
  const read = await plane.admin('GET', path);
  assert.deepEqual(read.body, set.body);
  assert.deepEqual((await plane.open('GET', '/v1/key-policy', { key: owner.admin.key })).body, set.body);
  const late = { body: {}, headers: { 'if-match': '"0"' } };
  expectError(await plane.admin('PUT', path, late), 412, 'version_conflict');
  expectError(
    await plane.open('PUT', '/v1/key-policy', { key: owner.admin.key, ...late }),
    412,
    'version_conflict',
  );
  const theirs = await plane.open('GET', '/v1/key-policy', { key: other.admin.key });
  assert.equal(keyPolicy.parse(theirs.body).max_lifetime_days, null);
  const { key: viewer } = createdApiKey.parse((await make(owner, { role: 'viewer' })).body);
  const { key: keyMaker } = createdApiKey.parse(
    (await make(owner, { role: 'admin', scopes: ['keys:read', 'keys:write'] })).body,
  );
  for (const key of [viewer, keyMaker])
    expectError(await plane.open('PUT', '/v1/key-policy', { key, body: {} }), 403, 'permission_denied');
  expectError(await plane.open('GET', '/v1/key-policy', { key: keyMaker }), 403, 'permission_denied');
  for (const body of [
    { max_lifetime_days: 0 },
    { max_lifetime_days: 3651 },
    { max_lifetime_days: 1.5 },
    { max_lifetime_days: '30' },
    { allow_no_expiry: null },
    { days: 3 },
    [],
  ]) {
    expectError(await setPolicy(owner, body), 400, 'invalid_request');
    expectError(await plane.admin('PUT', path, { body }), 400, 'invalid_request');
  }
  const missing = `${tenants}/ten_01h455vb4pex5vsknk084sn02q/key-policy`;
  expectError(await plane.admin('GET', missing), 404, 'not_found');
  expectError(await plane.admin('PUT', missing, { body: {} }), 404, 'not_found');
  expectError(await plane.admin('GET', `${tenants}/x/key-policy`), 400, 'invalid_request');
  expectError(await plane.admin('PUT', `${tenants}/x/key-policy`, { body: {} }), 400, 'invalid_request');
});

test('a changed policy is told, with its version', async () => {
  const owner = await newOwner();
  await setPolicy(owner, { max_lifetime_days: 90 });
  await setPolicy(owner, { max_lifetime_days: 30 });
  const tenantId = fromTypeId('ten', owner.id) ?? '';
  const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
    sql<{ data: string }>`
      select data from tenant.events where key = ${`key_policy:${tenantId}`} order by keyversion
    `.execute(tx),
  );
  const told = rows.map(({ data }): unknown => JSON.parse(data));
  assert.deepEqual(told, [
    {
      resource: 'key_policy',
      resource_id: tenantId,
      change: 'created',
      version: 1,
      state: null,
      name: null,
      changed_fields: [],
      changed_by: `key:${owner.admin.id}`,
    },
    {
      resource: 'key_policy',
      resource_id: tenantId,
      change: 'changed',
      version: 2,
      state: null,
      name: null,
      changed_fields: ['max_lifetime_days'],
      changed_by: `key:${owner.admin.id}`,
    },
  ]);
});
