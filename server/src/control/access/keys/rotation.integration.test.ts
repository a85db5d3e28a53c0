import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { apiKey, type ApiKeyObject, createdApiKey, listOf, tenant, tenantKeyPattern } from '@stoa/contracts';
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
import { hashOfKey } from '../key-format.ts';

let database: TestDatabase;
let plane: ControlPlane;
let clock: ManualClock;
/** The clock moves by days here, and no poll runs. */
const aged = { maximumAgeMs: Number.POSITIVE_INFINITY };
const masterKey = new Uint8Array(32).fill(7);

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  plane = await openControlPlane(database.db, { clock, masterKey, access: aged });
});

after(async () => {
  await plane.close();
  await database.close();
});

type MadeKey = ApiKeyObject & { readonly key: string };

const tenants = '/control/v1/tenants';
const hourMs = 60 * 60 * 1000;
const dayMs = 24 * hourMs;
const at = (ms: number): string => new Date(clock.now() + ms).toISOString();

async function newTenant(): Promise<string> {
  return tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Acme' } })).body).id;
}

async function newKey(tenantId: string, body: object = {}): Promise<MadeKey> {
  const answer = await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
    body: { name: 'key', role: 'admin', ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return createdApiKey.parse(answer.body);
}

async function rotate(key: string, id: string, body: object = {}): Promise<Answer> {
  return plane.open('POST', `/v1/keys/${id}/rotate`, { key, body });
}

function rotated(answer: Answer): MadeKey {
  assert.equal(answer.status, 200, answer.text);
  return createdApiKey.strict().parse(answer.body);
}

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

async function statusOf(key: string, where: ControlPlane = plane): Promise<number> {
  return (await where.open('GET', '/v1/keys', { key })).status;
}

async function until(isSo: () => Promise<boolean>, limitMs: number): Promise<void> {
  const startedAt = performance.now();
  while (!(await isSo())) {
    assert.ok(performance.now() - startedAt < limitMs, `not so within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('a rotated key keeps its id and all it may do, and both secrets work until the overlap ends', async () => {
  const tenantId = await newTenant();
  const first = await newKey(tenantId, { project_id: null, tags: { a: 'b' }, expires_at: at(90 * dayMs) });
  assert.equal(await statusOf(first.key), 200);
  clock.advance(1000);
  const answer = await rotate(first.key, first.id, { overlap_seconds: 3600 });
  const second = rotated(answer);
  assert.match(second.key, tenantKeyPattern);
  assert.notEqual(second.key, first.key);
  assert.equal(answer.headers['etag'], '"2"');
  const { key: _first, ...before } = first;
  const { key: _second, ...now } = second;
  assert.deepEqual(now, {
    ...before,
    version: 2,
    last_four: second.key.slice(-4),
    updated_at: now.updated_at,
    last_used_at: now.last_used_at,
    rotated_at: at(0),
    previous_secret_expires_at: at(hourMs),
  });
  assert.deepEqual([await statusOf(first.key), await statusOf(second.key)], [200, 200]);
  clock.advance(hourMs - 1);
  assert.deepEqual([await statusOf(first.key), await statusOf(second.key)], [200, 200]);
  clock.advance(1);
  expectError(await plane.open('GET', '/v1/keys', { key: first.key }), 401, 'key_expired');
  assert.equal(await statusOf(second.key), 200);
  const read = apiKey.parse((await plane.open('GET', `/v1/keys/${first.id}`, { key: second.key })).body);
  assert.equal(read.previous_secret_expires_at, null);
});

test('without an overlap the secret that was is refused at once', async () => {
  const first = await newKey(await newTenant());
  assert.equal(await statusOf(first.key), 200);
  const second = rotated(await rotate(first.key, first.id, { overlap_seconds: 0 }));
  expectError(await plane.open('GET', '/v1/keys', { key: first.key }), 401, 'key_expired');
  assert.equal(await statusOf(second.key), 200);
  assert.equal(second.previous_secret_expires_at, null);
});

test('of a key that is rotated twice no more than two secrets live', async () => {
  const first = await newKey(await newTenant());
  const second = rotated(await rotate(first.key, first.id, { overlap_seconds: 3600 }));
  const third = rotated(await rotate(second.key, first.id, { overlap_seconds: 3600 }));
  expectError(await plane.open('GET', '/v1/keys', { key: first.key }), 401, 'invalid_api_key');
  assert.deepEqual([await statusOf(second.key), await statusOf(third.key)], [200, 200]);
  const answers = await Promise.all([1, 2].map(() => rotate(third.key, first.id, { overlap_seconds: 3600 })));
  const [fourth, fifth] = answers.map(rotated).sort((one, other) => one.version - other.version);
  assert.ok(fourth && fifth);
  assert.deepEqual([fourth.version, fifth.version], [4, 5]);
  assert.deepEqual([await statusOf(fourth.key), await statusOf(fifth.key)], [200, 200]);
  for (const { key } of [second, third])
    expectError(await plane.open('GET', '/v1/keys', { key }), 401, 'invalid_api_key');
});

test('a rotation is known in every process within a second, by the poll alone', async () => {
  const real = await openControlPlane(database.db, { masterKey });
  const other = await openControlPlane(database.db, { masterKey });
  try {
    await other.access.lifecycle.start();
    const first = await newKey(await newTenant());
    assert.equal(await statusOf(first.key, other), 200);
    const address = `/v1/keys/${first.id}/rotate`;
    const answer = await real.open('POST', address, { key: first.key, body: { overlap_seconds: 0 } });
    const second = rotated(answer);
    await until(async () => (await statusOf(first.key, other)) === 401, 1000);
    assert.equal(await statusOf(second.key, other), 200);
  } finally {
    await other.close();
    await real.close();
  }
});

test('the operator rotates a key of any tenant, and nobody the key of another tenant', async () => {
  const [own, foreign] = [await newTenant(), await newTenant()];
  const [mine, theirs] = [await newKey(own), await newKey(foreign)];
  const answer = await plane.admin('POST', `${tenants}/${own}/keys/${mine.id}/rotate`, { body: {} });
  const now = rotated(answer);
  assert.equal(now.previous_secret_expires_at, at(dayMs), 'the overlap is a day by default');
  assert.equal(await statusOf(now.key), 200);
  const missing = await rotate(mine.key, '00zzzzzzzzzz');
  expectError(missing, 404, 'not_found');
  for (const id of [theirs.id, '%00', "'%20OR%201=1"])
    assert.equal((await rotate(mine.key, id)).text, missing.text);
  const crossed = await plane.admin('POST', `${tenants}/${own}/keys/${theirs.id}/rotate`, { body: {} });
  assert.equal(crossed.text, missing.text);
  assert.equal(await statusOf(theirs.key), 200);
  expectError(
    await plane.admin('POST', `${tenants}/nothing/keys/${mine.id}/rotate`, { body: {} }),
    400,
    'invalid_request',
  );
});

test('a rotation shows a key, so only who holds all that it grants may rotate it', async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  const narrow = await newKey(tenantId, {
    scopes: ['keys:read', 'keys:write'],
    expires_at: at(hourMs),
    allowed_ips: ['127.0.0.0/8'],
  });
  expectError(await rotate(narrow.key, admin.id), 403, 'permission_denied');
  const equal = await newKey(tenantId, { scopes: ['keys:read'], expires_at: at(hourMs) });
  expectError(await rotate(narrow.key, equal.id), 403, 'permission_denied');
  const within = await newKey(tenantId, {
    scopes: ['keys:read'],
    expires_at: at(hourMs),
    allowed_ips: ['127.0.0.1'],
  });
  rotated(await rotate(narrow.key, within.id));
  expectError(await rotate(narrow.key, within.id, { expires_at: at(2 * hourMs) }), 403, 'permission_denied');
  expectError(await rotate(narrow.key, narrow.id, { expires_at: null }), 403, 'permission_denied');
  rotated(await rotate(narrow.key, narrow.id));
  for (const body of [{ role: 'developer' }, { role: 'admin', scopes: ['keys:read'] }]) {
    const { key, id } = await newKey(tenantId, body);
    expectError(await rotate(key, id), 403, 'permission_denied');
  }
  assert.equal(await statusOf(admin.key), 200);
});

test('a revoked key is not rotated; an expired one comes back by a new end, with its new secret alone', async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  const revoked = await newKey(tenantId);
  await plane.open('DELETE', `/v1/keys/${revoked.id}`, { key: admin.key });
  expectError(await rotate(admin.key, revoked.id), 409, 'conflict');
  const expired = await newKey(tenantId, { expires_at: at(hourMs) });
  clock.advance(2 * hourMs);
  expectError(await rotate(admin.key, expired.id), 409, 'conflict');
  expectError(await rotate(admin.key, expired.id, { expires_at: at(-1) }), 400, 'invalid_request');
  const back = rotated(
    await rotate(admin.key, expired.id, { expires_at: at(hourMs), overlap_seconds: 3600 }),
  );
  assert.equal(await statusOf(back.key), 200);
  assert.equal(back.previous_secret_expires_at, null);
  expectError(await plane.open('GET', '/v1/keys', { key: expired.key }), 401, 'key_expired');
  await plane.admin('DELETE', `${tenants}/${tenantId}`);
  expectError(
    await plane.admin('POST', `${tenants}/${tenantId}/keys/${admin.id}/rotate`, { body: {} }),
    409,
    'conflict',
  );
});

test('both secrets of a key that is revoked are told so', async () => {
  const first = await newKey(await newTenant());
  const second = rotated(await rotate(first.key, first.id));
  await plane.open('DELETE', `/v1/keys/${first.id}`, { key: second.key });
  for (const { key } of [first, second])
    expectError(await plane.open('GET', '/v1/keys', { key }), 401, 'key_revoked');
});

test('a body that is no rotation is refused, and so is one for another version', async () => {
  const { id, key } = await newKey(await newTenant());
  for (const body of [
    { overlap_seconds: -1 },
    { overlap_seconds: 30 * 24 * 60 * 60 + 1 },
    { overlap_seconds: 1.5 },
    { overlap_seconds: '60' },
    { overlap_seconds: null },
    { overlap: 60 },
    { expires_at: 'tomorrow' },
    { expires_at: at(0) },
    [],
  ])
    expectError(await rotate(key, id, body), 400, 'invalid_request');
  const late = await plane.open('POST', `/v1/keys/${id}/rotate`, {
    key,
    body: {},
    headers: { 'if-match': '"7"' },
  });
  expectError(late, 412, 'version_conflict');
  assert.equal(await statusOf(key), 200);
});

test('a rotation that is sent again with its Idempotency-Key is the same rotation', async () => {
  const tenantId = await newTenant();
  const { id, key } = await newKey(tenantId);
  const send = (body: object): Promise<Answer> =>
    plane.open('POST', `/v1/keys/${id}/rotate`, { key, body, headers: { 'idempotency-key': 'once' } });
  const first = await send({ overlap_seconds: 60 });
  const again = await send({ overlap_seconds: 60 });
  assert.deepEqual([first.status, again.text], [200, first.text]);
  assert.equal(rotated(again).version, 2);
  expectError(await send({ overlap_seconds: 61 }), 409, 'idempotency_conflict');
  const address = `${tenants}/${tenantId}/keys/${id}/rotate`;
  const byOperator = { body: { overlap_seconds: 60 }, headers: { 'idempotency-key': 'once' } };
  const second = await plane.admin('POST', address, byOperator);
  assert.equal((await plane.admin('POST', address, byOperator)).text, second.text);
  expectError(await plane.admin('POST', address, { ...byOperator, body: {} }), 409, 'idempotency_conflict');
});

test('of a rotated key only two hashes and the last four characters are stored', async () => {
  const first = await newKey(await newTenant());
  const second = rotated(await rotate(first.key, first.id));
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
    sql<{ hash: Uint8Array; previous_hash: Uint8Array; row: string }>`
      select hash, previous_hash, to_jsonb(k)::text as row from tenant.api_keys k where key_id = ${first.id}
    `.execute(tx),
  );
  const [row] = rows;
  assert.ok(row);
  assert.deepEqual(Buffer.from(row.hash), Buffer.from(hashOfKey(second.key)));
  assert.deepEqual(Buffer.from(row.previous_hash), Buffer.from(hashOfKey(first.key)));
  for (const { key } of [first, second])
    for (let start = 21; start + 5 <= 57; start++) assert.ok(!row.row.includes(key.slice(start, start + 5)));
});

test('keys that were neither used nor made for so many days are listed, and none that works no more', async () => {
  const tenantId = await newTenant();
  const old = await newKey(tenantId, { name: 'never used' });
  const used = await newKey(tenantId, { name: 'used long ago' });
  const fresh = await newKey(tenantId, { name: 'used lately' });
  const revoked = await newKey(tenantId, { name: 'revoked' });
  await newKey(tenantId, { name: 'expired', expires_at: at(dayMs) });
  const noteUse = async (id: string): Promise<void> => {
    await database.db.withSystem('key-last-use', (tx) =>
      sql`update tenant.api_keys set last_used_at = ${new Date(clock.now())} where key_id = ${id}`.execute(
        tx,
      ),
    );
  };
  clock.advance(10 * dayMs);
  await noteUse(used.id);
  clock.advance(85 * dayMs);
  await noteUse(fresh.id);
  await plane.admin('DELETE', `${tenants}/${tenantId}/keys/${revoked.id}`);
  const young = await newKey(tenantId, { name: 'young' });
  const names = async (query: string): Promise<string[]> => {
    const answer = await plane.open('GET', `/v1/keys?${query}`, { key: young.key });
    assert.equal(answer.status, 200, answer.text);
    return listOf(apiKey)
      .strict()
      .parse(answer.body)
      .data.map(({ name }) => name);
  };
  assert.deepEqual(await names('unused_days=90'), ['never used']);
  assert.deepEqual((await names('unused_days=85')).sort(), ['never used', 'used long ago']);
  assert.deepEqual(await names('unused_days=3650'), []);
  const first = await plane.admin('GET', `${tenants}/${tenantId}/keys?unused_days=85&limit=1`);
  const page = listOf(apiKey).parse(first.body);
  assert.equal(page.has_more, true);
  const rest = await plane.admin(
    'GET',
    `${tenants}/${tenantId}/keys?unused_days=85&after=${page.last_id ?? ''}`,
  );
  const seen = [...page.data, ...listOf(apiKey).parse(rest.body).data].map(({ id }) => id);
  assert.deepEqual(new Set(seen), new Set([old.id, used.id]));
  for (const query of [
    'unused_days=0',
    'unused_days=x',
    'unused_days=3651',
    'unused_days=9&beyond_policy=true',
  ])
    expectError(await plane.open('GET', `/v1/keys?${query}`, { key: young.key }), 400, 'invalid_request');
});

test('what a rotation told names what changed and holds no secret', async () => {
  const tenantId = await newTenant();
  const first = await newKey(tenantId);
  const second = rotated(await rotate(first.key, first.id));
  const { rows } = await database.db.withTenant({ tenantId: fromTypeId('ten', tenantId) ?? '' }, (tx) =>
    sql<{ data: string }>`select data from tenant.events order by keyversion desc limit 1`.execute(tx),
  );
  const text = rows[0]?.data ?? '';
  assert.match(text, /"changed_fields":\["rotated_at"\]/);
  assert.ok(!text.includes(second.key.slice(21, 40)));
});
