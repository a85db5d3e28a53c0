/** Outside issuers over HTTP: configuration, their tokens, what ends those, and an issuer that is away. */

import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import { createdApiKey, endUserPermissions, issuer, listOf, member, tenant } from '@stoa/contracts';
import { SignJWT } from 'jose';
import { sql } from 'kysely';
import { systemClock, toTypeId } from '#kernel';
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
  const long = { issuer: '\u{1F600}'.repeat(240), audience: `${acme.audience} ${'\u{1F600}'.repeat(110)}` };
  const answer = await here.open('POST', '/v1/issuers', {
    key: acme.key,
    body: configuration(long.audience, { issuer: long.issuer }),
  });
  assert.equal(outcome(answer), '400 invalid_request', 'an index has no room for it');
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
      assert.equal(
        await make(key, claims, `${acme.audience} other`),
        '403 permission_denied',
        JSON.stringify(claims),
      );
      const answer = await here.open('PATCH', `/v1/issuers/${id}`, { key, body: { claims } });
      assert.equal(outcome(answer), '403 permission_denied', JSON.stringify(claims));
    }
  }
  const ownKeys = { jwks_url: 'https://thief.example.test/jwks.json' };
  const swapped = await here.open('PATCH', `/v1/issuers/${id}`, { key: narrow, body: ownKeys });
  assert.equal(outcome(swapped), '403 permission_denied');
  const frontEnd = await keyOf({ scopes: ['issuers:write', ...endUserPermissions] });
  assert.equal(
    await make(frontEnd, { default_role: 'developer', end_user: 'sub' }, `${acme.audience} 1`),
    'let in',
  );
  assert.equal(
    await make(frontEnd, { default_role: 'developer' }, `${acme.audience} 2`),
    '403 permission_denied',
  );
  for (const [index, claims] of mappings.entries())
    assert.equal(await make(acme.key, claims, `${acme.audience} all ${index}`), 'let in');
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

/** What the operator makes for a tenant. */
async function settleFor(of: Tenant, audience: string, more: object = {}): Promise<Answer> {
  const body = configuration(audience, more);
  return here.admin('POST', `/control/v1/tenants/${of.id}/issuers`, { body });
}

async function tenantOf(text: string): Promise<string> {
  const { tenantId } = await here.access.authenticator.tenant(`Bearer ${text}`, null);
  return toTypeId('ten', tenantId);
}

test("a tenant can neither take nor end what another's outside tokens do, nor learn of them, whatever it configures", async () => {
  const [acme, thief] = [await newTenant(), await newTenant()];
  const shared = `client-${acme.id.slice(-8)}`;
  assert.equal(outcome(await settleFor(acme, shared)), 'let in');
  const text = await token(shared, admins);
  assert.equal(await tenantOf(text), acme.id);
  const taken = await here.open('POST', '/v1/issuers', { key: thief.key, body: configuration(shared) });
  const free = await here.open('POST', '/v1/issuers', {
    key: thief.key,
    body: configuration('nobody-has-it'),
  });
  assert.deepEqual([outcome(taken), errorIn(taken).param], ['400 invalid_request', 'audience']);
  assert.equal(errorIn(taken).message, errorIn(free).message, 'whether another tenant has it is not told');
  const own = await trust(thief);
  const path = `/v1/issuers/${own}`;
  const moved = await here.open('PATCH', path, { key: thief.key, body: { audience: shared } });
  assert.equal(outcome(moved), '400 invalid_request');
  assert.equal(await tenantOf(await token(shared, admins)), acme.id);
  assert.equal(await tenantOf(await token([shared, acme.audience], admins)), acme.id);
});

test("an audience without the tenant's id is one tenant's at a time, by the operator's word, which the operator takes back", async () => {
  const [acme, other] = [await newTenant(), await newTenant()];
  const shared = `client-${acme.id.slice(-8)}`;
  const made = issuer.strict().parse((await settleFor(acme, shared)).body);
  assert.deepEqual([made.settled_by_operator, made.created_by], [true, 'operator']);
  const refused = await settleFor(other, shared);
  assert.equal(outcome(refused), '409 already_exists');
  assert.ok(errorIn(refused).message.includes(made.id), 'the operator is told where it is');
  const certain = issuer.parse((await settleFor(other, other.audience)).body);
  assert.equal(certain.settled_by_operator, false);
  const path = `/control/v1/tenants/${other.id}/issuers/${certain.id}`;
  const move = (): Promise<Answer> => here.admin('PATCH', path, { body: { audience: shared } });
  assert.equal(outcome(await move()), '409 already_exists');
  assert.equal(outcome(await settleFor(other, shared, { issuer: 'https://else.example.test' })), 'let in');
  const atOnce = `at-once-${acme.id.slice(-8)}`;
  const [one, two] = await Promise.all([settleFor(acme, atOnce), settleFor(other, atOnce)]);
  assert.deepEqual(new Set([one.status, two.status]), new Set([201, 409]), 'of two at once one is refused');
  const ofAcme = `/control/v1/tenants/${acme.id}/issuers/${made.id}`;
  const renamed = await here.open('PATCH', `/v1/issuers/${made.id}`, {
    key: acme.key,
    body: { name: 'New' },
  });
  assert.equal(issuer.parse(renamed.body).settled_by_operator, true, 'what the tenant may change leaves it');
  assert.equal((await here.admin('DELETE', ofAcme)).status, 204);
  assert.equal(outcome(await move()), 'let in');
  assert.equal(await tenantOf(await token(shared, admins)), other.id);
});

test('what was configured without the word counts for nobody until the operator gives it, and no tenant can write it', async () => {
  const [acme, other] = [await newTenant(), await newTenant()];
  // As if it named a tenant, which none is.
  const shared = `ten_client-${acme.id.slice(-8)}`;
  const id = await trust(acme);
  const { tenantId } = await here.access.authenticator.tenant(`Bearer ${acme.key}`, null);
  const set = (values: string): Promise<unknown> =>
    database.db.withTenant({ tenantId }, (tx) =>
      sql`update tenant.issuers set ${sql.raw(values)} where tenant_id = ${tenantId}`.execute(tx),
    );
  await set(`audience = '${shared}'`);
  await assert.rejects(set('settled_by_operator = true'), /insufficient|permission|settles/i);
  assert.equal(await use(here, await token(shared, admins)), '401 invalid_api_key');
  assert.equal(outcome(await settleFor(other, shared)), 'let in');
  const text = await token(shared, admins);
  assert.equal(await within1s(() => use(here, text), 'let in'), 'let in');
  assert.equal(await tenantOf(text), other.id);
  const path = `/control/v1/tenants/${acme.id}/issuers/${id}`;
  const enabled = await here.admin('PATCH', path, { body: { enabled: true } });
  assert.equal(issuer.parse(enabled.body).settled_by_operator, false, 'not named, not settled');
  const named = await here.admin('PATCH', path, { body: { audience: shared } });
  assert.equal(outcome(named), '409 already_exists');
});

test("the operator sets a tenant's issuers where no key of the tenant may, since all of its keys must expire", async () => {
  const acme = await newTenant();
  const policy = { max_lifetime_days: 30, allow_no_expiry: false };
  await here.admin('PUT', `/control/v1/tenants/${acme.id}/key-policy`, { body: policy });
  const path = `/control/v1/tenants/${acme.id}/issuers`;
  const { id } = issuer.parse((await settleFor(acme, acme.audience)).body);
  assert.equal(await tenantOf(await token(acme.audience, admins)), acme.id);
  assert.equal(outcome(await settleFor(acme, acme.audience)), '409 already_exists');
  const listed = listOf(issuer).parse((await here.admin('GET', path)).body);
  assert.deepEqual(
    listed.data.map((one) => one.id),
    [id],
  );
  assert.equal(issuer.parse((await here.admin('GET', `${path}/${id}`)).body).id, id);
  const stale = { body: { name: 'New' }, headers: { 'if-match': '7' } };
  assert.equal(outcome(await here.admin('PATCH', `${path}/${id}`, stale)), '412 version_conflict');
  const other = await newTenant();
  const theirs = `/control/v1/tenants/${other.id}/issuers/${id}`;
  for (const method of ['GET', 'DELETE'] as const)
    assert.equal(outcome(await here.admin(method, theirs)), '404 not_found');
  const nobody = '/control/v1/tenants/ten_01h455vb4pex5vsknk084sn02q/issuers';
  assert.equal(outcome(await here.admin('GET', nobody)), '404 not_found');
  const body = configuration(acme.audience);
  assert.equal(outcome(await here.admin('POST', nobody, { body })), '404 not_found');
  assert.equal((await here.admin('DELETE', `${path}/${id}`)).status, 204);
  assert.equal(await use(here, await token(acme.audience, admins)), '401 invalid_api_key');
});

test('an issuer that more than a thousand tenants trust serves each of them', async () => {
  const popular = 'https://popular.example.test';
  const tenants = [await newTenant(), await newTenant()];
  for (const of of tenants) await trust(of, { issuer: popular });
  await database.db.withOperator({ operator: 'system:test' }, 'test', (tx) =>
    sql`
      insert into tenant.issuers (tenant_id, issuer_id, name, issuer, jwks_url, audience, algorithms, token_types,
        maximum_lifetime_s, claims, created_by, settled_by_operator)
      select (select tenant_id from tenant.tenants order by tenant_id limit 1), gen_random_uuid(), 'many', ${popular},
        ${jwksUrl}, 'ten_ ' || place, array['EdDSA'], array['at+jwt'], 600, '{}', 'operator:test', place % 2 = 0
      from generate_series(1, 1500) place
    `.execute(tx),
  );
  for (const { id, audience } of tenants)
    assert.equal(await tenantOf(await token(audience, { ...admins, iss: popular })), id);
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
  await trust({ ...acme, audience: `${acme.audience} customers` }, { claims });
  const [one, two, ofCustomer] = [
    await token(acme.audience, { ...admins, jti: 'one' }),
    await token(acme.audience, admins),
    await token(`${acme.audience} customers`, { ...admins, customer: 'c-1' }),
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

test('a token that names no member makes and is shown no key, and makes no member; one of a member makes keys of that member', async () => {
  const acme = await newTenant();
  await trust(acme);
  await trust(acme, { audience: `${acme.audience} people`, claims: { member: 'sub' } });
  const operatorPath = `/control/v1/tenants/${acme.id}`;
  const target = createdApiKey.parse(
    (await here.admin('POST', `${operatorPath}/keys`, { body: { name: 'k', role: 'viewer' } })).body,
  );
  const ada = { name: 'Ada', external_id: 'ada', role: 'admin' };
  const { id } = member.parse((await here.admin('POST', `${operatorPath}/members`, { body: ada })).body);
  const nobody = await token(acme.audience, admins);
  const body = { name: 'k', role: 'viewer' };
  const asked = [
    await here.open('POST', '/v1/keys', { key: nobody, body }),
    await here.open('POST', `/v1/keys/${target.id}/rotate`, { key: nobody, body: {} }),
    await here.open('PATCH', `/v1/keys/${target.id}`, { key: nobody, body: { role: 'admin' } }),
    await here.open('POST', '/v1/members', { key: nobody, body }),
    await here.open('PATCH', `/v1/members/${id}`, { key: nobody, body: { external_id: 'eve' } }),
    await here.open('POST', '/v1/issuers', { key: nobody, body: configuration(`${acme.audience} 3`) }),
  ];
  for (const [index, answer] of asked.entries())
    assert.equal(outcome(answer), '403 permission_denied', `case ${index}`);
  const named = { name: 'other' };
  assert.equal(
    outcome(await here.open('PATCH', `/v1/keys/${target.id}`, { key: nobody, body: named })),
    'let in',
  );
  const hers = await here.open('POST', '/v1/keys', {
    key: await token(`${acme.audience} people`, { sub: 'ada' }),
    body,
  });
  assert.equal(createdApiKey.parse(hers.body).member_id, id);
  assert.equal(outcome(await here.open('DELETE', `/v1/keys/${target.id}`, { key: nobody })), 'let in');
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
