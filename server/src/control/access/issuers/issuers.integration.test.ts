/** Outside issuers over HTTP: configuration, their tokens, what ends those, and an issuer that is away. */

import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import { createdApiKey, endUserPermissions, issuer, listOf, member, tenant } from '@stoa/contracts';
import { SignJWT } from 'jose';
import { systemClock } from '#kernel';
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

const iss = 'https://id.example.test';
const jwksUrl = 'https://id.example.test/jwks.json';
let keySet: { keys: object[] } | null = null;
const fetched: string[] = [];

const outbound: NonNullable<Parameters<typeof openControlPlane>[1]>['outbound'] = {
  check: (url) =>
    url.includes('127.0.0.1') ? { reason: 'special_address', detail: 'the address is not public.' } : null,
  async call({ url }) {
    fetched.push(url);
    const fault = { kind: 'unreachable', code: null, detail: 'away' } as const;
    if (keySet === null) return { outcome: 'failed', fault };
    const body = Buffer.from(JSON.stringify(keySet));
    return { outcome: 'answered', status: 200, headers: {}, body, isCut: false, url };
  },
};

interface SigningKey {
  readonly kid: string;
  readonly key: KeyObject;
  readonly jwk: object;
}

function newSigningKey(kid: string): SigningKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  return {
    kid,
    key: privateKey,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'EdDSA', use: 'sig' },
  };
}

const first = newSigningKey('first');

before(async () => {
  database = await openTestDatabase();
  const access = { refetchAfterMs: 0, freshForMs: 600_000 };
  here = await openControlPlane(database.db, { outbound, access });
  elsewhere = await openControlPlane(database.db, { outbound, access });
  await elsewhere.access.lifecycle.start();
});

after(async () => {
  await here.close();
  await elsewhere.close();
  await database.close();
});

beforeEach(() => {
  keySet = { keys: [first.jwk] };
  fetched.length = 0;
});

interface Tenant {
  readonly id: string;
  readonly key: string;
  readonly audience: string;
}

async function newTenant(): Promise<Tenant> {
  const { id } = tenant.parse(
    (await here.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } })).body,
  );
  const made = await here.admin('POST', `/control/v1/tenants/${id}/keys`, {
    body: { name: 'k', role: 'admin' },
  });
  return { id, key: createdApiKey.parse(made.body).key, audience: `stoa:${id}` };
}

function configuration(audience: string, more: object = {}): object {
  const claims = { role: 'groups', roles: { admins: 'admin', devs: 'developer' } };
  return { name: 'Ours', issuer: iss, jwks_url: jwksUrl, audience, claims, ...more };
}

async function trust(of: Tenant, more: object = {}): Promise<string> {
  const answer = await here.open('POST', '/v1/issuers', {
    key: of.key,
    body: configuration(of.audience, more),
  });
  assert.equal(answer.status, 201, answer.text);
  return issuer.strict().parse(answer.body).id;
}

interface TokenOptions {
  readonly signer?: SigningKey;
  readonly header?: object;
  readonly lifetimeS?: number;
}

async function token(
  audience: string | string[],
  claims: object = {},
  options: TokenOptions = {},
): Promise<string> {
  const { signer = first, header = {}, lifetimeS = 600 } = options;
  const nowS = Math.floor(Date.now() / 1000);
  return new SignJWT({
    iss,
    aud: audience,
    sub: 'u',
    iat: nowS,
    exp: nowS + lifetimeS,
    jti: `j${Math.random()}`,
    ...claims,
  })
    .setProtectedHeader({ alg: 'EdDSA', kid: signer.kid, typ: 'at+jwt', ...header })
    .sign(signer.key);
}

function outcome(answer: Answer): string {
  return answer.status < 400 ? 'let in' : `${answer.status} ${errorIn(answer).code}`;
}

/** Asks for something that admins may. */
async function use(plane: ControlPlane, text: string): Promise<string> {
  return outcome(await plane.open('GET', '/v1/issuers', { key: text }));
}

async function within1s(find: () => Promise<string>, wanted: string): Promise<string> {
  const untilMs = systemClock.monotonic() + 1000;
  for (;;) {
    const found = await find();
    if (found === wanted || systemClock.monotonic() > untilMs) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const admins = { groups: ['staff', 'admins'] };

test('an issuer is created, listed, read, changed and deleted, and only once with one audience', async () => {
  const acme = await newTenant();
  const { key } = acme;
  const id = await trust(acme);
  const again = await here.open('POST', '/v1/issuers', { key, body: configuration(acme.audience) });
  assert.equal(outcome(again), '409 already_exists');
  const page = listOf(issuer).parse((await here.open('GET', '/v1/issuers', { key })).body);
  assert.deepEqual([page.data.length, page.data[0]?.id], [1, id]);
  const changed = await here.open('PATCH', `/v1/issuers/${id}`, {
    key,
    body: { name: 'New' },
    headers: { 'if-match': '1' },
  });
  assert.equal(issuer.parse(changed.body).version, 2);
  const late = await here.open('DELETE', `/v1/issuers/${id}`, { key, headers: { 'if-match': '1' } });
  assert.equal(outcome(late), '412 version_conflict');
  assert.equal((await here.open('DELETE', `/v1/issuers/${id}`, { key })).status, 204);
  assert.equal(outcome(await here.open('GET', `/v1/issuers/${id}`, { key })), '404 not_found');
  const other = await newTenant();
  const theirs = await trust(other);
  for (const method of ['GET', 'DELETE'] as const)
    assert.equal(outcome(await here.open(method, `/v1/issuers/${theirs}`, { key })), '404 not_found');
});

test('a configuration that could not be safe is refused', async () => {
  const [acme, other] = [await newTenant(), await newTenant()];
  const bodies: readonly object[] = [
    configuration(acme.audience, { algorithms: ['HS256'] }),
    configuration(acme.audience, { algorithms: ['none'] }),
    configuration(acme.audience, { algorithms: [] }),
    configuration(acme.audience, { jwks_url: 'http://127.0.0.1/jwks' }),
    configuration(acme.audience, { jwks_url: 'file:///etc/passwd' }),
    configuration(acme.audience, { jwks_url: 'https://user:pass@id.example.test/' }),
    configuration(acme.audience, { maximum_lifetime_s: 86_401 }),
    configuration(acme.audience, { claims: {} }),
    configuration(acme.audience, { claims: { role: 'groups' } }),
    configuration(acme.audience, { claims: { role: 'groups', roles: { x: 'owner' } } }),
    configuration(other.audience),
    configuration(acme.audience, { issuer: 'urn:stoa' }),
  ];
  for (const body of bodies) {
    const answer = await here.open('POST', '/v1/issuers', { key: acme.key, body });
    assert.equal(outcome(answer), '400 invalid_request', JSON.stringify(body));
  }
});

test('an issuer can give no more than the key that configures it holds', async () => {
  const acme = await newTenant();
  const keyOf = async (body: object): Promise<string> => {
    const path = `/control/v1/tenants/${acme.id}/keys`;
    const answer = await here.admin('POST', path, { body: { name: 'k', role: 'admin', ...body } });
    return createdApiKey.parse(answer.body).key;
  };
  const make = async (key: string, claims: object, audience: string): Promise<string> =>
    outcome(await here.open('POST', '/v1/issuers', { key, body: configuration(audience, { claims }) }));
  const inAnHour = new Date(Date.now() + 3_600_000).toISOString();
  const narrow = await keyOf({ scopes: ['issuers:write'] });
  const ends = await keyOf({ expires_at: inAnHour });
  const bound = await keyOf({ allowed_ips: ['127.0.0.0/8'] });
  const id = await trust(acme);
  const mappings: readonly object[] = [
    { default_role: 'admin' },
    { default_role: 'viewer' },
    { member: 'sub' },
    { role: 'groups', roles: { devs: 'developer', admins: 'admin' } },
    { role: 'groups', roles: { devs: 'viewer' }, default_role: 'admin', member: 'sub' },
    { default_role: 'developer', end_user: 'sub' },
  ];
  const outside = await token(acme.audience, admins);
  for (const claims of mappings) {
    for (const key of [narrow, ends, bound, outside]) {
      assert.equal(await make(key, claims, 'other'), '403 permission_denied', JSON.stringify(claims));
      const answer = await here.open('PATCH', `/v1/issuers/${id}`, { key, body: { claims } });
      assert.equal(outcome(answer), '403 permission_denied', JSON.stringify(claims));
    }
  }
  const ownKeys = { jwks_url: 'https://thief.example.test/jwks.json' };
  const swapped = await here.open('PATCH', `/v1/issuers/${id}`, { key: narrow, body: ownKeys });
  assert.equal(outcome(swapped), '403 permission_denied');
  const frontEnd = await keyOf({ scopes: ['issuers:write', ...endUserPermissions] });
  assert.equal(await make(frontEnd, { default_role: 'developer', end_user: 'sub' }, 'front end'), 'let in');
  assert.equal(await make(frontEnd, { default_role: 'developer' }, 'back end'), '403 permission_denied');
  for (const [index, claims] of mappings.entries())
    assert.equal(await make(acme.key, claims, `of all ${index}`), 'let in');
});

test('a token of a trusted issuer acts with the role that its claims map to, in the tenant of its audience', async () => {
  const [acme, other] = [await newTenant(), await newTenant()];
  await trust(acme);
  const issuerId = await trust(other);
  const text = await token(['someone', other.audience], admins);
  assert.equal(await use(here, text), 'let in');
  const principal = await elsewhere.access.authenticator.tenant(`Bearer ${text}`, null);
  assert.deepEqual([principal.role, principal.keyId], ['admin', issuerId]);
  assert.equal(await use(here, await token(acme.audience, { groups: 'devs' })), '403 permission_denied');
  const refused = [
    token(acme.audience, { groups: 'staff' }),
    token(acme.audience, {}),
    token(acme.audience, { groups: { admins: true } }),
    token(acme.audience, { groups: ['__proto__', 'constructor'] }),
    token('stoa:nobody', admins),
    token([acme.audience, other.audience], admins),
    token(acme.audience, { ...admins, iss: 'https://else.example.test' }),
    token(acme.audience, { ...admins, iat: Math.floor(Date.now() / 1000) + 3600 }),
    token(acme.audience, admins, { lifetimeS: 90_000 }),
    token(acme.audience, admins, { header: { typ: 'JWT' } }),
    token(acme.audience, admins, { signer: { ...newSigningKey('first') } }),
    token(acme.audience, admins, { signer: newSigningKey('unknown') }),
  ];
  for (const [index, made] of refused.entries())
    assert.equal(await use(here, await made), '401 invalid_api_key', `case ${index}`);
  assert.equal(await use(here, await token(acme.audience, admins, { lifetimeS: -1 })), '401 token_expired');
  const minted = await here.open('POST', '/v1/tokens', { key: text, body: {} });
  assert.equal(outcome(minted), '403 permission_denied');
});

test('two tenants that claim the same tokens get none of them, unless one has its own id in the audience', async () => {
  const [acme, thief] = [await newTenant(), await newTenant()];
  const shared = 'https://api.example.test';
  await trust({ ...acme, audience: shared });
  assert.equal(await use(here, await token(shared, admins)), 'let in');
  await trust({ ...thief, audience: shared });
  assert.equal(await use(here, await token(shared, admins)), '401 invalid_api_key');
  await trust(acme);
  const both = await token([shared, acme.audience], admins);
  const { tenantId } = await here.access.authenticator.tenant(`Bearer ${both}`, null);
  const own = await here.access.authenticator.tenant(`Bearer ${acme.key}`, null);
  assert.equal(tenantId, own.tenantId);
});

test('a token names a member: it may what the member may, and ends with the member, in another process within one second', async () => {
  const acme = await newTenant();
  await trust(acme, { claims: { member: 'sub', project: 'team' } });
  const path = `/control/v1/tenants/${acme.id}/members`;
  const body = {
    name: 'Ada',
    external_id: 'ada',
    role: 'admin',
    projects: [{ project_id: 'p', role: 'admin' }],
  };
  const ada = member.parse((await here.admin('POST', path, { body })).body);
  const inTeam = (team: string): Promise<string> => token(acme.audience, { sub: 'ada', team });
  const text = await inTeam('p');
  const running = await elsewhere.access.authenticator.tenant(`Bearer ${text}`, null);
  assert.deepEqual([running.role, running.projectId], ['admin', 'p']);
  assert.equal(await use(here, await token(acme.audience, { sub: 'eve', team: 'p' })), '401 invalid_api_key');
  assert.equal(await use(here, await token(acme.audience, { sub: 'ada' })), '401 invalid_api_key');
  await here.admin('PATCH', `${path}/${ada.id}`, { body: { role: 'viewer', projects: [] } });
  const roleElsewhere = async (): Promise<string> =>
    (await elsewhere.access.authenticator.tenant(`Bearer ${text}`, null)).role;
  assert.equal(await within1s(roleElsewhere, 'viewer'), 'viewer');
  await here.admin('DELETE', `${path}/${ada.id}`);
  const ended = async (): Promise<string> => running.standing.refusal?.code ?? 'stands';
  assert.equal(await within1s(ended, 'token_revoked'), 'token_revoked');
  assert.match(await use(elsewhere, text), /^401 /);
});

test('a token ends with its issuer, its tenant, its id or its end user, in another process within one second', async () => {
  const acme = await newTenant();
  const claims = { role: 'groups', roles: { admins: 'admin' }, end_user: 'customer' };
  const id = await trust(acme);
  await trust({ ...acme, audience: 'customers' }, { claims });
  const [one, two, ofCustomer] = [
    await token(acme.audience, { ...admins, jti: 'one' }),
    await token(acme.audience, admins),
    await token('customers', { ...admins, customer: 'c-1' }),
  ];
  assert.equal(await use(elsewhere, one), 'let in');
  const customer = await elsewhere.access.authenticator.tenant(`Bearer ${ofCustomer}`, null);
  assert.deepEqual([customer.endUser, customer.scopes?.has('keys:read')], ['c-1', false]);
  await here.open('POST', '/v1/tokens/revoke', { key: acme.key, body: { token_id: 'one' } });
  await here.open('POST', '/v1/tokens/revoke', { key: acme.key, body: { end_user: 'c-1' } });
  assert.equal(await within1s(() => use(elsewhere, one), '401 token_revoked'), '401 token_revoked');
  assert.equal(await within1s(() => use(elsewhere, ofCustomer), '401 token_revoked'), '401 token_revoked');
  assert.equal(await use(elsewhere, two), 'let in');
  await here.admin('PATCH', `/control/v1/tenants/${acme.id}`, { body: { state: 'suspended' } });
  assert.equal(await within1s(() => use(elsewhere, two), '403 tenant_suspended'), '403 tenant_suspended');
  await here.admin('PATCH', `/control/v1/tenants/${acme.id}`, { body: { state: 'active' } });
  assert.equal(await within1s(() => use(elsewhere, two), 'let in'), 'let in');
  await here.open('PATCH', `/v1/issuers/${id}`, { key: acme.key, body: { enabled: false } });
  assert.match(await within1s(() => use(elsewhere, two), '401 invalid_api_key'), /^401 /);
  await here.open('PATCH', `/v1/issuers/${id}`, { key: acme.key, body: { enabled: true } });
  assert.equal(await within1s(() => use(elsewhere, two), 'let in'), 'let in');
  await here.open('DELETE', `/v1/issuers/${id}`, { key: acme.key });
  assert.match(await within1s(() => use(elsewhere, two), '401 invalid_api_key'), /^401 /);
});

test("an issuer's new key is found by its id, and an issuer that is away ends nobody's work and is no 401", async () => {
  const acme = await newTenant();
  await trust(acme);
  keySet = null;
  assert.equal(await use(here, await token(acme.audience, admins)), '503 issuer_unavailable');
  keySet = { keys: [first.jwk] };
  assert.equal(await use(here, await token(acme.audience, admins)), 'let in');
  const count = fetched.length;
  for (let round = 0; round < 5; round += 1)
    assert.equal(await use(here, await token(acme.audience, admins)), 'let in');
  assert.equal(fetched.length, count, 'a set that is known is not fetched again');
  const next = newSigningKey('next');
  keySet = { keys: [first.jwk, next.jwk] };
  assert.equal(await use(here, await token(acme.audience, admins, { signer: next })), 'let in');
  keySet = null;
  assert.equal(await use(here, await token(acme.audience, admins)), 'let in');
  assert.equal(
    await use(here, await token(acme.audience, admins, { signer: newSigningKey('x') })),
    '401 invalid_api_key',
  );
});

test("what one member was answered under an Idempotency-Key, another member's token of the same issuer is not shown", async () => {
  const acme = await newTenant();
  await trust(acme, { claims: { member: 'sub' } });
  const path = `/control/v1/tenants/${acme.id}/members`;
  for (const name of ['ada', 'eve'])
    await here.admin('POST', path, { body: { name, external_id: name, role: 'admin' } });
  const create = async (sub: string): Promise<string> => {
    const made = await here.open('POST', '/v1/keys', {
      key: await token(acme.audience, { sub }),
      body: { name: 'same', role: 'viewer' },
      headers: { 'idempotency-key': 'same' },
    });
    return createdApiKey.parse(made.body).key;
  };
  const first = await create('ada');
  assert.equal(await create('ada'), first, 'a newer token of the same member');
  assert.notEqual(await create('eve'), first);
});
