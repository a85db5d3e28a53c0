import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  apiKey,
  createdApiKey,
  createdOperatorKey,
  endpoint,
  listOf,
  operatorKey,
  tenant,
} from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { tenantRoute } from '#http';
import { type ManualClock, manualClock, type Standing, type TenantPrincipal } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';
import { checkOf, keyPrefixes, makeKey } from './key-format.ts';

let database: TestDatabase;
let plane: ControlPlane;
let clock: ManualClock;
/** The standing of the last principal that got through to the handler below. */
let seen: TenantPrincipal | undefined;

const whoami = endpoint({
  id: 'test.whoami',
  listener: 'public',
  method: 'GET',
  path: '/v1/whoami',
  summary: 'For the test',
  access: { permission: 'models:read' },
  responses: { 200: { description: 'The caller', schema: z.unknown() } },
  errors: [],
  idempotent: 'yes',
  example: {},
});
const routes = [
  tenantRoute(whoami, async (_input, principal) => {
    seen = principal;
    return { status: 200, body: { tenant: principal.tenantId, key: principal.keyId, role: principal.role } };
  }),
];

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  plane = await openControlPlane(database.db, { clock, routes: () => routes });
});

after(async () => {
  await plane.close();
  await database.close();
});

const tenants = '/control/v1/tenants';
const operatorKeys = '/control/v1/operator-keys';
const hourMs = 60 * 60 * 1000;

interface Made {
  readonly tenantId: string;
  readonly keyId: string;
  readonly key: string;
  /** Of the key in the control plane. */
  readonly address: string;
}

async function newKey(body: object = {}, tenantId?: string): Promise<Made> {
  const owner =
    tenantId ?? tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Acme' } })).body).id;
  const answer = await plane.admin('POST', `${tenants}/${owner}/keys`, {
    body: { name: 'key', role: 'developer', ...body },
  });
  const { id, key } = createdApiKey.parse(answer.body);
  return { tenantId: owner, keyId: id, key, address: `${tenants}/${owner}/keys/${id}` };
}

async function whoamiBy(key: string, at: ControlPlane = plane): Promise<Answer> {
  return at.open('GET', '/v1/whoami', { key });
}

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

async function until(isSo: () => Promise<boolean>, limitMs: number): Promise<number> {
  const startedAt = performance.now();
  while (!(await isSo())) {
    if (performance.now() - startedAt > limitMs) throw new Error(`not so within ${limitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - startedAt;
}

test('every key that is wrong in whatever way gets one and the same answer', async () => {
  const { key, keyId } = await newKey();
  const { key: operatorKey } = makeKey(keyPrefixes.operator, '00');
  const guessed = `stoa_sk_${keyId}_${'a'.repeat(30)}`;
  const wrong = [
    "' OR 1=1 --",
    "stoa_sk_' OR '1'='1",
    'stoa_sk_',
    'sk-proj-abcdef',
    '{"$ne":null}',
    'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.',
    'A'.repeat(5000),
    key.slice(0, -1),
    `${key}0`,
    key.slice(0, -1) + (key.endsWith('0') ? '1' : '0'),
    key.toUpperCase(),
    makeKey(keyPrefixes.tenant, '00').key,
    guessed + checkOf(guessed),
    operatorKey,
    plane.operatorKey,
  ];
  const expected = await plane.open('GET', '/v1/whoami');
  expectError(expected, 401, 'invalid_api_key');
  for (const token of wrong) {
    assert.equal((await whoamiBy(token)).text, expected.text, token);
    assert.equal(
      (await plane.open('GET', '/v1/whoami', { headers: { authorization: token } })).text,
      expected.text,
    );
    assert.equal(
      (await plane.admin('GET', tenants, { key: token === plane.operatorKey ? key : token })).text,
      expected.text,
    );
  }
  assert.equal((await whoamiBy(key)).status, 200);
  const afterUse = await Promise.all(wrong.map((token) => whoamiBy(token)));
  assert.ok(afterUse.every(({ text }) => text === expected.text));
});

test('a typo is refused without a look-up', async () => {
  const { key } = makeKey(keyPrefixes.tenant, '00');
  const before = database.db.doorCounts().system['key-lookup'] ?? 0;
  const typo = key.slice(0, 30) + (key[30] === 'x' ? 'y' : 'x') + key.slice(31);
  expectError(await whoamiBy(typo), 401, 'invalid_api_key');
  assert.equal(database.db.doorCounts().system['key-lookup'] ?? 0, before);
  expectError(await whoamiBy(key), 401, 'invalid_api_key');
  assert.equal(database.db.doorCounts().system['key-lookup'], before + 1);
  expectError(await whoamiBy(key), 401, 'invalid_api_key');
  assert.equal(database.db.doorCounts().system['key-lookup'], before + 1);
});

test('a cached key is let in without a promise and without a query', async () => {
  const { key, tenantId, keyId } = await newKey({ role: 'viewer', project_id: 'p1', tags: { a: 'b' } });
  assert.equal((await whoamiBy(key)).status, 200);
  const before = database.db.doorCounts();
  const principal = plane.access.authenticator.tenant(`Bearer ${key}`, null);
  assert.ok(!(principal instanceof Promise));
  assert.equal(principal, seen);
  assert.deepEqual(
    [principal.keyId, principal.role, principal.projectId, principal.scopes],
    [keyId, 'viewer', 'p1', null],
  );
  assert.deepEqual({ ...principal.tags }, { a: 'b' });
  assert.deepEqual(database.db.doorCounts(), before);
  assert.ok(tenantId.startsWith('ten_'));
});

test('a hundred requests that come together with a key that is not cached are one query', async () => {
  const { key } = await newKey();
  const before = database.db.doorCounts().system['key-lookup'] ?? 0;
  const principals = await Promise.all(
    Array.from({ length: 100 }, async () => plane.access.authenticator.tenant(`Bearer ${key}`, null)),
  );
  assert.equal(new Set(principals).size, 1);
  assert.equal(database.db.doorCounts().system['key-lookup'], before + 1);
});

test('who holds the right secret of a revoked or expired key is told so, and who guesses is not', async () => {
  const revoked = await newKey();
  await plane.admin('DELETE', revoked.address);
  expectError(await whoamiBy(revoked.key), 401, 'key_revoked');
  const expired = await newKey({ expires_at: new Date(clock.now() + hourMs).toISOString() });
  assert.equal((await whoamiBy(expired.key)).status, 200);
  const { standing } = seen ?? {};
  clock.advance(hourMs - 1);
  await plane.access.api.readChanges();
  assert.equal((await whoamiBy(expired.key)).status, 200);
  clock.advance(1);
  expectError(await whoamiBy(expired.key), 401, 'key_expired');
  assert.equal(standing?.refusal?.code, 'key_expired');
  for (const { keyId } of [revoked, expired]) {
    const guessed = `stoa_sk_${keyId}_${'a'.repeat(30)}`;
    expectError(await whoamiBy(guessed + checkOf(guessed)), 401, 'invalid_api_key');
  }
});

test('answers that run see their key revoked, their tenant suspended or deleted, and nobody else does', async () => {
  const [a, b] = [await newKey(), await newKey()];
  const standingOf = async ({ key }: Made): Promise<Standing> => {
    assert.equal((await whoamiBy(key)).status, 200);
    assert.ok(seen);
    return seen.standing;
  };
  const [ofA, ofB] = [await standingOf(a), await standingOf(b)];
  const second = await newKey({}, a.tenantId);
  const ofSecond = await standingOf(second);
  await plane.admin('DELETE', a.address);
  assert.deepEqual([ofA.refusal?.code, ofSecond.refusal, ofB.refusal], ['key_revoked', null, null]);
  await plane.admin('PATCH', `${tenants}/${a.tenantId}`, { body: { state: 'suspended' } });
  assert.deepEqual(
    [ofA.refusal?.code, ofSecond.refusal?.code, ofB.refusal],
    ['key_revoked', 'tenant_suspended', null],
  );
  await plane.admin('DELETE', `${tenants}/${a.tenantId}`);
  assert.deepEqual(
    [ofA.refusal?.code, ofSecond.refusal?.code, ofB.refusal],
    ['invalid_api_key', 'invalid_api_key', null],
  );
});

test('an operator key opens the control plane and nothing else, until it is revoked', async () => {
  const create = async (body: object) =>
    createdOperatorKey.parse((await plane.admin('POST', operatorKeys, { body })).body);
  const { key, id } = await create({ name: 'second' });
  assert.match(key, /^stoa_op_00[0-9A-Za-z]{10}_[0-9A-Za-z]{36}$/);
  assert.equal((await plane.admin('GET', tenants, { key })).status, 200);
  expectError(await whoamiBy(key), 401, 'invalid_api_key');
  const list = await plane.admin('GET', operatorKeys);
  assert.equal(listOf(operatorKey).parse(list.body).data[0]?.id, id);
  assert.ok(!list.text.includes(key.slice(21, 30)));
  expectError(await plane.admin('DELETE', `${operatorKeys}/${id}`, { key }), 409, 'conflict');
  const stale = { headers: { 'if-match': '"7"' } };
  expectError(await plane.admin('DELETE', `${operatorKeys}/${id}`, stale), 412, 'version_conflict');
  for (let times = 0; times < 2; times += 1) {
    const revoked = operatorKey.parse((await plane.admin('DELETE', `${operatorKeys}/${id}`)).body);
    assert.equal(revoked.version, 2);
    expectError(await plane.admin('GET', tenants, { key }), 401, 'key_revoked');
  }
  expectError(await plane.admin('DELETE', `${operatorKeys}/00zzzzzzzzzz`), 404, 'not_found');
  expectError(await plane.admin('GET', `${operatorKeys}/00zzzzzzzzzz`), 404, 'not_found');
  expectError(await plane.admin('GET', `${operatorKeys}?after=00zzzzzzzzzz`), 400, 'invalid_request');
  const past = { name: 'past', expires_at: new Date(clock.now()).toISOString() };
  expectError(await plane.admin('POST', operatorKeys, { body: past }), 400, 'invalid_request');
  const short = await create({ name: 'short', expires_at: new Date(clock.now() + 1000).toISOString() });
  assert.equal((await plane.admin('GET', tenants, { key: short.key })).status, 200);
  clock.advance(1000);
  expectError(await plane.admin('GET', tenants, { key: short.key }), 401, 'key_expired');
});

test('what one process changes holds in another within one second', async () => {
  const other = await openControlPlane(database.db, { routes: () => routes });
  try {
    await other.access.lifecycle.start();
    const [revoked, suspended, deleted, demoted, kept] = [
      await newKey(),
      await newKey(),
      await newKey(),
      await newKey({ role: 'admin' }),
      await newKey(),
    ];
    const all = [revoked, suspended, deleted, demoted, kept];
    const standings = new Map<Made, Standing>();
    for (const made of all) {
      assert.equal((await whoamiBy(made.key, other)).status, 200);
      if (seen) standings.set(made, seen.standing);
    }
    assert.equal((await other.open('GET', '/v1/keys', { key: demoted.key })).status, 200);
    const operator = await plane.access.api.createOperatorKey({ operator: 'system:test' }, { name: 'brief' });
    assert.equal((await other.admin('GET', tenants, { key: operator.key })).status, 200);

    await plane.admin('DELETE', revoked.address);
    await plane.admin('PATCH', `${tenants}/${suspended.tenantId}`, { body: { state: 'suspended' } });
    await plane.admin('DELETE', `${tenants}/${deleted.tenantId}`);
    await plane.admin('PATCH', demoted.address, { body: { role: 'viewer' } });
    await plane.admin('DELETE', `${operatorKeys}/${operator.id}`);

    // What running answers look at, and no request in between: this is the poll alone.
    await until(
      async () => [revoked, suspended, deleted].every((made) => standings.get(made)?.refusal !== null),
      1000,
    );
    await until(async () => {
      const { status } = await other.open('GET', '/v1/keys', { key: demoted.key });
      return status === 403;
    }, 1000);
    await until(async () => (await other.admin('GET', tenants, { key: operator.key })).status === 401, 1000);
    expectError(await whoamiBy(revoked.key, other), 401, 'key_revoked');
    expectError(await whoamiBy(suspended.key, other), 403, 'tenant_suspended');
    expectError(await whoamiBy(deleted.key, other), 401, 'invalid_api_key');
    assert.equal((await whoamiBy(kept.key, other)).status, 200);
    assert.equal(standings.get(kept)?.refusal, null);

    await plane.admin('PATCH', `${tenants}/${suspended.tenantId}`, { body: { state: 'active' } });
    await until(async () => (await whoamiBy(suspended.key, other)).status === 200, 1000);
  } finally {
    await other.close();
  }
});

test('a commit that comes later than its time says is seen all the same', async () => {
  const other = await openControlPlane(database.db, { routes: () => routes });
  try {
    const { key, keyId } = await newKey();
    assert.equal((await whoamiBy(key, other)).status, 200);
    await database.db.withOperator({ operator: 'system:test' }, 'a slow change', async (tx) => {
      await sql`
        update tenant.api_keys set revoked_at = now(), version = version + 1, changed_at = now() - interval '20 seconds'
        where key_id = ${keyId}
      `.execute(tx);
    });
    await other.access.api.readChanges();
    expectError(await whoamiBy(key, other), 401, 'key_revoked');
  } finally {
    await other.close();
  }
});

test('a poll that finds nothing new for this process is one query', async () => {
  const other = await openControlPlane(database.db, { routes: () => routes });
  try {
    await other.access.api.readChanges();
    const before = database.db.doorCounts().system['key-lookup'] ?? 0;
    await other.access.api.readChanges();
    await other.access.api.readChanges();
    assert.equal(database.db.doorCounts().system['key-lookup'], before + 2);
  } finally {
    await other.close();
  }
});

async function lastUseOf({ address }: Made): Promise<string | null> {
  return apiKey.parse((await plane.admin('GET', address)).body).last_used_at;
}

/** Ends the process's part in access, which writes what is not written yet. */
async function writeUses(): Promise<void> {
  await plane.access.lifecycle.stop();
}

test('the last use is written behind the request, once a minute at most, and is no change of the key', async () => {
  const made = await newKey();
  const other = await newKey();
  assert.equal(await lastUseOf(made), null);
  const firstUse = new Date(clock.now()).toISOString();
  for (let index = 0; index < 20; index++) await whoamiBy(made.key);
  assert.equal(await lastUseOf(made), null);
  await writeUses();
  assert.equal(await lastUseOf(made), firstUse);
  assert.equal(await lastUseOf(other), null);
  clock.advance(59_999);
  await whoamiBy(made.key);
  await writeUses();
  assert.equal(await lastUseOf(made), firstUse);
  clock.advance(1);
  await whoamiBy(made.key);
  await writeUses();
  assert.equal(await lastUseOf(made), new Date(clock.now()).toISOString());
  assert.equal(apiKey.parse((await plane.admin('GET', made.address)).body).version, 1);
  const listed = listOf(operatorKey).parse((await plane.admin('GET', operatorKeys)).body);
  assert.ok(listed.data.some((key) => key.last_used_at !== null));
});

test('a refused key is not noted as used', async () => {
  const made = await newKey();
  await plane.admin('DELETE', made.address);
  expectError(await whoamiBy(made.key), 401, 'key_revoked');
  await writeUses();
  assert.equal(await lastUseOf(made), null);
});

test('a thousand keys used in the same minute are written in one statement', async () => {
  const { tenantId } = await newKey();
  const keys: Made[] = [];
  for (let index = 0; index < 25; index++) keys.push(await newKey({}, tenantId));
  await Promise.all(keys.map(({ key }) => whoamiBy(key)));
  const before = database.db.doorCounts().system['key-last-use'] ?? 0;
  await writeUses();
  // One for the tenants' keys, one for the operator's.
  assert.equal(database.db.doorCounts().system['key-last-use'], before + 2);
  for (const made of keys) assert.notEqual(await lastUseOf(made), null);
});

test('the state of authentication is among the metrics, without ids', async () => {
  const { keyId, key } = await newKey();
  await whoamiBy(key);
  await whoamiBy('wrong');
  const text = await plane.telemetry.renderMetrics();
  assert.match(text, /stoa_auth_refusals_total\{code="invalid_api_key"\} \d+/);
  assert.match(text, /stoa_auth_cached_keys [1-9]/);
  assert.match(text, /stoa_auth_changes_age_seconds \d/);
  assert.ok(!text.includes(keyId));
});

test('without the database, known keys work for 15 minutes, unknown ones are told to come back', async () => {
  const lost = await openTestDatabase();
  const away = await openControlPlane(lost.db, { clock, routes: () => routes });
  const { id } = tenant.parse((await away.admin('POST', tenants, { body: { name: 'x' } })).body);
  const made = await away.admin('POST', `${tenants}/${id}/keys`, { body: { name: 'k', role: 'viewer' } });
  const { key } = createdApiKey.parse(made.body);
  assert.equal((await whoamiBy(key, away)).status, 200);
  await lost.close();
  const { key: unknown } = makeKey(keyPrefixes.tenant, '00');
  await away.access.api.readChanges();
  assert.equal(away.access.health.find(({ name }) => name === 'access')?.isHealthy(), false);
  clock.advance(15 * 60_000);
  await away.access.api.readChanges();
  assert.equal((await whoamiBy(key, away)).status, 200);
  const answer = await whoamiBy(unknown, away);
  expectError(answer, 503, 'database_unavailable');
  clock.advance(1);
  expectError(await whoamiBy(key, away), 503, 'database_unavailable');
  assert.equal((await whoamiBy(key, away)).headers['retry-after'], '1');
  expectError(await whoamiBy('wrong', away), 401, 'invalid_api_key');
  await away.close();
  await plane.access.api.readChanges();
});
