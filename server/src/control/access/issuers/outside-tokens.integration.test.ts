/** What the tokens of one issuer, or of nobody, must not do to others: through the listener, against the database. */

import assert from 'node:assert/strict';
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { after, before, test } from 'node:test';
import { accessToken, createdApiKey, endpoint, tenant } from '@stoa/contracts';
import { z } from 'zod';
import { creatingTenantRoute } from '#http';
import { AppError, type Clock, systemClock } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';

const note = z.object({ secret: z.string() });

let database: TestDatabase;
let here: ControlPlane;
const iss = 'https://id.example.test';
const hangingIss = 'https://hanging.example.test';
/** A fetch of the hanging issuer's keys ends when this is called. */
let endHang = (): void => undefined;
const hang = new Promise<void>((resolve) => {
  endHang = resolve;
});

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const jwk = { ...publicKey.export({ format: 'jwk' }), kid: 'first', alg: 'EdDSA', use: 'sig' };

const outbound: NonNullable<Parameters<typeof openControlPlane>[1]>['outbound'] = {
  check: () => null,
  async call({ url }) {
    if (url.startsWith(hangingIss)) {
      await hang;
      return { outcome: 'failed', fault: { kind: 'timeout', code: null, detail: 'hangs' } };
    }
    const body = Buffer.from(JSON.stringify({ keys: [jwk] }));
    return { outcome: 'answered', status: 200, headers: {}, body, isCut: false, url };
  },
};

/** Makes something that such a token may make, with an answer that differs each time. */
const makeNote = endpoint({
  id: 'test.notes.create',
  listener: 'public',
  method: 'POST',
  path: '/v1/notes',
  summary: 'For the test',
  access: { permission: 'models:read' },
  responses: { 201: { description: 'The note', schema: note } },
  errors: ['idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: {},
});

before(async () => {
  database = await openTestDatabase();
  const notes = creatingTenantRoute(makeNote, (_input, { tenantId }, _context, keep) =>
    database.db.withTenant({ tenantId }, (tx) => keep(tx, { status: 201, body: { secret: randomUUID() } })),
  );
  here = await openControlPlane(database.db, { outbound, routes: () => [notes] });
});

after(async () => {
  endHang();
  await here.close();
  await database.close();
});

interface Tenant {
  readonly id: string;
  readonly key: string;
  readonly audience: string;
}

async function newTenant(issuer = iss): Promise<Tenant> {
  const made = await here.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } });
  const { id } = tenant.parse(made.body);
  const path = `/control/v1/tenants/${id}/keys`;
  const { key } = createdApiKey.parse(
    (await here.admin('POST', path, { body: { name: 'k', role: 'admin' } })).body,
  );
  const audience = `stoa:${id}`;
  const claims = { role: 'groups', roles: { admins: 'admin' } };
  const body = { name: 'Ours', issuer, jwks_url: `${issuer}/jwks.json`, audience, claims };
  const answer = await here.open('POST', '/v1/issuers', { key, body });
  assert.equal(answer.status, 201, answer.text);
  return { id, key, audience };
}

/** Claims that are undefined are left out. */
function token(audience: unknown, claims: object = {}, signer = privateKey): string {
  const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const nowS = Math.floor(Date.now() / 1000);
  const times = { iat: nowS, exp: nowS + 600 };
  const payload = {
    iss,
    aud: audience,
    sub: 'u',
    groups: ['admins'],
    jti: `j${Math.random()}`,
    ...times,
    ...claims,
  };
  const signed = `${encode({ alg: 'EdDSA', kid: 'first', typ: 'at+jwt' })}.${encode(payload)}`;
  return `${signed}.${sign(null, Buffer.from(signed), signer).toString('base64url')}`;
}

function outcome(answer: Answer): string {
  return answer.status < 400 ? 'let in' : `${answer.status} ${errorIn(answer).code}`;
}

async function use(text: string, plane = here): Promise<string> {
  return outcome(await plane.open('GET', '/v1/issuers', { key: text }));
}

const stranger = generateKeyPairSync('ed25519').privateKey;

test('a token whose claims no store can hold is refused as any invalid one, and fails nobody else', async () => {
  const acme = await newTenant();
  const texts = ['a\u0000b', 'a\ud800', 'x'.repeat(3000)];
  const wrong = texts.flatMap((text) => [
    token(acme.audience, { iss: text }, stranger),
    token(acme.audience, { jti: text }),
    token(acme.audience, { sub: text }),
    token([acme.audience, text]),
  ]);
  for (const [index, text] of wrong.entries())
    assert.equal(await use(text), '401 invalid_api_key', `case ${index}`);
  const invalid = Array.from({ length: 20 }, (_, index) =>
    use(token('x', { iss: `https://${index}.example.test/\u0000` }, stranger)),
  );
  const others = await Promise.all([...invalid, use(token(acme.audience)), use(token(acme.audience))]);
  assert.deepEqual(new Set(others.slice(0, 20)), new Set(['401 invalid_api_key']));
  assert.deepEqual(others.slice(20), ['let in', 'let in']);
});

test('what one subject was answered under an Idempotency-Key, another without a member and `jti` is not shown', async () => {
  const acme = await newTenant();
  const create = async (text: string): Promise<string> => {
    const headers = { 'idempotency-key': 'same' };
    const made = await here.open('POST', '/v1/notes', { key: text, headers });
    assert.equal(made.status, 201, made.text);
    return note.parse(made.body).secret;
  };
  const [ada, eve] = [
    token(acme.audience, { sub: 'ada', jti: undefined }),
    token(acme.audience, { sub: 'eve', jti: undefined }),
  ];
  const made = await create(ada);
  assert.equal(await create(ada), made);
  assert.notEqual(await create(eve), made);
});

test('"not before" ends a token whose `iat` lies in the future, at once and for good', async () => {
  const acme = await newTenant();
  const ahead = token(acme.audience, { iat: Math.floor(Date.now() / 1000) + 25 });
  assert.equal(await use(ahead), 'let in');
  const revoked = await here.open('POST', '/v1/tokens/revoke', { key: acme.key, body: { all: true } });
  assert.equal(revoked.status, 200, revoked.text);
  assert.equal(await use(ahead), '401 token_revoked');
  // A process that sees it for the first time once its `iat` is past.
  const clock: Clock = { ...systemClock, now: () => systemClock.now() + 40_000 };
  const later = await openControlPlane(database.db, { outbound, clock });
  assert.equal(await use(ahead, later), '401 token_revoked');
  assert.equal(
    await use(token(acme.audience, { iat: Math.floor(Date.now() / 1000) + 40 }), later),
    'let in',
    'a token that was made well after it',
  );
  await later.close();
});

test('an issuer that hangs refuses its own tokens only: those of Stoa and of other issuers are let in', async () => {
  const [acme, theirs] = [await newTenant(), await newTenant(hangingIss)];
  const own = await here.open('POST', '/v1/tokens', { key: acme.key, body: { scopes: ['issuers:read'] } });
  const ownToken = accessToken.parse(own.body).token;
  const { authenticator } = here.access;
  const codes: Promise<string>[] = [];
  for (let index = 0; index < 1500; index += 1)
    codes.push(
      Promise.resolve(
        authenticator.tenant(`Bearer ${token(theirs.audience, { iss: hangingIss })}`, null),
      ).then(
        () => 'let in',
        (error: unknown) => (error instanceof AppError ? error.code : String(error)),
      ),
    );
  const waits = await Promise.race([Promise.all(codes), new Promise((resolve) => setTimeout(resolve, 500))]);
  assert.equal(waits, undefined, 'some wait for the fetch');
  assert.equal(await use(ownToken), 'let in');
  assert.equal(await use(token(acme.audience)), 'let in');
  endHang();
  const ended = await Promise.all(codes);
  assert.equal(ended.filter((code) => code === 'issuer_unavailable').length, 64);
  assert.equal(ended.filter((code) => code === 'overloaded').length, 1500 - 64);
});
