/**
 * Access tokens through two listeners, and through a second process on the same database: what they hold, what ends them,
 * and how fast.
 */

import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { after, before, test } from 'node:test';
import { accessToken, createdApiKey, jsonWebKeySet, member, tenant, tokenRevocation } from '@stoa/contracts';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { sql } from 'kysely';
import type { z } from 'zod';
import { memoryBroadcast } from '#cache';
import { AppError, silentLogger, systemClock, type TenantPrincipal } from '#kernel';
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
/** Another process: it hears of nothing but what the poll brings. */
let elsewhere: ControlPlane;
const issuer = 'https://stoa.example.test';
const masterKey = Buffer.alloc(32, 7);

before(async () => {
  database = await openTestDatabase();
  const access = { issuer: () => issuer };
  here = await openControlPlane(database.db, { masterKey, access });
  elsewhere = await openControlPlane(database.db, { masterKey, access });
  await elsewhere.access.lifecycle.start();
});

after(async () => {
  await here.close();
  await elsewhere.close();
  await database.close();
});

type MadeKey = z.output<typeof createdApiKey>;
type MadeToken = z.output<typeof accessToken>;

async function newTenant(): Promise<string> {
  return tenant.parse((await here.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } })).body).id;
}

async function newKey(tenantId: string, body: object = {}): Promise<MadeKey> {
  const path = `/control/v1/tenants/${tenantId}/keys`;
  const answer = await here.admin('POST', path, { body: { name: 'key', role: 'admin', ...body } });
  assert.equal(answer.status, 201, answer.text);
  return createdApiKey.parse(answer.body);
}

async function newMember(tenantId: string, body: object): Promise<z.output<typeof member>> {
  const answer = await here.admin('POST', `/control/v1/tenants/${tenantId}/members`, {
    body: { name: 'Ada', ...body },
  });
  assert.equal(answer.status, 201, answer.text);
  return member.parse(answer.body);
}

async function newToken(key: string, body: object = {}): Promise<MadeToken> {
  const answer = await here.open('POST', '/v1/tokens', { key, body });
  assert.equal(answer.status, 201, answer.text);
  assert.equal(answer.headers['cache-control'], 'no-store');
  return accessToken.strict().parse(answer.body);
}

function refusedAs(answer: Answer): string {
  return answer.status < 400 ? 'let in' : `${answer.status} ${errorIn(answer).code}`;
}

/** What a token is answered with, where the permission `keys:read` is asked. */
async function tryToken(plane: ControlPlane, token: string): Promise<string> {
  return refusedAs(await plane.open('GET', '/v1/keys', { key: token }));
}

async function principalOf(plane: ControlPlane, token: string): Promise<TenantPrincipal> {
  return plane.access.authenticator.tenant(`Bearer ${token}`, null);
}

/** Waits for at most a second, and answers what was found then. */
async function within1s(find: () => Promise<string>, wanted: string): Promise<string> {
  const untilMs = systemClock.monotonic() + 1000;
  for (;;) {
    const found = await find();
    if (found === wanted || systemClock.monotonic() > untilMs) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function refusalCode({ standing }: TenantPrincipal): string | undefined {
  return standing.refusal?.code;
}

function claimsOf(token: string): Record<string, unknown> {
  const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
  assert.ok(typeof claims === 'object' && claims !== null);
  return { ...claims };
}

test('a key is changed for a token that another process accepts, with the key, role and tenant that it was made with', async () => {
  const tenantId = await newTenant();
  const key = await newKey(tenantId);
  const made = await newToken(key.key);
  assert.equal(made.expires_in, 600);
  for (const plane of [here, elsewhere]) {
    assert.equal(await tryToken(plane, made.token), 'let in');
    const principal = await principalOf(plane, made.token);
    assert.deepEqual([principal.keyId, principal.role, principal.tokenId], [key.id, 'admin', made.id]);
  }
});

test('the key set verifies tokens for others, names the key that signs and the next one, and needs no credential', async () => {
  const made = await newToken((await newKey(await newTenant())).key);
  const answer = await elsewhere.open('GET', '/.well-known/jwks.json');
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['cache-control'], 'public, max-age=300');
  const set = jsonWebKeySet.strict().parse(answer.body);
  assert.equal(set.keys.length, 2);
  const { payload, protectedHeader } = await jwtVerify(made.token, createLocalJWKSet(set), {
    algorithms: ['EdDSA'],
    typ: 'at+jwt',
    issuer,
    audience: issuer,
  });
  assert.equal(payload.jti, made.id);
  assert.equal(Number(payload.exp) - Number(payload.iat), 600);
  assert.equal(protectedHeader.kid, set.keys[0]?.kid);
  assert.doesNotMatch(answer.text, /"d"/);
});

test('a token holds no more than its key and nothing that makes credentials or outlasts it; for an end user only what a front end needs', async () => {
  const tenantId = await newTenant();
  const admin = await newKey(tenantId);
  const scoped = await newKey(tenantId, { scopes: ['tokens:create', 'models:read', 'chat:create'] });
  const mint = async (key: string, body: object): Promise<string> =>
    refusedAs(await here.open('POST', '/v1/tokens', { key, body }));
  assert.equal(await mint(scoped.key, { scopes: ['usage:read'] }), '403 permission_denied');
  for (const scope of [
    'keys:write',
    'members:write',
    'issuers:write',
    'tokens:create',
    'webhooks:write',
    'policy:write',
  ])
    assert.equal(await mint(admin.key, { scopes: [scope] }), '403 permission_denied', scope);
  assert.equal(await mint(admin.key, { end_user: 'u', scopes: ['keys:read'] }), '403 permission_denied');
  assert.equal(await mint(admin.key, { expires_in: 601 }), '400 invalid_request');
  const viewer = await newKey(tenantId, { role: 'viewer' });
  assert.equal(await mint(viewer.key, {}), '403 permission_denied');
  const forEndUser = await newToken(scoped.key, { end_user: 'user-42' });
  assert.deepEqual(forEndUser.scopes, ['chat:create', 'models:read']);
  assert.equal((await principalOf(elsewhere, forEndUser.token)).endUser, 'user-42');
  assert.equal(await tryToken(here, forEndUser.token), '403 permission_denied');
  const all = await newToken(admin.key);
  assert.ok(all.scopes?.includes('keys:read') && !all.scopes.includes('keys:write'));
  assert.equal(await mint(all.token, {}), '403 permission_denied');
  const policy = { max_lifetime_days: null, allow_no_expiry: true };
  const lasting = await here.open('PUT', '/v1/key-policy', { key: all.token, body: policy });
  assert.equal(refusedAs(lasting), '403 permission_denied');
});

test('a token ends with its key: revoked, narrowed or expired, in another process within one second', async () => {
  const tenantId = await newTenant();
  const path = `/control/v1/tenants/${tenantId}/keys`;
  const [revoked, narrowed] = [await newKey(tenantId), await newKey(tenantId)];
  const [one, other] = [await newToken(revoked.key), await newToken(narrowed.key)];
  for (const token of [one, other]) assert.equal(await tryToken(elsewhere, token.token), 'let in');
  await here.admin('DELETE', `${path}/${revoked.id}`);
  await here.admin('PATCH', `${path}/${narrowed.id}`, { body: { role: 'developer' } });
  assert.equal(await tryToken(here, one.token), '401 key_revoked');
  assert.equal(await within1s(() => tryToken(elsewhere, one.token), '401 key_revoked'), '401 key_revoked');
  const wanted = '403 permission_denied';
  assert.equal(await within1s(() => tryToken(elsewhere, other.token), wanted), wanted);
  const soon = new Date(Date.now() + 3000).toISOString();
  const short = await newToken((await newKey(tenantId, { expires_at: soon })).key);
  assert.ok(short.expires_in <= 3);
});

test('a token is revoked by its id, alone, in every process within one second, also while an answer runs', async () => {
  const key = await newKey(await newTenant());
  const [revoked, kept] = [await newToken(key.key), await newToken(key.key)];
  const running = await principalOf(elsewhere, revoked.token);
  assert.equal(refusalCode(running), undefined);
  const answer = await here.open('POST', '/v1/tokens/revoke', {
    key: key.key,
    body: { token_id: revoked.id },
  });
  assert.deepEqual(tokenRevocation.parse(answer.body), {
    object: 'token_revocation',
    revoked: 'token',
    id: revoked.id,
    not_before: null,
  });
  assert.equal(await tryToken(here, revoked.token), '401 token_revoked');
  const wanted = '401 token_revoked';
  assert.equal(await within1s(() => tryToken(elsewhere, revoked.token), wanted), wanted);
  assert.equal(refusalCode(running), 'token_revoked');
  for (const plane of [here, elsewhere]) assert.equal(await tryToken(plane, kept.token), 'let in');
  // A process that starts afterwards knows it too.
  const later = await openControlPlane(database.db, { masterKey, access: { issuer: () => issuer } });
  assert.equal(await tryToken(later, revoked.token), wanted);
  await later.close();
});

test('"not before" ends what a key, a member, an end user or the tenant was issued until then, and nothing later or else', async () => {
  const tenantId = await newTenant();
  const holder = await newMember(tenantId, { role: 'admin' });
  const key = await newKey(tenantId, { member_id: holder.id });
  const other = await newKey(tenantId);
  const cases = [
    { body: { key_id: key.id }, ended: key.key, mint: {} },
    { body: { member_id: holder.id }, ended: key.key, mint: {} },
    { body: { end_user: 'u-1' }, ended: key.key, mint: { end_user: 'u-1' } },
    { body: { all: true }, ended: key.key, mint: {} },
  ];
  for (const { body, ended, mint } of cases) {
    const before = await newToken(ended, mint);
    const untouched = await newToken(other.key, { end_user: 'u-2' });
    const isLetIn = async (plane: ControlPlane, token: string): Promise<string> =>
      refusedAs(await plane.open('GET', '/v1/keys', { key: token }));
    const works = 'end_user' in mint ? '403 permission_denied' : 'let in';
    assert.equal(await isLetIn(elsewhere, before.token), works);
    const answer = await here.open('POST', '/v1/tokens/revoke', { key: other.key, body });
    assert.equal(answer.status, 200, answer.text);
    const wanted = '401 token_revoked';
    assert.equal(
      await within1s(() => isLetIn(elsewhere, before.token), wanted),
      wanted,
      JSON.stringify(body),
    );
    const isAll = 'all' in body;
    assert.equal(await isLetIn(here, untouched.token), isAll ? wanted : '403 permission_denied');
    const after = await newToken(ended, mint);
    assert.equal(await isLetIn(elsewhere, after.token), works, 'a token that was made afterwards');
  }
});

test('a developer ends tokens by their id, of end users and of his own key; the rest is for those who manage keys', async () => {
  const tenantId = await newTenant();
  const [admin, developer] = [await newKey(tenantId), await newKey(tenantId, { role: 'developer' })];
  const revoke = async (body: object): Promise<string> =>
    refusedAs(await here.open('POST', '/v1/tokens/revoke', { key: developer.key, body }));
  assert.equal(await revoke({ token_id: 'tok_x' }), 'let in');
  assert.equal(await revoke({ end_user: 'u' }), 'let in');
  assert.equal(await revoke({ key_id: developer.id }), 'let in');
  assert.equal(await revoke({ key_id: admin.id }), '403 permission_denied');
  assert.equal(await revoke({ all: true }), '403 permission_denied');
  assert.equal(await revoke({}), '400 invalid_request');
  assert.equal(await revoke({ end_user: 'u', all: true }), '400 invalid_request');
  assert.equal(await revoke({ token_id: 'a\u0000b' }), '400 invalid_text');
});

test("one tenant's revocations and suspensions end nobody else's tokens", async () => {
  const [one, other] = [await newTenant(), await newTenant()];
  const [ofOne, ofOther] = [await newKey(one), await newKey(other)];
  const token = await newToken(ofOne.key);
  await here.open('POST', '/v1/tokens/revoke', { key: ofOther.key, body: { token_id: token.id } });
  await here.open('POST', '/v1/tokens/revoke', { key: ofOther.key, body: { all: true } });
  await here.open('POST', '/v1/tokens/revoke', { key: ofOther.key, body: { key_id: ofOne.id } });
  assert.equal(await tryToken(here, token.token), 'let in');
  await here.admin('PATCH', `/control/v1/tenants/${one}`, { body: { state: 'suspended' } });
  assert.equal(await tryToken(here, token.token), '403 tenant_suspended');
  const wanted = '403 tenant_suspended';
  assert.equal(await within1s(() => tryToken(elsewhere, token.token), wanted), wanted);
  await here.admin('PATCH', `/control/v1/tenants/${one}`, { body: { state: 'active' } });
  assert.equal(await tryToken(here, token.token), 'let in');
});

test('a token of another Stoa, with another signature, or without one is refused like any invalid key', async () => {
  const made = await newToken((await newKey(await newTenant())).key);
  const [header = '', payload = '', signature = ''] = made.token.split('.');
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const { kid } = decodeProtectedHeader(made.token);
  const { privateKey } = generateKeyPairSync('ed25519');
  const forged = sign(null, Buffer.from(`${header}.${payload}`), privateKey).toString('base64url');
  const none = encode({ alg: 'none', typ: 'at+jwt', kid });
  const hmacHeader = encode({ alg: 'HS256', typ: 'at+jwt', kid });
  const hmac = createHmac('sha256', '').update(`${hmacHeader}.${payload}`).digest('base64url');
  const wider = encode({ ...claimsOf(made.token), role: 'admin', exp: 2e9 });
  const tokens = [
    `${header}.${payload}.${forged}`,
    `${none}.${payload}.`,
    `${none}.${payload}.${signature}`,
    `${hmacHeader}.${payload}.${hmac}`,
    `${header}.${wider}.${signature}`,
    `${header}.${payload}.${signature}=`,
    `${header}.${payload}`,
    `${header}.${payload}.${signature}.${signature}`,
    `${made.token}${'x'.repeat(9000)}`.slice(0, 9000),
    'eyJ',
    'eyJ..',
  ];
  for (const token of tokens)
    assert.equal(await tryToken(here, token), '401 invalid_api_key', token.slice(0, 60));
  const elsewhereIssuer = await openControlPlane(database.db, {
    masterKey,
    access: { issuer: () => 'https://other.example.test' },
  });
  assert.equal(await tryToken(elsewhereIssuer, made.token), '401 invalid_api_key');
  await elsewhereIssuer.close();
});

test('a token never opens the operator’s listener', async () => {
  const made = await newToken((await newKey(await newTenant())).key);
  const answer = await here.admin('GET', '/control/v1/tenants', { key: made.token });
  assert.equal(refusedAs(answer), '401 invalid_api_key');
});

test("a tautology as a bearer token is nobody's key, and nothing of the database shows", async () => {
  for (const text of ["' OR 1=1--", "eyJ' OR 1=1--", "' OR '1'='1", 'admin"--', "stoa_sk_' OR 1=1--"]) {
    const answer = await here.open('GET', '/v1/keys', { headers: { authorization: `Bearer ${text}` } });
    assert.equal(refusedAs(answer), '401 invalid_api_key');
    assert.doesNotMatch(answer.text, /tenant\.|select|api_keys|syntax/i);
  }
});

test('a database outage turns no valid key and no valid token into a 401, be they known here or not', async () => {
  const lost = await openTestDatabase();
  const access = { issuer: () => issuer };
  const away = await openControlPlane(lost.db, { masterKey, access });
  await away.access.lifecycle.start();
  const { id } = tenant.parse(
    (await away.admin('POST', '/control/v1/tenants', { body: { name: 'x' } })).body,
  );
  const newKeyAway = async (): Promise<string> => {
    const path = `/control/v1/tenants/${id}/keys`;
    const made = await away.admin('POST', path, { body: { name: 'k', role: 'admin' } });
    return createdApiKey.parse(made.body).key;
  };
  const newTokenAway = async (key: string): Promise<string> =>
    accessToken.parse((await away.open('POST', '/v1/tokens', { key, body: {} })).body).token;
  const [known, unknown] = [await newKeyAway(), await newKeyAway()];
  const [cached, fresh] = [await newTokenAway(known), await newTokenAway(known)];
  await away.access.authenticator.tenant(`Bearer ${cached}`, null);
  const other = await openControlPlane(lost.db, { masterKey, access });
  const strange = await other.open('POST', '/v1/tokens', { key: unknown, body: {} });
  const ofUnknown = accessToken.parse(strange.body).token;
  await other.close();
  await lost.close();
  const answer = async (credential: string): Promise<string> => {
    try {
      await away.access.authenticator.tenant(`Bearer ${credential}`, null);
      return 'let in';
    } catch (error) {
      return error instanceof AppError ? `${error.status} ${error.code}` : String(error);
    }
  };
  assert.equal(await answer(known), 'let in');
  assert.equal(await answer(cached), 'let in');
  // Seen for the first time: its key and the revocations are in memory, so nobody has to be asked.
  assert.equal(await answer(fresh), 'let in');
  for (const credential of [unknown, ofUnknown])
    assert.equal(await answer(credential), '503 database_unavailable');
  assert.equal(await answer(`${fresh.slice(0, -4)}AAAA`), '401 invalid_api_key');
  await away.close();
});

test('word of a revocation is pushed: another process refuses the token long before its next poll', async () => {
  const broadcast = memoryBroadcast(silentLogger);
  const access = { issuer: () => issuer, pollIntervalMs: 600_000 };
  const [one, other] = [
    await openControlPlane(database.db, { masterKey, access, broadcast }),
    await openControlPlane(database.db, { masterKey, access, broadcast }),
  ];
  await other.access.lifecycle.start();
  await other.access.api.readChanges();
  const tenantId = await newTenant();
  const holder = await newMember(tenantId, { role: 'admin' });
  const key = await newKey(tenantId, { member_id: holder.id });
  const [revoked, ofMember] = [await newToken(key.key), await newToken(key.key)];
  for (const token of [revoked, ofMember]) assert.equal(await tryToken(other, token.token), 'let in');
  await one.open('POST', '/v1/tokens/revoke', { key: key.key, body: { token_id: revoked.id } });
  const wanted = '401 token_revoked';
  assert.equal(await within1s(() => tryToken(other, revoked.token), wanted), wanted);
  assert.equal(await tryToken(other, ofMember.token), 'let in');
  await one.admin('DELETE', `/control/v1/tenants/${tenantId}/members/${holder.id}`);
  assert.equal(await within1s(() => tryToken(other, ofMember.token), '401 key_revoked'), '401 key_revoked');
  await one.close();
  await other.close();
});

test('the same token at once in many requests is verified, and all of them are let in', async () => {
  const token = await newToken((await newKey(await newTenant())).key);
  const found = await Promise.all(Array.from({ length: 100 }, () => principalOf(elsewhere, token.token)));
  assert.equal(new Set(found).size, 1);
});

test('"not before" is kept for 10,000 end users at the most; then for all, which makes room', async () => {
  const tenantId = await newTenant();
  const key = await newKey(tenantId);
  const { tenantId: uuid } = await principalOf(here, key.key);
  await database.db.withTenant({ tenantId: uuid }, (tx) =>
    sql`
      insert into tenant.token_cutoffs (tenant_id, kind, subject, not_before, revoked_by, expires_at)
      select ${uuid}::uuid, 'end_user', 'u-' || n, now(), 'test', now() + interval '1 day'
      from generate_series(1, 10000) n
    `.execute(tx),
  );
  const revoke = async (body: object): Promise<Answer> =>
    here.open('POST', '/v1/tokens/revoke', { key: key.key, body });
  const refused = await revoke({ end_user: 'one more' });
  assert.equal(refusedAs(refused), '409 conflict');
  assert.match(errorIn(refused).message, /all/);
  assert.equal(refusedAs(await revoke({ end_user: 'u-7' })), 'let in', 'one that is there already');
  assert.equal(refusedAs(await revoke({ key_id: key.id })), 'let in', 'another kind');
  const token = await newToken(key.key, { end_user: 'u-9' });
  assert.equal(refusedAs(await revoke({ all: true })), 'let in');
  assert.equal(await tryToken(here, token.token), '401 token_revoked');
  assert.equal(refusedAs(await revoke({ end_user: 'one more' })), 'let in');
});

test('a process with another master key than the database was sealed under says so; one with the same is well', async () => {
  await newToken((await newKey(await newTenant())).key);
  const seals = ({ access }: ControlPlane): boolean | undefined =>
    access.health.find(({ name }) => name === 'master_key')?.isHealthy();
  const strange = await openControlPlane(database.db, {
    masterKey: Buffer.alloc(32, 8),
    access: { issuer: () => issuer },
  });
  const same = await openControlPlane(database.db, { masterKey, access: { issuer: () => issuer } });
  try {
    for (const plane of [strange, same]) await plane.access.lifecycle.start();
    assert.deepEqual([seals(strange), seals(same)], [false, true]);
  } finally {
    await strange.close();
    await same.close();
  }
});
