import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  apiKey,
  type ApiKeyObject,
  createdApiKey,
  listOf,
  permissions,
  tenant,
  tenantKeyPattern,
} from '@stoa/contracts';
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
import { checkOf, hashOfKey } from './key-format.ts';

let database: TestDatabase;
let plane: ControlPlane;
let clock: ManualClock;

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  plane = await openControlPlane(database.db, { clock });
});

after(async () => {
  await plane.close();
  await database.close();
});

type MadeKey = ApiKeyObject & { readonly key: string };

const tenants = '/control/v1/tenants';
const hourMs = 60 * 60 * 1000;
const inAnHour = (): string => new Date(clock.now() + hourMs).toISOString();

async function newTenant(): Promise<string> {
  return tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Same name' } })).body).id;
}

async function newKey(tenantId: string, body: object = {}): Promise<MadeKey> {
  const answer = await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
    body: { name: 'key', role: 'admin', ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return createdApiKey.strict().parse(answer.body);
}

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

test('a new key has the documented form, works, and is shown in full only once', async () => {
  const tenantId = await newTenant();
  const answer = await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
    body: {
      name: 'Back end',
      role: 'developer',
      scopes: ['models:read'],
      project_id: 'prj_01h455vb4pex5vsknk084sn02q',
      tags: { team: 'search' },
      expires_at: inAnHour(),
    },
  });
  assert.equal(answer.status, 201);
  const made = createdApiKey.strict().parse(answer.body);
  assert.match(made.key, tenantKeyPattern);
  assert.equal(made.key.slice(8, 20), made.id);
  assert.equal(made.id.slice(0, 2), '00');
  assert.equal(made.key.slice(-4), made.last_four);
  assert.equal(answer.headers['location'], `${tenants}/${tenantId}/keys/${made.id}`);
  assert.deepEqual(
    [made.role, made.scopes, made.version, made.created_by],
    ['developer', ['models:read'], 1, 'operator'],
  );
  const read = await plane.admin('GET', `${tenants}/${tenantId}/keys/${made.id}`);
  assert.equal(read.status, 200);
  const { key, ...rest } = made;
  assert.deepEqual(apiKey.strict().parse(read.body), rest);
  for (const { text } of [read, await plane.admin('GET', `${tenants}/${tenantId}/keys`)]) {
    assert.ok(!text.includes(key) && !text.includes(key.slice(21, 51)));
  }
});

test('of a key only its hash and its last four characters are stored', async () => {
  const made = await newKey(await newTenant());
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
    sql<{ hash: Uint8Array; row: string }>`
      select hash, to_jsonb(k)::text as row from tenant.api_keys k where key_id = ${made.id}
    `.execute(tx),
  );
  const [row] = rows;
  assert.ok(row);
  assert.deepEqual(Buffer.from(row.hash), Buffer.from(hashOfKey(made.key)));
  for (let start = 21; start + 5 <= 57; start++)
    assert.ok(!row.row.includes(made.key.slice(start, start + 5)));
});

test('names, tags and projects come back byte for byte, or are refused with their code', async () => {
  const tenantId = await newTenant();
  const odd = '\'; DROP TABLE x;-- 👩‍👩‍👧 \u202e\r\n\t\\ " e\u0301';
  const tags = Object.fromEntries([
    [odd, odd],
    ['toString', 'x'],
    ['constructor', ''],
  ]);
  const made = await newKey(tenantId, { name: odd, project_id: odd, tags });
  const read = apiKey.parse((await plane.admin('GET', `${tenants}/${tenantId}/keys/${made.id}`)).body);
  assert.equal(read.name, odd);
  assert.equal(read.project_id, odd);
  assert.deepEqual(Object.entries(read.tags), Object.entries(tags));
  for (const body of [
    { name: 'a\u0000', role: 'admin' },
    { name: 'a', role: 'admin', project_id: '\ud800' },
    { name: 'a', role: 'admin', tags: { a: '\u0000' } },
  ]) {
    expectError(await plane.admin('POST', `${tenants}/${tenantId}/keys`, { body }), 400, 'invalid_text');
  }
});

test('a body that is no key is refused', async () => {
  const tenantId = await newTenant();
  const good = { name: 'a', role: 'admin' };
  for (const body of [
    {},
    { name: 'a' },
    { ...good, role: 'operator' },
    { ...good, scopes: [] },
    { ...good, scopes: ['everything'] },
    { ...good, expires_at: 'tomorrow' },
    { ...good, expires_at: new Date(clock.now()).toISOString() },
    { ...good, tags: { a: 1 } },
    { ...good, tags: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`t${index}`, ''])) },
    { ...good, hash: 'x' },
    { ...good, tags: Object.fromEntries([['__proto__', 'x']]) },
  ]) {
    expectError(await plane.admin('POST', `${tenants}/${tenantId}/keys`, { body }), 400, 'invalid_request');
  }
});

test('a tenant that never was, or is deleted, gets no key', async () => {
  const body = { name: 'a', role: 'admin' };
  expectError(
    await plane.admin('POST', `${tenants}/ten_01h455vb4pex5vsknk084sn02q/keys`, { body }),
    404,
    'not_found',
  );
  expectError(await plane.admin('GET', `${tenants}/ten_01h455vb4pex5vsknk084sn02q/keys`), 404, 'not_found');
  expectError(await plane.admin('POST', `${tenants}/nothing/keys`, { body }), 400, 'invalid_request');
  const tenantId = await newTenant();
  await plane.admin('DELETE', `${tenants}/${tenantId}`);
  expectError(await plane.admin('POST', `${tenants}/${tenantId}/keys`, { body }), 409, 'conflict');
});

test("a tenant's admin manages the tenant's keys, and sees who made them", async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  clock.advance(1);
  const answer = await plane.open('POST', '/v1/keys', {
    key: admin.key,
    body: { name: 'mine', role: 'viewer' },
  });
  assert.equal(answer.status, 201);
  const made = createdApiKey.strict().parse(answer.body);
  assert.equal(made.created_by, `key:${admin.id}`);
  assert.equal(answer.headers['location'], `/v1/keys/${made.id}`);
  const read = await plane.open('GET', `/v1/keys/${made.id}`, { key: admin.key });
  assert.equal(apiKey.strict().parse(read.body).name, 'mine');
  const changed = await plane.open('PATCH', `/v1/keys/${made.id}`, {
    key: admin.key,
    body: { name: 'yours' },
  });
  assert.deepEqual([changed.status, apiKey.parse(changed.body).version], [200, 2]);
  const revoked = await plane.open('DELETE', `/v1/keys/${made.id}`, { key: admin.key });
  assert.equal(revoked.status, 200);
  assert.ok(apiKey.parse(revoked.body).revoked_at !== null);
  const again = await plane.open('DELETE', `/v1/keys/${made.id}`, { key: admin.key });
  assert.deepEqual(again.body, revoked.body);
  expectError(
    await plane.open('PATCH', `/v1/keys/${made.id}`, { key: admin.key, body: { name: 'x' } }),
    409,
    'conflict',
  );
  const listed = listOf(apiKey)
    .strict()
    .parse((await plane.open('GET', '/v1/keys', { key: admin.key })).body);
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    [made.id, admin.id],
  );
});

test('keys are listed newest first, in pages that neither repeat nor miss one', async () => {
  const tenantId = await newTenant();
  const made: string[] = [];
  for (let index = 0; index < 7; index++) {
    // Some share their millisecond, so that the place in the list can't rest on time alone.
    if (index % 3 === 0) clock.advance(1);
    made.push((await newKey(tenantId)).id);
  }
  const seen: string[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const query: string = after === '' ? '' : `&after=${after}`;
    const answer = await plane.admin('GET', `${tenants}/${tenantId}/keys?limit=3${query}`);
    assert.equal(answer.status, 200, answer.text);
    const page = listOf(apiKey).strict().parse(answer.body);
    seen.push(...page.data.map(({ id }) => id));
    after = page.has_more ? page.last_id : null;
  }
  assert.equal(seen.length, 7);
  assert.deepEqual(new Set(seen), new Set(made));
  for (const query of ['limit=0', 'limit=101', 'after=zz', 'after=00zzzzzzzzzz'])
    expectError(await plane.admin('GET', `${tenants}/${tenantId}/keys?${query}`), 400, 'invalid_request');
  const { key } = await newKey(tenantId);
  for (const query of ['limit=0', 'after=00zzzzzzzzzz'])
    expectError(await plane.open('GET', `/v1/keys?${query}`, { key }), 400, 'invalid_request');
});

test("another tenant's key is answered exactly like a key that never was, at every endpoint", async () => {
  const [own, other] = [await newTenant(), await newTenant()];
  const [admin, foreign] = [await newKey(own), await newKey(other)];
  const missing = '00zzzzzzzzzz';
  const calls = [
    ['GET', undefined],
    ['PATCH', { name: 'taken over' }],
    ['DELETE', undefined],
  ] as const;
  for (const [method, body] of calls) {
    const call = { key: admin.key, ...(body === undefined ? {} : { body }) };
    const ofOther = await plane.open(method, `/v1/keys/${foreign.id}`, call);
    const ofNobody = await plane.open(method, `/v1/keys/${missing}`, call);
    expectError(ofOther, 404, 'not_found');
    assert.equal(ofOther.text, ofNobody.text);
    assert.equal((await plane.open(method, '/v1/keys/%00%00', call)).text, ofNobody.text);
    const operatorCall = body === undefined ? {} : { body };
    const crossed = await plane.admin(method, `${tenants}/${own}/keys/${foreign.id}`, operatorCall);
    assert.equal(crossed.text, ofNobody.text);
  }
  const listed = listOf(apiKey).parse(
    (await plane.open('GET', '/v1/keys?limit=100', { key: admin.key })).body,
  );
  assert.deepEqual(
    listed.data.map(({ id }) => id),
    [admin.id],
  );
  const placed = await plane.open('GET', `/v1/keys?after=${foreign.id}`, { key: admin.key });
  assert.equal(placed.text, (await plane.open('GET', `/v1/keys?after=${missing}`, { key: admin.key })).text);
  const untouched = await plane.admin('GET', `${tenants}/${other}/keys/${foreign.id}`);
  const { key: _key, ...rest } = foreign;
  assert.deepEqual(untouched.body, { ...rest, last_used_at: null });
});

test('of two who change the same version of a key, the second is told', async () => {
  const tenantId = await newTenant();
  const { id } = await newKey(tenantId);
  const admin = await newKey(tenantId);
  const headers = { 'if-match': '"1"' };
  const first = await plane.admin('PATCH', `${tenants}/${tenantId}/keys/${id}`, {
    body: { name: 'a' },
    headers,
  });
  assert.equal(first.headers['etag'], '"2"');
  for (const [method, body] of [
    ['PATCH', { name: 'b' }],
    ['DELETE', undefined],
  ] as const) {
    const call = { headers, ...(body === undefined ? {} : { body }) };
    expectError(
      await plane.admin(method, `${tenants}/${tenantId}/keys/${id}`, call),
      412,
      'version_conflict',
    );
    expectError(
      await plane.open(method, `/v1/keys/${id}`, { ...call, key: admin.key }),
      412,
      'version_conflict',
    );
    const odd = { ...call, headers: { 'if-match': 'x' } };
    expectError(await plane.admin(method, `${tenants}/${tenantId}/keys/${id}`, odd), 400, 'invalid_request');
    expectError(
      await plane.open(method, `/v1/keys/${id}`, { ...odd, key: admin.key }),
      400,
      'invalid_request',
    );
  }
});

test('a change that is none is refused, and a key of a bad form is not found', async () => {
  const tenantId = await newTenant();
  const { id, key } = await newKey(tenantId);
  const address = `${tenants}/${tenantId}/keys`;
  for (const body of [{}, { role: 'king' }, { expires_at: '2001-01-01T00:00:00Z' }, { revoked_at: null }]) {
    expectError(await plane.admin('PATCH', `${address}/${id}`, { body }), 400, 'invalid_request');
    expectError(await plane.open('PATCH', `/v1/keys/${id}`, { key, body }), 400, 'invalid_request');
  }
  expectError(
    await plane.admin('PATCH', `${address}/${id}`, { body: { name: '\u0000' } }),
    400,
    'invalid_text',
  );
  expectError(
    await plane.open('PATCH', `/v1/keys/${id}`, { key, body: { name: '\u0000' } }),
    400,
    'invalid_text',
  );
  expectError(
    await plane.open('POST', '/v1/keys', { key, body: { name: '\u0000', role: 'viewer' } }),
    400,
    'invalid_text',
  );
  expectError(await plane.open('POST', '/v1/keys', { key, body: { name: 'x' } }), 400, 'invalid_request');
  for (const odd of ["' OR 1=1 --", 'x', `${id}0`]) {
    expectError(await plane.admin('GET', `${address}/${encodeURIComponent(odd)}`), 404, 'not_found');
    expectError(await plane.admin('DELETE', `${address}/${encodeURIComponent(odd)}`), 404, 'not_found');
  }
  expectError(await plane.admin('GET', `${address}/${'x'.repeat(101)}`), 400, 'invalid_request');
  expectError(await plane.open('DELETE', `/v1/keys/${'x'.repeat(101)}`, { key }), 400, 'invalid_request');
});

test('developers and viewers, and admins whose scopes leave it out, do not manage keys', async () => {
  const tenantId = await newTenant();
  for (const body of [
    { role: 'developer' },
    { role: 'viewer' },
    { role: 'admin', scopes: ['chat:create'] },
    { role: 'viewer', scopes: ['keys:read', 'keys:write'] },
  ]) {
    const { key, id } = await newKey(tenantId, body);
    expectError(await plane.open('GET', '/v1/keys', { key }), 403, 'permission_denied');
    expectError(await plane.open('DELETE', `/v1/keys/${id}`, { key }), 403, 'permission_denied');
    const make = { key, body: { name: 'a', role: 'viewer' } };
    expectError(await plane.open('POST', '/v1/keys', make), 403, 'permission_denied');
  }
});

test('a key moves no key out of its project, or into another, that may do more than itself', async () => {
  const tenantId = await newTenant();
  const narrow = await newKey(tenantId, { scopes: ['keys:write'] });
  const inProject = await newKey(tenantId, { project_id: 'search' });
  const move = (key: string, projectId: string | null): Promise<Answer> =>
    plane.open('PATCH', `/v1/keys/${inProject.id}`, { key, body: { project_id: projectId } });
  for (const projectId of [null, 'other'])
    expectError(await move(narrow.key, projectId), 403, 'permission_denied');
  const strong = await newKey(tenantId);
  const moved = await move(strong.key, null);
  assert.deepEqual([moved.status, apiKey.parse(moved.body).project_id], [200, null]);
});

test('a key grants no more than it holds: neither a role, nor a scope, nor a longer life', async () => {
  const tenantId = await newTenant();
  const scopes = ['keys:read', 'keys:write', 'models:read'];
  const narrow = await newKey(tenantId, { scopes, expires_at: inAnHour() });
  const make = async (body: object): Promise<Answer> =>
    plane.open('POST', '/v1/keys', { key: narrow.key, body: { name: 'a', ...body } });
  const later = new Date(clock.now() + 2 * hourMs).toISOString();
  const expiresAt = narrow.expires_at;
  for (const body of [
    { role: 'admin', expires_at: expiresAt },
    { role: 'viewer', expires_at: expiresAt },
    { role: 'developer', scopes: ['chat:create'], expires_at: expiresAt },
    { role: 'admin', scopes: [...scopes, 'policy:write'], expires_at: expiresAt },
    { role: 'admin', scopes: ['models:read'] },
    { role: 'admin', scopes: ['models:read'], expires_at: later },
  ]) {
    expectError(await make(body), 403, 'permission_denied');
  }
  const allowed = await make({ role: 'admin', scopes: ['models:read', 'keys:read'], expires_at: expiresAt });
  assert.equal(allowed.status, 201, allowed.text);
  // What a role doesn't allow is granted by no scope, so it is nothing to grant.
  assert.equal((await make({ role: 'viewer', scopes: ['models:read'], expires_at: expiresAt })).status, 201);
  const strong = await newKey(tenantId);
  for (const [id, body] of [
    [narrow.id, { scopes: null }],
    [narrow.id, { expires_at: null }],
    [narrow.id, { expires_at: later }],
    [strong.id, { expires_at: expiresAt }],
    [apiKey.parse(allowed.body).id, { scopes: [...permissions] }],
  ] as const) {
    expectError(
      await plane.open('PATCH', `/v1/keys/${id}`, { key: narrow.key, body }),
      403,
      'permission_denied',
    );
  }
  const renamed = await plane.open('PATCH', `/v1/keys/${strong.id}`, {
    key: narrow.key,
    body: { name: 'b' },
  });
  assert.equal(renamed.status, 200);
});

test('a changed role, scope or expiry holds for the next request', async () => {
  const tenantId = await newTenant();
  const { id, key } = await newKey(tenantId);
  const address = `${tenants}/${tenantId}/keys/${id}`;
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
  await plane.admin('PATCH', address, { body: { role: 'viewer' } });
  expectError(await plane.open('GET', '/v1/keys', { key }), 403, 'permission_denied');
  await plane.admin('PATCH', address, { body: { role: 'admin', scopes: ['keys:read'] } });
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
  expectError(await plane.open('DELETE', `/v1/keys/${id}`, { key }), 403, 'permission_denied');
  await plane.admin('PATCH', address, { body: { scopes: null, expires_at: inAnHour() } });
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
  clock.advance(hourMs);
  await plane.access.api.readChanges();
  expectError(await plane.open('GET', '/v1/keys', { key }), 401, 'key_expired');
  await plane.admin('PATCH', address, { body: { expires_at: null } });
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
});

test('making a key twice with one Idempotency-Key makes one key, whose plaintext rests sealed', async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  const headers = { 'idempotency-key': 'the-same' };
  const make = async (body: object): Promise<Answer> =>
    plane.open('POST', '/v1/keys', { key: admin.key, headers, body: { role: 'viewer', ...body } });
  const first = await make({ name: 'once' });
  const second = await make({ name: 'once' });
  assert.deepEqual([first.status, second.status], [201, 201]);
  assert.equal(first.text, second.text);
  expectError(await make({ name: 'another' }), 409, 'idempotency_conflict');
  const { rows } = await database.db.withTenant({ tenantId: fromTypeId('ten', tenantId) ?? '' }, (tx) =>
    sql<{ answer: string }>`select answer from tenant.idempotency_keys`.execute(tx),
  );
  assert.equal(rows.length, 1);
  const { key } = createdApiKey.parse(first.body);
  assert.ok(rows[0] && !rows[0].answer.includes(key.slice(21, 30)));
  const other = await newKey(tenantId);
  const ofOther = await plane.open('POST', '/v1/keys', {
    key: other.key,
    headers,
    body: { name: 'once', role: 'viewer' },
  });
  assert.notEqual(createdApiKey.parse(ofOther.body).key, key);
  const operator = await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
    headers,
    body: { name: 'once', role: 'viewer' },
  });
  assert.equal(operator.status, 201);
  expectError(
    await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
      headers,
      body: { name: 'two', role: 'viewer' },
    }),
    409,
    'idempotency_conflict',
  );
});

test('no error body holds a hash, a table, a statement or a stack', async () => {
  const tenantId = await newTenant();
  const { id, key } = await newKey(tenantId);
  const unchecked = `stoa_sk_${id}_${'0'.repeat(30)}`;
  const hash = Buffer.from(hashOfKey(key));
  const answers = [
    await plane.open('GET', '/v1/keys', { key: "' OR 1=1 --" }),
    await plane.open('GET', '/v1/keys', { key: unchecked + checkOf(unchecked) }),
    await plane.open('GET', "/v1/keys/'%20OR%201=1", { key }),
    await plane.open('POST', '/v1/keys', { key, rawBody: '{"name":"\\u0000","role":"admin"}' }),
    await plane.open('GET', '/v1/keys?after=%00', { key }),
    await plane.admin('GET', `${tenants}?after=%00`),
    await plane.admin('GET', `${tenants}/${tenantId}/keys?after=%27`),
    await plane.admin('PATCH', `${tenants}/${tenantId}`, {
      body: { name: 'x' },
      headers: { 'if-match': '"99"' },
    }),
  ];
  for (const { status, text } of answers) {
    assert.ok(status >= 400 && status < 500, text);
    for (const secret of [
      hash.toString('hex'),
      hash.toString('base64'),
      'api_keys',
      'tenant.',
      'select',
      '.ts',
      'node:',
    ])
      assert.ok(!text.includes(secret), `${secret} in ${text}`);
  }
});
