import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { apiKey, createdApiKey, listOf, tenant, type TenantObject } from '@stoa/contracts';
import { sql } from 'kysely';
import { systemGrants } from '#db';
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

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  plane = await openControlPlane(database.db, { clock });
});

after(async () => {
  await plane.close();
  await database.close();
});

const path = '/control/v1/tenants';
const dayMs = 24 * 60 * 60 * 1000;
const unknownId = 'ten_01h455vb4pex5vsknk084sn02q';

async function create(name: string): Promise<TenantObject> {
  const answer = await plane.admin('POST', path, { body: { name } });
  assert.equal(answer.status, 201, answer.text);
  return tenant.parse(answer.body);
}

async function change(id: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  return plane.admin('PATCH', `${path}/${id}`, { body, headers });
}

async function keyOf(tenantId: string): Promise<string> {
  const answer = await plane.admin('POST', `${path}/${tenantId}/keys`, {
    body: { name: 'key', role: 'admin' },
  });
  return createdApiKey.parse(answer.body).key;
}

test('a created tenant is active, has its address and version, and reads back the same', async () => {
  const answer = await plane.admin('POST', path, { body: { name: 'Acme' } });
  assert.equal(answer.status, 201);
  const created = tenant.strict().parse(answer.body);
  assert.deepEqual([created.state, created.version, created.name], ['active', 1, 'Acme']);
  assert.equal(answer.headers['location'], `${path}/${created.id}`);
  assert.equal(answer.headers['etag'], '"1"');
  const read = await plane.admin('GET', `${path}/${created.id}`);
  assert.equal(read.status, 200);
  assert.deepEqual(tenant.strict().parse(read.body), created);
});

test('two tenants may have the same name', async () => {
  const [first, second] = [await create('Twin'), await create('Twin')];
  assert.notEqual(first.id, second.id);
});

test('a name that can be stored comes back byte for byte, and one that cannot is refused with its code', async () => {
  const naughty = [
    "Robert'); DROP TABLE tenant.tenants;--",
    '‮mirrored‬',
    ' leading and trailing ',
    '👩‍👩‍👧‍👦',
    'Ω≈ç√∫˜µ≤≥÷',
    '\u{1F4A9}\uFEFF\u0001\u001F\u007F\u0085',
    '田中さんにあげて下さい',
    'e\u0301 is not \u00e9',
    '__proto__',
    'null',
    'a\r\nb\tc',
    '${jndi:ldap://x}',
    'x'.repeat(200),
  ];
  for (const name of naughty) {
    const created = await create(name);
    const read = tenant.parse((await plane.admin('GET', `${path}/${created.id}`)).body);
    assert.deepEqual(Buffer.from(read.name), Buffer.from(name));
  }
  for (const name of ['a\u0000b', '\ud800', 'x\udc00y']) {
    const answer = await plane.admin('POST', path, { rawBody: `{"name":${JSON.stringify(name)}}` });
    assert.deepEqual(
      [answer.status, errorIn(answer).code, errorIn(answer).param],
      [400, 'invalid_text', 'name'],
    );
  }
});

test('a body that is no tenant is refused and names the field at fault', async () => {
  for (const [body, param] of [
    [{}, 'name'],
    [{ name: '' }, 'name'],
    [{ name: 7 }, 'name'],
    [{ name: 'x'.repeat(201) }, 'name'],
    [{ name: 'x', state: 'deleted' }, null],
    [[], null],
  ] as const) {
    const answer = await plane.admin('POST', path, { body });
    assert.deepEqual(
      [answer.status, errorIn(answer).code, errorIn(answer).param],
      [400, 'invalid_request', param],
    );
  }
});

test('tenants are listed newest first, in pages that neither repeat nor miss one, by state if asked', async () => {
  const made = [];
  for (let index = 0; index < 5; index++) made.push(await create(`listed ${index}`));
  const [, , third] = made;
  assert.ok(third);
  await change(third.id, { state: 'suspended' });
  const seen: string[] = [];
  let after = '';
  for (;;) {
    const answer = await plane.admin('GET', `${path}?limit=2${after}`);
    assert.equal(answer.status, 200);
    const page = listOf(tenant).strict().parse(answer.body);
    assert.ok(page.data.length <= 2);
    assert.equal(page.first_id, page.data.at(0)?.id ?? null);
    assert.equal(page.last_id, page.data.at(-1)?.id ?? null);
    seen.push(...page.data.map(({ id }) => id));
    if (!page.has_more) break;
    after = `&after=${page.last_id ?? ''}`;
  }
  assert.equal(new Set(seen).size, seen.length);
  assert.deepEqual(seen.slice(0, 5), made.map(({ id }) => id).reverse());
  const suspended = listOf(tenant).parse(
    (await plane.admin('GET', `${path}?state=suspended&limit=100`)).body,
  );
  assert.ok(suspended.data.some(({ id }) => id === third.id));
  assert.ok(suspended.data.every(({ state }) => state === 'suspended'));
});

test('a list with a limit, place or state that is none is refused', async () => {
  for (const query of ['limit=0', 'limit=101', 'limit=x', 'after=nothing', 'state=gone']) {
    const answer = await plane.admin('GET', `${path}?${query}`);
    assert.deepEqual([answer.status, errorIn(answer).code], [400, 'invalid_request'], query);
  }
});

test('a tenant that never was is not found, and an id of another form is refused', async () => {
  for (const [method, body] of [
    ['GET', undefined],
    ['PATCH', { name: 'x' }],
    ['DELETE', undefined],
  ] as const) {
    const missing = await plane.admin(method, `${path}/${unknownId}`, body === undefined ? {} : { body });
    assert.deepEqual([missing.status, errorIn(missing).code], [404, 'not_found']);
    const odd = await plane.admin(
      method,
      `${path}/prj_01h455vb4pex5vsknk084sn02q`,
      body === undefined ? {} : { body },
    );
    assert.deepEqual([odd.status, errorIn(odd).code], [400, 'invalid_request']);
  }
});

test('a change moves the version on, one that changes nothing leaves it, an empty one is refused', async () => {
  const { id } = await create('before');
  const renamed = await change(id, { name: 'after' });
  assert.equal(renamed.status, 200);
  assert.deepEqual([tenant.parse(renamed.body).name, tenant.parse(renamed.body).version], ['after', 2]);
  assert.equal(renamed.headers['etag'], '"2"');
  assert.equal(tenant.parse((await change(id, { name: 'after', state: 'active' })).body).version, 2);
  for (const body of [{}, { reason: 'alone' }, { state: 'deleted' }, { name: null }, { plan: 'big' }]) {
    const answer = await change(id, body);
    assert.deepEqual([answer.status, errorIn(answer).code], [400, 'invalid_request']);
  }
  const odd = await plane.admin('PATCH', `${path}/${id}`, { rawBody: '{"name":"\\u0000"}' });
  assert.deepEqual([odd.status, errorIn(odd).code], [400, 'invalid_text']);
});

test('of two who change the same version of a tenant, the second is told', async () => {
  const { id } = await create('contended');
  assert.equal((await change(id, { name: 'first' }, { 'if-match': '"1"' })).status, 200);
  for (const [method, body] of [
    ['PATCH', { name: 'second' }],
    ['DELETE', undefined],
  ] as const) {
    const late = await plane.admin(method, `${path}/${id}`, {
      ...(body === undefined ? {} : { body }),
      headers: { 'if-match': '"1"' },
    });
    assert.deepEqual([late.status, errorIn(late).code], [412, 'version_conflict']);
  }
  const odd = await change(id, { name: 'third' }, { 'if-match': 'the first' });
  assert.deepEqual([odd.status, errorIn(odd).code], [400, 'invalid_request']);
  const answers = await Promise.all(
    Array.from({ length: 5 }, (_, index) => change(id, { name: `racer ${index}` }, { 'if-match': '2' })),
  );
  assert.deepEqual(
    answers.map(({ status }) => status).sort((a, b) => a - b),
    [200, 412, 412, 412, 412],
  );
});

test('a change waits for one that is under way, and is held to what came of it', async (context) => {
  if (database.adapter === 'pglite') {
    context.skip('PGlite runs one transaction at a time');
    return;
  }
  const { id } = await create('held');
  const late = await database.db.withOperator({ operator: 'system:test' }, 'a slow change', async (tx) => {
    await sql`
      update tenant.tenants set version = version + 1 where tenant_id = ${fromTypeId('ten', id)}
    `.execute(tx);
    const answer = change(id, { name: 'late' }, { 'if-match': '"1"' });
    for (let isWaiting = false; !isWaiting; ) {
      const { rows } = await sql`
        select from pg_locks join pg_stat_activity using (pid) where not granted and datname = current_database()
      `.execute(tx);
      isWaiting = rows.length > 0;
    }
    return { answer };
  });
  const answer = await late.answer;
  assert.deepEqual([answer.status, errorIn(answer).code], [412, 'version_conflict']);
});

test('suspending refuses the keys of this tenant at once, resuming lets them in, and no other tenant notices', async () => {
  const [tenantA, tenantB] = [await create('A'), await create('B')];
  const [keyA, keyB] = [await keyOf(tenantA.id), await keyOf(tenantB.id)];
  assert.equal((await plane.open('GET', '/v1/keys', { key: keyA })).status, 200);
  const suspended = await change(tenantA.id, { state: 'suspended', reason: 'unpaid' });
  assert.ok(tenant.parse(suspended.body).suspended_at !== null);
  const refused = await plane.open('GET', '/v1/keys', { key: keyA });
  assert.deepEqual([refused.status, errorIn(refused).code], [403, 'tenant_suspended']);
  assert.equal((await plane.open('GET', '/v1/keys', { key: keyB })).status, 200);
  const resumed = tenant.parse((await change(tenantA.id, { state: 'active' })).body);
  assert.deepEqual([resumed.state, resumed.suspended_at], ['active', null]);
  assert.equal((await plane.open('GET', '/v1/keys', { key: keyA })).status, 200);
});

test('a deleted tenant is gone for its keys, stays for the operator, and can be restored for 30 days', async () => {
  const { id } = await create('short-lived');
  const key = await keyOf(id);
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
  const answer = await plane.admin('DELETE', `${path}/${id}`);
  assert.equal(answer.status, 200);
  const deleted = tenant.strict().parse(answer.body);
  assert.equal(deleted.state, 'deleted');
  assert.equal(Date.parse(deleted.purge_after ?? ''), clock.now() + 30 * dayMs);
  assert.deepEqual(tenant.parse((await plane.admin('DELETE', `${path}/${id}`)).body), deleted);
  const refused = await plane.open('GET', '/v1/keys', { key });
  const unknown = await plane.open('GET', '/v1/keys', { key: 'stoa_sk_nothing' });
  assert.equal(refused.status, 401);
  assert.equal(refused.text, unknown.text);
  for (const body of [{ name: 'renamed' }, { state: 'suspended' }]) {
    const conflict = await change(id, body);
    assert.deepEqual([conflict.status, errorIn(conflict).code], [409, 'conflict']);
  }
  const restored = tenant.parse((await change(id, { state: 'active', name: 'back' })).body);
  assert.deepEqual(
    [restored.state, restored.deleted_at, restored.purge_after, restored.name],
    ['active', null, null, 'back'],
  );
  assert.equal((await plane.open('GET', '/v1/keys', { key })).status, 200);
});

test('creating a tenant twice with one Idempotency-Key makes one tenant', async () => {
  const headers = { 'idempotency-key': 'one-tenant' };
  const first = await plane.admin('POST', path, { body: { name: 'once' }, headers });
  const second = await plane.admin('POST', path, { body: { name: 'once' }, headers });
  assert.deepEqual([first.status, second.status], [201, 201]);
  assert.equal(first.text, second.text);
  assert.equal(second.headers['location'], first.headers['location']);
  const other = await plane.admin('POST', path, { body: { name: 'other' }, headers });
  assert.deepEqual([other.status, errorIn(other).code], [409, 'idempotency_conflict']);
});

test('without the operator key nothing of tenants is answered, and a tenant key is none', async () => {
  const { id } = await create('closed');
  const key = await keyOf(id);
  for (const credential of [key, "' OR 1=1 --", 'stoa_op_00aaaaaaaaaa_bbbb']) {
    for (const [method, address] of [
      ['GET', path],
      ['POST', path],
      ['GET', `${path}/${id}`],
      ['DELETE', `${path}/${id}`],
    ] as const) {
      const answer = await plane.admin(method, address, { key: credential });
      assert.deepEqual([answer.status, errorIn(answer).code], [401, 'invalid_api_key']);
    }
  }
});

async function rowsOf(tenantId: string): Promise<number> {
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'count', (tx) =>
    sql<{ count: bigint }>`
      select (select count(*) from tenant.tenants where tenant_id = ${tenantId})
           + (select count(*) from tenant.api_keys where tenant_id = ${tenantId})
           + (select count(*) from tenant.idempotency_keys where tenant_id = ${tenantId}) as count
    `.execute(tx),
  );
  return Number(rows[0]?.count);
}

test('when the grace is over a deleted tenant loses its rows in every table, nothing restores it, others keep theirs', async () => {
  const [doomed, kept] = [await create('doomed'), await create('kept')];
  for (const { id } of [doomed, kept]) {
    const key = await keyOf(id);
    const made = await plane.open('POST', '/v1/keys', {
      key,
      body: { name: 'second', role: 'viewer' },
      headers: { 'idempotency-key': 'k' },
    });
    assert.equal(made.status, 201);
  }
  const [doomedId, keptId] = [fromTypeId('ten', doomed.id) ?? '', fromTypeId('ten', kept.id) ?? ''];
  assert.equal(await rowsOf(doomedId), 4);
  await plane.admin('DELETE', `${path}/${doomed.id}`);
  clock.advance(30 * dayMs - 1);
  assert.equal(await plane.tenants.api.purge(), 0);
  assert.equal(await rowsOf(doomedId), 4);
  clock.advance(1);
  await plane.access.api.readChanges();
  const late = await change(doomed.id, { state: 'active' });
  assert.deepEqual([late.status, errorIn(late).code], [409, 'conflict']);
  const purges = await Promise.all([plane.tenants.api.purge(), plane.tenants.api.purge()]);
  assert.ok(purges[0] + purges[1] >= 1);
  assert.equal(await rowsOf(doomedId), 0);
  assert.equal(await rowsOf(keptId), 4);
  assert.equal((await plane.admin('GET', `${path}/${doomed.id}`)).status, 404);
  assert.equal(await plane.tenants.api.purge(), 0);
});

test('a purge that has begun is finished, even for a process whose clock is behind', async () => {
  const { id } = await create('half purged');
  await plane.admin('DELETE', `${path}/${id}`);
  const tenantId = fromTypeId('ten', id) ?? '';
  await database.db.withSystem('purge', (tx) =>
    sql`update tenant.tenants set purge_started_at = now() where tenant_id = ${tenantId}`.execute(tx),
  );
  const answer = await change(id, { state: 'active' });
  assert.deepEqual([answer.status, errorIn(answer).code], [409, 'conflict']);
});

test('the purge knows every table that holds rows of tenants', async () => {
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'catalog', (tx) =>
    sql<{ name: string }>`
      select nspname || '.' || relname as name
      from pg_class join pg_namespace on pg_namespace.oid = relnamespace
      where nspname = 'tenant' and relkind in ('r', 'p') and not relispartition
    `.execute(tx),
  );
  const grants: Readonly<Record<string, readonly string[]>> = systemGrants.purge;
  assert.ok(rows.length >= 3);
  for (const { name } of rows) {
    // The audit outlives the tenant, until its retention is over.
    if (name === 'tenant.audit_entries') continue;
    assert.ok(grants[name]?.includes('delete'), `${name} is missing from the purge's list`);
    assert.ok(grants[name]?.includes('select'), `${name} cannot be read by the purge`);
  }
  assert.deepEqual(
    Object.keys(grants).filter((table) => !rows.some(({ name }) => name === table)),
    [],
  );
});

test('what the operator did to a tenant is in the audit entries, with the reason that was given', async () => {
  const { id } = await create('audited');
  await change(id, { state: 'suspended', reason: 'three unpaid invoices' });
  const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
    sql<{ reason: string; request_id: string | null }>`
      select reason, request_id from platform.operator_audit_entries
      where tenant_id = ${fromTypeId('ten', id)} order by entry_id
    `.execute(tx),
  );
  assert.deepEqual(
    rows.map(({ reason }) => reason),
    ['tenants.create', 'tenants.change to suspended: three unpaid invoices'],
  );
  assert.ok(rows.every(({ request_id }) => request_id?.startsWith('req_')));
});

test('a key of one tenant is not found under another', async () => {
  const [tenantA, tenantB] = [await create('A'), await create('B')];
  const made = await plane.admin('POST', `${path}/${tenantA.id}/keys`, {
    body: { name: 'a', role: 'viewer' },
  });
  const { id } = apiKey.parse(made.body);
  const crossed = await plane.admin('GET', `${path}/${tenantB.id}/keys/${id}`);
  assert.deepEqual([crossed.status, errorIn(crossed).code], [404, 'not_found']);
});
