/** Members through both listeners, and what their keys may do in another process. */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createdApiKey, listOf, member, type MemberObject, tenant } from '@stoa/contracts';
import { sql } from 'kysely';
import type { z } from 'zod';
import { fromTypeId, systemClock } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';

let database: TestDatabase;
let here: ControlPlane;
let elsewhere: ControlPlane;
/** Where issuers can be configured. */
let withOutbound: ControlPlane;

before(async () => {
  database = await openTestDatabase();
  here = await openControlPlane(database.db);
  elsewhere = await openControlPlane(database.db);
  const fault = { kind: 'unreachable', code: null, detail: 'away' } as const;
  const call = async () => ({ outcome: 'failed', fault }) as const;
  withOutbound = await openControlPlane(database.db, { outbound: { check: () => null, call } });
  await elsewhere.access.lifecycle.start();
});

after(async () => {
  await here.close();
  await elsewhere.close();
  await withOutbound.close();
  await database.close();
});

type MadeKey = z.output<typeof createdApiKey>;

async function newTenant(): Promise<string> {
  return tenant.parse((await here.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } })).body).id;
}

async function newKey(tenantId: string, body: object = {}): Promise<MadeKey> {
  const path = `/control/v1/tenants/${tenantId}/keys`;
  const answer = await here.admin('POST', path, { body: { name: 'key', role: 'admin', ...body } });
  assert.equal(answer.status, 201, answer.text);
  return createdApiKey.parse(answer.body);
}

async function newMember(tenantId: string, body: object = {}): Promise<MemberObject> {
  const answer = await here.admin('POST', `/control/v1/tenants/${tenantId}/members`, {
    body: { name: 'Ada', role: 'admin', ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return member.strict().parse(answer.body);
}

function outcome(answer: Answer): string {
  return answer.status < 400 ? String(answer.status) : `${answer.status} ${errorIn(answer).code}`;
}

async function within1s(find: () => Promise<string>, wanted: string): Promise<string> {
  const untilMs = systemClock.monotonic() + 1000;
  for (;;) {
    const found = await find();
    if (found === wanted || systemClock.monotonic() > untilMs) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('members are created, listed, read, changed and removed, by the operator and by the tenant itself', async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  const calls = [
    { path: `/control/v1/tenants/${tenantId}/members`, call: here.admin, key: {} },
    { path: '/v1/members', call: here.open, key: { key: admin.key } },
  ];
  for (const { path, call, key } of calls) {
    const body = {
      name: 'Grace Høpper 🚢',
      email: 'grace@example.com',
      external_id: `idp|${path.length}`,
      role: 'viewer',
      projects: [{ project_id: 'search', role: 'developer' }],
    };
    const created = await call('POST', path, { ...key, body, headers: { 'idempotency-key': 'once' } });
    assert.equal(created.status, 201, created.text);
    const made = member.strict().parse(created.body);
    assert.equal(created.headers['location'], `${path}/${made.id}`);
    assert.equal(created.headers['etag'], '"1"');
    assert.deepEqual([made.name, made.projects, made.version], [body.name, body.projects, 1]);
    const repeated = await call('POST', path, { ...key, body, headers: { 'idempotency-key': 'once' } });
    assert.equal(member.parse(repeated.body).id, made.id);
    const page = listOf(member).parse((await call('GET', `${path}?limit=1`, key)).body);
    assert.equal(page.data[0]?.id, made.id);
    const one = `${path}/${made.id}`;
    assert.deepEqual(member.parse((await call('GET', one, key)).body), made);
    const changed = await call('PATCH', one, {
      ...key,
      body: { role: null },
      headers: { 'if-match': '"1"' },
    });
    assert.deepEqual([member.parse(changed.body).role, changed.headers['etag']], [null, '"2"']);
    const late = await call('PATCH', one, {
      ...key,
      body: { role: 'admin' },
      headers: { 'if-match': '"1"' },
    });
    assert.equal(outcome(late), '412 version_conflict');
    assert.equal(
      outcome(await call('PATCH', one, { ...key, body: { projects: [] } })),
      '400 invalid_request',
    );
    const removed = member.parse((await call('DELETE', one, key)).body);
    assert.notEqual(removed.removed_at, null);
    assert.equal(member.parse((await call('DELETE', one, key)).body).version, removed.version);
    assert.equal(outcome(await call('PATCH', one, { ...key, body: { role: 'admin' } })), '409 conflict');
  }
});

test("a member's key rotates and widens that member's keys only, makes no issuer, and may still narrow and revoke any", async () => {
  const tenantId = await newTenant();
  const [ada, eve] = [await newMember(tenantId), await newMember(tenantId, { name: 'Eve' })];
  const own = await newKey(tenantId, { member_id: ada.id });
  const another = await newKey(tenantId, { member_id: ada.id, role: 'viewer' });
  const hers = await newKey(tenantId, { member_id: eve.id, role: 'viewer' });
  const nobodys = await newKey(tenantId, { role: 'developer', scopes: ['models:read', 'chat:create'] });
  const { key } = own;
  const rotate = async (id: string): Promise<string> =>
    outcome(await here.open('POST', `/v1/keys/${id}/rotate`, { key, body: {} }));
  const change = async (id: string, body: object): Promise<string> =>
    outcome(await here.open('PATCH', `/v1/keys/${id}`, { key, body }));
  const denied = '403 permission_denied';
  for (const { id } of [hers, nobodys]) {
    assert.equal(await rotate(id), denied);
    assert.equal(await change(id, { role: 'admin', scopes: null }), denied);
  }
  assert.equal(await change(nobodys.id, { scopes: ['models:read', 'embeddings:create'] }), denied);
  assert.equal(await rotate(another.id), '200');
  assert.equal(await change(another.id, { role: 'admin' }), '200');
  assert.equal(await change(nobodys.id, { scopes: ['models:read'] }), '200');
  const soon = new Date(Date.now() + 3_600_000).toISOString();
  const later = new Date(Date.now() + 7_200_000).toISOString();
  const bound = { expires_at: soon, allowed_ips: ['192.0.2.0/24'], project_id: 'p' };
  assert.equal(await change(nobodys.id, bound), '200');
  const wider = [
    { expires_at: later },
    { expires_at: null },
    { allowed_ips: null },
    { allowed_ips: ['192.0.0.0/16'] },
    { project_id: null },
    { project_id: 'q' },
  ];
  for (const body of wider) assert.equal(await change(nobodys.id, body), denied, JSON.stringify(body));
  assert.equal(await change(nobodys.id, { name: 'named', allowed_ips: ['192.0.2.1'] }), '200');
  const issuer = {
    name: 'x',
    issuer: 'https://id.example.test',
    jwks_url: 'https://id.example.test/jwks.json',
    audience: `stoa:${tenantId}`,
    claims: { member: 'sub' },
  };
  const configured = await withOutbound.open('POST', '/v1/issuers', { key, body: issuer });
  assert.equal(outcome(configured), denied);
  assert.equal(outcome(await here.open('DELETE', `/v1/keys/${nobodys.id}`, { key })), '200');
});

test('bad members are refused with the field at fault', async () => {
  const path = `/control/v1/tenants/${await newTenant()}/members`;
  const bodies: readonly object[] = [
    {},
    { name: 'x' },
    { name: '', role: 'admin' },
    { name: 'x', role: 'owner' },
    { name: 'x', role: '__proto__' },
    { name: 'x', role: 'admin', projects: [{ project_id: 'p' }] },
    {
      name: 'x',
      projects: [
        { project_id: 'p', role: 'admin' },
        { project_id: 'p', role: 'viewer' },
      ],
    },
    { name: 'x', role: 'admin', email: 'none' },
    { name: 'x', role: 'admin', extra: 1 },
    { name: 'x'.repeat(201), role: 'admin' },
    { name: 'a\u0000b', role: 'admin' },
    { name: 7, role: 'admin' },
    [],
  ];
  for (const body of bodies) {
    const answer = await here.admin('POST', path, { body });
    assert.equal(answer.status, 400, JSON.stringify(body));
    assert.match(errorIn(answer).code, /^invalid_(request|text)$/);
  }
  const first = await here.admin('POST', path, { body: { name: 'x', role: 'admin', external_id: 'same' } });
  const second = await here.admin('POST', path, { body: { name: 'y', role: 'admin', external_id: 'same' } });
  assert.deepEqual([first.status, outcome(second)], [201, '409 already_exists']);
});

test("a key that belongs to a member holds the narrower of both, in the key's project", async () => {
  const tenantId = await newTenant();
  const both = await newMember(tenantId, {
    role: 'viewer',
    projects: [{ project_id: 'search', role: 'developer' }],
  });
  const roleOf = async (body: object): Promise<string> => {
    const { key } = await newKey(tenantId, { member_id: both.id, ...body });
    return (await elsewhere.access.authenticator.tenant(`Bearer ${key}`, null)).role;
  };
  assert.equal(await roleOf({ role: 'admin' }), 'viewer');
  assert.equal(await roleOf({ role: 'admin', project_id: 'search' }), 'developer');
  assert.equal(await roleOf({ role: 'viewer', project_id: 'search' }), 'viewer');
  assert.equal(await roleOf({ role: 'admin', project_id: 'other' }), 'viewer');
  const path = `/control/v1/tenants/${tenantId}/keys`;
  const inOne = await newMember(tenantId, {
    role: null,
    projects: [{ project_id: 'search', role: 'admin' }],
  });
  const body = { name: 'k', role: 'admin', member_id: inOne.id };
  assert.equal(outcome(await here.admin('POST', path, { body })), '400 invalid_request');
  assert.equal(outcome(await here.admin('POST', path, { body: { ...body, project_id: 'search' } })), '201');
  const ofOther = await newMember(await newTenant());
  for (const id of [ofOther.id, 'mem_00000000000000000000000000'])
    assert.equal(
      outcome(await here.admin('POST', path, { body: { ...body, member_id: id } })),
      '400 invalid_request',
    );
});

test("a change of a member's role narrows, and its removal ends, the member's keys in another process within one second", async () => {
  const tenantId = await newTenant();
  const path = `/control/v1/tenants/${tenantId}/members`;
  const holder = await newMember(tenantId);
  const key = await newKey(tenantId, { member_id: holder.id });
  const other = await newKey(tenantId);
  const read = async (plane: ControlPlane, used = key.key): Promise<string> =>
    outcome(await plane.open('GET', '/v1/members', { key: used }));
  for (const plane of [here, elsewhere]) assert.equal(await read(plane), '200');
  await here.admin('PATCH', `${path}/${holder.id}`, { body: { role: 'developer' } });
  assert.equal(await read(here), '403 permission_denied');
  assert.equal(await within1s(() => read(elsewhere), '403 permission_denied'), '403 permission_denied');
  await here.admin('PATCH', `${path}/${holder.id}`, { body: { role: 'admin' } });
  assert.equal(await within1s(() => read(elsewhere), '200'), '200');
  // A role in another project is none where the key works.
  const elsewhereOnly = { role: null, projects: [{ project_id: 'search', role: 'admin' }] };
  await here.admin('PATCH', `${path}/${holder.id}`, { body: elsewhereOnly });
  assert.equal(await within1s(() => read(elsewhere), '401 key_revoked'), '401 key_revoked');
  await here.admin('PATCH', `${path}/${holder.id}`, { body: { role: 'admin' } });
  assert.equal(await within1s(() => read(elsewhere), '200'), '200');
  await here.admin('DELETE', `${path}/${holder.id}`);
  assert.equal(await read(here), '401 key_revoked');
  assert.equal(await within1s(() => read(elsewhere), '401 key_revoked'), '401 key_revoked');
  assert.equal(await read(elsewhere, other.key), '200');
});

test('a tenant’s key makes no member who may do more than the key, and reaches no member of another tenant', async () => {
  const tenantId = await newTenant();
  const scoped = await newKey(tenantId, { scopes: ['members:write', 'members:read'] });
  const make = async (body: object): Promise<string> =>
    outcome(await here.open('POST', '/v1/members', { key: scoped.key, body: { name: 'x', ...body } }));
  assert.equal(await make({ role: 'admin' }), '403 permission_denied');
  assert.equal(await make({ projects: [{ project_id: 'p', role: 'viewer' }] }), '403 permission_denied');
  const ofOther = await newMember(await newTenant());
  const admin = await newKey(tenantId);
  const missing = 'mem_00000000000000000000000000';
  for (const [method, body] of [
    ['GET', undefined],
    ['PATCH', { role: 'viewer' }],
    ['DELETE', undefined],
  ] as const) {
    const answers: string[] = [];
    for (const id of [ofOther.id, missing, 'none']) {
      const answer = await here.open(method, `/v1/members/${id}`, {
        key: admin.key,
        ...(body ? { body } : {}),
      });
      answers.push(answer.text);
      assert.equal(outcome(answer), '404 not_found');
    }
    assert.equal(new Set(answers).size, 1);
  }
});

test('a key gives no other identity to a member who may do more than the key', async () => {
  const tenantId = await newTenant();
  const boss = await newMember(tenantId, { external_id: 'idp|boss' });
  const scoped = await newKey(tenantId, { scopes: ['members:write'] });
  const change = (key: string, body: object) => here.open('PATCH', `/v1/members/${boss.id}`, { key, body });
  for (const body of [
    { external_id: 'idp|mallory' },
    { external_id: null },
    { external_id: 'idp|mallory', role: 'viewer' },
  ])
    assert.equal(outcome(await change(scoped.key, body)), '403 permission_denied', JSON.stringify(body));
  assert.equal(outcome(await change(scoped.key, { name: 'Boss', external_id: 'idp|boss' })), '200');
  const admin = await newKey(tenantId);
  assert.equal(
    member.parse((await change(admin.key, { external_id: 'idp|new' })).body).external_id,
    'idp|new',
  );
});

test("what a member's key makes is the member's too, and ends with the member", async () => {
  const tenantId = await newTenant();
  const [holder, colleague] = [await newMember(tenantId), await newMember(tenantId)];
  const own = await newKey(tenantId, { member_id: holder.id });
  const make = (body: object) =>
    here.open('POST', '/v1/keys', { key: own.key, body: { name: 'made', role: 'admin', ...body } });
  assert.equal(outcome(await make({ member_id: colleague.id })), '403 permission_denied');
  const made = createdApiKey.parse((await make({})).body);
  assert.equal(made.member_id, holder.id);
  assert.equal(outcome(await make({ member_id: holder.id })), '201');
  const read = async (): Promise<string> => outcome(await here.open('GET', '/v1/members', { key: made.key }));
  assert.equal(await read(), '200');
  await here.admin('DELETE', `/control/v1/tenants/${tenantId}/members/${holder.id}`);
  assert.equal(await read(), '401 key_revoked');
});

test('each change of a member, and of the keys that follow it, is told as an event and leaves an entry in the audit', async () => {
  const tenantId = await newTenant();
  const holder = await newMember(tenantId);
  const key = await newKey(tenantId, { member_id: holder.id });
  await here.admin('PATCH', `/control/v1/tenants/${tenantId}/members/${holder.id}`, {
    body: { role: 'viewer' },
  });
  const uuid = fromTypeId('ten', tenantId) ?? '';
  const told = await database.db.withTenant({ tenantId: uuid }, async (tx) => {
    const { rows } = await sql<{ resource: string; id: string; change: string; version: number }>`
      select data::jsonb->>'resource' as resource, data::jsonb->>'resource_id' as id, data::jsonb->>'change' as change,
             (data::jsonb->>'version')::integer as version
      from tenant.events where type = 'control.changed.v1' and data::jsonb->>'resource' in ('member', 'key') order by seq
    `.execute(tx);
    return rows;
  });
  assert.deepEqual(told, [
    { resource: 'member', id: holder.id, change: 'created', version: 1 },
    { resource: 'key', id: key.id, change: 'created', version: 1 },
    { resource: 'member', id: holder.id, change: 'changed', version: 2 },
    { resource: 'key', id: key.id, change: 'changed', version: 2 },
  ]);
  const entries = await database.db.withTenant({ tenantId: uuid }, async (tx) => {
    const { rows } = await sql<{ action: string }>`
      select action from tenant.audit_entries where resource_id = ${holder.id} order by entry_id
    `.execute(tx);
    return rows.map(({ action }) => action);
  });
  assert.deepEqual(entries, ['tenant_members.create', 'tenant_members.change']);
});

test('a key that ends, or is bound to networks, makes nobody who could sign in for longer or from elsewhere', async () => {
  const tenantId = await newTenant();
  const expires_at = new Date(Date.now() + 3_600_000).toISOString();
  for (const bound of [{ expires_at }, { allowed_ips: ['127.0.0.1'] }]) {
    const { key } = await newKey(tenantId, bound);
    const make = (body: object): Promise<Answer> =>
      here.open('POST', '/v1/members', { key, body: { name: 'Bob', role: 'admin', ...body } });
    assert.equal(errorIn(await make({ external_id: 'bob' })).code, 'permission_denied');
    const made = await make({});
    assert.equal(made.status, 201, made.text);
    const { id } = member.parse(made.body);
    const change = await here.open('PATCH', `/v1/members/${id}`, { key, body: { external_id: 'eve' } });
    assert.equal(errorIn(change).code, 'permission_denied');
  }
});
