import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { auditEntry, createdApiKey, listOf, tenant } from '@stoa/contracts';
import { type ControlPlane, errorIn, openControlPlane, openTestDatabase, type TestDatabase } from '#testing';

let database: TestDatabase;
let plane: ControlPlane;

before(async () => {
  database = await openTestDatabase();
  plane = await openControlPlane(database.db);
});

after(async () => {
  await plane.close();
  await database.close();
});

const page = listOf(auditEntry).strict();

async function newTenant(): Promise<string> {
  return tenant.parse((await plane.admin('POST', '/control/v1/tenants', { body: { name: 'x' } })).body).id;
}

test('each passage of the operator leaves an entry with who, what, whom and by which request, newest first', async () => {
  const id = await newTenant();
  const suspended = await plane.admin('PATCH', `/control/v1/tenants/${id}`, {
    body: { state: 'suspended', reason: 'abuse, ‮see ticket 7' },
  });
  const answer = await plane.admin('GET', `/control/v1/audit?tenant_id=${id}`);
  assert.equal(answer.status, 200);
  const { data } = page.parse(answer.body);
  assert.deepEqual(
    data.map(({ reason }) => reason),
    ['tenants.change to suspended: abuse, ‮see ticket 7', 'tenants.create'],
  );
  assert.equal(data[0]?.request_id, suspended.headers['x-request-id']);
  assert.equal(data[0]?.tenant_id, id);
  assert.equal(data[0]?.operator, plane.operatorKey.slice(8, 20));
});

test("one tenant's entries are listed without another's", async () => {
  const [a, b] = [await newTenant(), await newTenant()];
  const { data } = page.parse((await plane.admin('GET', `/control/v1/audit?tenant_id=${a}`)).body);
  assert.ok(data.length > 0 && data.every(({ tenant_id }) => tenant_id === a));
  assert.ok(a !== b);
});

test('pages neither repeat nor miss an entry', async () => {
  for (let index = 0; index < 5; index++) await newTenant();
  const newest = Number(page.parse((await plane.admin('GET', '/control/v1/audit?limit=1')).body).first_id);
  const seen: number[] = [];
  let after = newest;
  for (;;) {
    const found = page.parse((await plane.admin('GET', `/control/v1/audit?limit=2&after=${after}`)).body);
    seen.push(...found.data.map(({ id }) => Number(id)));
    if (!found.has_more || found.last_id === null) break;
    after = Number(found.last_id);
  }
  assert.deepEqual(
    seen,
    Array.from({ length: newest - 1 }, (_, index) => newest - 1 - index),
  );
});

test('a query that is none is refused', async () => {
  for (const query of ['after=x', 'after=-1', 'after=99999999999999999999', 'limit=0', 'tenant_id=x']) {
    const answer = await plane.admin('GET', `/control/v1/audit?${query}`);
    assert.deepEqual([answer.status, errorIn(answer).code], [400, 'invalid_request'], query);
  }
  const largest = await plane.admin('GET', '/control/v1/audit?after=9223372036854775807');
  assert.equal(largest.status, 200);
});

test('no tenant reads the audit entries, on either listener', async () => {
  const id = await newTenant();
  const made = await plane.admin('POST', `/control/v1/tenants/${id}/keys`, {
    body: { name: 'k', role: 'admin' },
  });
  const { key } = createdApiKey.parse(made.body);
  assert.equal((await plane.admin('GET', '/control/v1/audit', { key })).status, 401);
  assert.equal((await plane.open('GET', '/control/v1/audit', { key })).status, 404);
});
