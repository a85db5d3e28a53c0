import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { apiKey, type ApiKeyObject, createdApiKey, tenant } from '@stoa/contracts';
import { sql } from 'kysely';
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
/** Sees the addresses that the tests say, since it trusts loopback as a proxy. */
let behindProxy: ControlPlane;
const masterKey = new Uint8Array(32).fill(7);

before(async () => {
  database = await openTestDatabase();
  plane = await openControlPlane(database.db, { masterKey });
  behindProxy = await openControlPlane(database.db, { masterKey, trustedProxies: ['127.0.0.1'] });
});

after(async () => {
  await behindProxy.close();
  await plane.close();
  await database.close();
});

type MadeKey = ApiKeyObject & { readonly key: string };

const tenants = '/control/v1/tenants';

async function newTenant(): Promise<string> {
  return tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Acme' } })).body).id;
}

async function send(tenantId: string, body: object): Promise<Answer> {
  return plane.admin('POST', `${tenants}/${tenantId}/keys`, {
    body: { name: 'key', role: 'admin', ...body },
  });
}

async function newKey(allowedIps: readonly string[] | null, tenantId?: string): Promise<MadeKey> {
  const answer = await send(tenantId ?? (await newTenant()), { allowed_ips: allowedIps });
  assert.equal(answer.status, 201, answer.text);
  return createdApiKey.strict().parse(answer.body);
}

/** As a client at this address, through the proxy. */
async function from(address: string, key: string): Promise<Answer> {
  return behindProxy.open('GET', '/v1/keys', { key, headers: { 'x-forwarded-for': address } });
}

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

test('a key is refused from outside of its networks, by a code of its own, and let in from inside', async () => {
  const { key } = await newKey(['192.0.2.0/25', '2001:db8:1::/48', '198.51.100.7']);
  for (const address of ['192.0.2.0', '192.0.2.127', '198.51.100.7', '2001:db8:1::', '2001:db8:1:ffff::1'])
    assert.equal((await from(address, key)).status, 200, address);
  for (const address of [
    '192.0.2.128',
    '192.0.1.255',
    '198.51.100.8',
    '2001:db8:2::',
    '::1',
    '::ffff:192.0.2.128',
  ]) {
    const answer = await from(address, key);
    expectError(answer, 403, 'ip_not_allowed');
    assert.ok(answer.text.includes(address.replace('::ffff:', '')), answer.text);
  }
  assert.equal((await from('::ffff:192.0.2.1', key)).status, 200, 'an IPv4 address may come mapped');
  assert.equal((await newKey(null)).allowed_ips, null);
});

test('without a proxy that is trusted nobody can say where he is', async () => {
  const elsewhere = await newKey(['203.0.113.0/24']);
  const here = await newKey(['127.0.0.0/8']);
  const lie = { headers: { 'x-forwarded-for': '203.0.113.1' } };
  expectError(await plane.open('GET', '/v1/keys', { key: elsewhere.key, ...lie }), 403, 'ip_not_allowed');
  assert.equal((await plane.open('GET', '/v1/keys', { key: here.key, ...lie })).status, 200);
  // The client puts an allowed address in front; the proxy appends the real one.
  expectError(await from('203.0.113.1, 198.51.100.1', elsewhere.key), 403, 'ip_not_allowed');
  expectError(await from('203.0.113.1, unknown', elsewhere.key), 403, 'ip_not_allowed');
  assert.equal((await from('198.51.100.1, 203.0.113.1', elsewhere.key)).status, 200);
});

test('whoever lacks the right secret learns nothing of the networks of a key', async () => {
  const { key } = await newKey(['203.0.113.0/24']);
  const wrong = await from(
    '198.51.100.1',
    `${key.slice(0, 30)}${key[30] === 'x' ? 'y' : 'x'}${key.slice(31)}`,
  );
  expectError(wrong, 401, 'invalid_api_key');
});

test('every IPv6 network admits no IPv4 address, and the other way round', async () => {
  const [six, four] = [await newKey(['::/0']), await newKey(['0.0.0.0/0'])];
  assert.equal((await from('2001:db8::1', six.key)).status, 200);
  expectError(await from('192.0.2.1', six.key), 403, 'ip_not_allowed');
  assert.equal((await from('192.0.2.1', four.key)).status, 200);
  expectError(await from('2001:db8::1', four.key), 403, 'ip_not_allowed');
});

test('networks are kept in their one text, none twice', async () => {
  const { allowed_ips: kept } = await newKey([
    '192.0.2.1',
    '192.0.2.1/32',
    '2001:DB8:0:0::/32',
    '::ffff:10.0.0.0/104',
    '0.0.0.0/0',
  ]);
  assert.deepEqual(kept, ['192.0.2.1/32', '2001:db8::/32', '10.0.0.0/8', '0.0.0.0/0']);
});

test('what is no network is refused with its place', async () => {
  const tenantId = await newTenant();
  for (const odd of [
    '',
    'localhost',
    '10.0.0.0/33',
    '10.0.0.0/08',
    '10.0.0/8',
    '10.1.2.3/8',
    '2001:db8::1/64',
    '2001:db8::/129',
    'fe80::1%eth0',
    '1:2',
    ':::',
    '0.0.0.0/0/0',
    '１０.0.0.1',
    7,
    null,
    { cidr: '10.0.0.0/8' },
  ]) {
    const answer = await send(tenantId, { allowed_ips: ['10.0.0.0/8', odd] });
    expectError(answer, 400, 'invalid_request');
    assert.equal(errorIn(answer).param, 'allowed_ips[1]', JSON.stringify(odd));
  }
  for (const odd of [[], '10.0.0.0/8', Array.from({ length: 65 }, (_, index) => `10.0.0.${index}`)])
    expectError(await send(tenantId, { allowed_ips: odd }), 400, 'invalid_request');
  const most = Array.from({ length: 64 }, (_, index) => `10.0.0.${index}`);
  assert.equal((await send(tenantId, { allowed_ips: most })).status, 201);
});

test('changed networks hold for the next request, and within a second elsewhere', async () => {
  const tenantId = await newTenant();
  const { id, key } = await newKey(null, tenantId);
  await behindProxy.access.lifecycle.start();
  assert.equal((await from('192.0.2.1', key)).status, 200);
  const address = `${tenants}/${tenantId}/keys/${id}`;
  const change = async (allowedIps: readonly string[] | null): Promise<ApiKeyObject> => {
    const answer = await plane.admin('PATCH', address, { body: { allowed_ips: allowedIps } });
    assert.equal(answer.status, 200, answer.text);
    return apiKey.strict().parse(answer.body);
  };
  assert.deepEqual((await change(['198.51.100.0/24'])).allowed_ips, ['198.51.100.0/24']);
  expectError(await plane.open('GET', '/v1/keys', { key }), 403, 'ip_not_allowed');
  const startedAt = performance.now();
  while ((await from('192.0.2.1', key)).status !== 403) {
    assert.ok(performance.now() - startedAt < 1000);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await change(null);
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
});

test('a key grants use from nowhere where it may not be used itself', async () => {
  const tenantId = await newTenant();
  const narrow = await newKey(['127.0.0.0/8', '2001:db8::/32'], tenantId);
  const make = (allowedIps?: readonly string[] | null): Promise<Answer> =>
    plane.open('POST', '/v1/keys', {
      key: narrow.key,
      body: { name: 'a', role: 'viewer', ...(allowedIps === undefined ? {} : { allowed_ips: allowedIps }) },
    });
  for (const wider of [
    undefined,
    null,
    ['0.0.0.0/0'],
    ['127.0.0.0/7'],
    ['127.0.0.1', '10.0.0.1'],
    ['::/0'],
  ]) {
    const answer = await make(wider);
    if (wider?.[0] === '127.0.0.0/7') expectError(answer, 400, 'invalid_request');
    else expectError(answer, 403, 'permission_denied');
  }
  const within = await make(['127.1.0.0/16', '2001:db8:1::1', '127.0.0.0/8']);
  assert.equal(within.status, 201, within.text);
  const { id } = createdApiKey.parse(within.body);
  const widen = { key: narrow.key, body: { allowed_ips: null } };
  for (const keyId of [id, narrow.id])
    expectError(await plane.open('PATCH', `/v1/keys/${keyId}`, widen), 403, 'permission_denied');
});

test('a stored network that cannot be read admits nobody', async () => {
  const { id, key } = await newKey(['127.0.0.0/8']);
  await database.db.withSystem('key-last-use', (tx) =>
    sql`update tenant.api_keys set allowed_ips = '{"0.0.0.0/99"}' where key_id = ${id}`.execute(tx),
  );
  expectError(await plane.open('GET', '/v1/keys', { key }), 403, 'ip_not_allowed');
});
