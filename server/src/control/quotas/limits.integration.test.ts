import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import { crc32 } from 'node:zlib';
import {
  accessToken,
  createdApiKey,
  keyLimits,
  member as memberObject,
  tenant as tenantObject,
  tenantLimits,
  type TenantLimitRule,
} from '@stoa/contracts';
import { memoryBroadcast, memoryLimits, memoryRollCall } from '#cache';
import { asTenantId, fromTypeId, type ManualClock, manualClock, silentLogger, toTypeId } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
} from '#testing';
import { createQuotas, type QuotasModule } from './index.ts';

let database: TestDatabase;
let clock: ManualClock;
let plane: ControlPlane;
let quotas: QuotasModule;
/** Another process on the same database: told of nothing, so that its poll is what brings changes. */
let elsewhere: QuotasModule;
let tenantId = '';
let adminKey = '';
let keyId = '';

const registry = {
  counter: () => ({ add: () => undefined }),
  gauge: () => ({ set: () => undefined }),
  histogram: () => ({ observe: () => undefined }),
  observedGauge: () => undefined,
};

function quotasOn(): QuotasModule {
  return createQuotas(
    {
      db: database.db,
      clock,
      logger: silentLogger,
      metrics: registry,
      limits: memoryLimits(clock),
      rollCall: memoryRollCall,
      broadcast: memoryBroadcast(silentLogger),
    },
    { unknownKeysPerMinute: 5, pollEveryMs: 20 },
  );
}

before(async () => {
  database = await openTestDatabase();
  clock = manualClock(Date.now());
  quotas = quotasOn();
  elsewhere = quotasOn();
  const fault = { kind: 'unreachable', code: null, detail: 'away' } as const;
  const call = async () => ({ outcome: 'failed', fault }) as const;
  plane = await openControlPlane(database.db, { clock, quotas, outbound: { check: () => null, call } });
  await quotas.lifecycle.start();
  await elsewhere.lifecycle.start();
  ({ id: tenantId } = tenantObject.parse(
    (await plane.admin('POST', '/control/v1/tenants', { body: { name: 'T' } })).body,
  ));
  ({ key: adminKey, id: keyId } = await newKey(tenantId));
});

after(async () => {
  await quotas.lifecycle.stop();
  await elsewhere.lifecycle.stop();
  await plane.close();
  await database.close();
});

async function newKey(ofTenant: string): Promise<{ key: string; id: string }> {
  const path = `/control/v1/tenants/${ofTenant}/keys`;
  return createdApiKey.parse((await plane.admin('POST', path, { body: { name: 'k', role: 'admin' } })).body);
}

async function newTenant(): Promise<{ id: string; key: string; keyId: string }> {
  const { id } = tenantObject.parse(
    (await plane.admin('POST', '/control/v1/tenants', { body: { name: 'U' } })).body,
  );
  const { key, id: madeId } = await newKey(id);
  return { id, key, keyId: madeId };
}

const setLimits = (id: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> =>
  plane.admin('PUT', `/control/v1/tenants/${id}/limits`, { body, headers });
const read = (key: string): Promise<Answer> => plane.open('GET', '/v1/limits', { key });

function expectError(answer: Answer, status: number, code: string): void {
  assert.deepEqual([answer.status, errorIn(answer).code], [status, code], answer.text);
}

const perMinute: Partial<TenantLimitRule> = { meter: 'requests', limit: 2, period_s: 60 };

test('a tenant without limits answers without fields, and its limits are the defaults at version 0', async () => {
  const answer = await read(adminKey);
  assert.equal(answer.headers['ratelimit'], undefined);
  const expected = { object: 'limits', rules: null, effective: [], version: 0, updated_at: null };
  assert.deepEqual(answer.body, expected);
  assert.deepEqual((await plane.admin('GET', `/control/v1/tenants/${tenantId}/limits`)).body, expected);
});

test('what the operator sets holds at once: fields on every answer, then 429 with Retry-After in the one shape of errors', async () => {
  const { id, key } = await newTenant();
  const set = await setLimits(id, { rules: [{ ...perMinute, route_class: 'read' }] });
  assert.equal(set.status, 200, set.text);
  const { effective, version } = tenantLimits.parse(set.body);
  assert.deepEqual(effective, [{ ...perMinute, per: 'tenant', route_class: 'read', burst: 2 }]);
  assert.equal(set.headers['etag'], `"${version}"`);
  const first = await read(key);
  assert.equal(first.status, 200);
  assert.equal(first.headers['ratelimit-policy'], '"tenant-read-requests-60s";q=2;w=60');
  assert.equal(first.headers['ratelimit'], '"tenant-read-requests-60s";r=1;t=30');
  assert.equal((await read(key)).status, 200);
  const refused = await read(key);
  expectError(refused, 429, 'rate_limit_exceeded');
  assert.equal(refused.headers['retry-after'], '30');
  assert.equal(refused.headers['ratelimit'], '"tenant-read-requests-60s";r=0;t=60');
  assert.equal(refused.headers['x-should-retry'], undefined);
  assert.equal((await plane.open('PUT', '/v1/key-policy', { key, body: {} })).status, 200, 'another class');
  assert.equal((await read(adminKey)).status, 200, 'another tenant');
  clock.advance(30_000);
  assert.equal((await read(key)).status, 200);
});

test('a refused request costs its body nothing: it is refused before that is read', async () => {
  const { id, key } = await newTenant();
  await setLimits(id, { rules: [{ ...perMinute, limit: 1, route_class: 'write' }] });
  const put = () => plane.open('PUT', '/v1/key-policy', { key, rawBody: '{"not json' });
  expectError(await put(), 400, 'invalid_json');
  expectError(await put(), 429, 'rate_limit_exceeded');
});

test('another process knows of a change by its poll, and of the end of a limit too', async () => {
  const { id } = await newTenant();
  const uuid = fromTypeId('ten', id);
  assert.ok(uuid !== null);
  const asked = {
    kind: 'tenant',
    keyId: 'k',
    role: 'admin',
    scopes: null,
    projectId: null,
    tags: {},
    standing: { refusal: null },
    tenantId: asTenantId(uuid),
  } as const;
  const isLimited = (): boolean => elsewhere.limiter.check(asked, 'read', '192.0.2.1') !== null;
  const until = async (wanted: boolean): Promise<void> => {
    for (let tries = 0; isLimited() !== wanted; tries++) {
      assert.ok(tries < 500, 'it never came about');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  assert.equal(isLimited(), false);
  await setLimits(id, { rules: [perMinute] });
  await until(true);
  await setLimits(id, { rules: [] });
  await until(false);
  await setLimits(id, { rules: [perMinute] });
  await until(true);
  // A process that starts later reads all that is set.
  const later = quotasOn();
  await later.lifecycle.start();
  assert.notEqual(later.limiter.check(asked, 'read', '192.0.2.1'), null);
  await later.lifecycle.stop();
  await setLimits(id, { rules: null });
  await until(false);
});

test('limits that are none are refused with their place', async () => {
  const long = Array.from({ length: 17 }, (_, index) => ({ ...perMinute, period_s: index + 1 }));
  for (const [body, param] of [
    [{ rules: [{ ...perMinute, limit: 0 }] }, 'rules[0].limit'],
    [{ rules: [{ ...perMinute, limit: 1.5 }] }, 'rules[0].limit'],
    [{ rules: [{ ...perMinute, limit: '5' }] }, 'rules[0].limit'],
    [{ rules: [{ ...perMinute, period_s: 86_401 }] }, 'rules[0].period_s'],
    [{ rules: [perMinute, { ...perMinute, burst: -1 }] }, 'rules[1].burst'],
    [{ rules: [perMinute, perMinute] }, 'rules[1]'],
    [{ rules: [{ ...perMinute, meter: 'tokens', route_class: 'read' }] }, 'rules[0].route_class'],
    [{ rules: [{ ...perMinute, per: 'everybody' }] }, 'rules[0].per'],
    [{ rules: [{ ...perMinute, limit: 999_999_937, period_s: 86_399 }] }, 'rules[0]'],
    [{ rules: long }, 'rules'],
    [{}, 'rules'],
  ] as const) {
    const answer = await setLimits(tenantId, body);
    expectError(answer, 400, 'invalid_request');
    assert.equal(errorIn(answer).param, param, answer.text);
  }
  expectError(await setLimits(tenantId, { rules: [], more: 1 }), 400, 'invalid_request');
  expectError(await setLimits('ten_01h455vb4pex5vsknk084sn02q', { rules: [] }), 404, 'not_found');
  expectError(
    await plane.admin('GET', '/control/v1/tenants/ten_01h455vb4pex5vsknk084sn02q/limits'),
    404,
    'not_found',
  );
  expectError(await plane.admin('GET', '/control/v1/tenants/nobody/limits'), 400, 'invalid_request');
});

test('limits carry a version: what was changed meanwhile is not overwritten', async () => {
  const { id } = await newTenant();
  const fresh = { 'if-match': '"0"' };
  assert.equal((await setLimits(id, { rules: [perMinute] }, fresh)).status, 200);
  expectError(await setLimits(id, { rules: [] }, fresh), 412, 'version_conflict');
  const kept = tenantLimits.parse((await plane.admin('GET', `/control/v1/tenants/${id}/limits`)).body);
  assert.deepEqual([kept.version, kept.rules?.length], [1, 1]);
});

test("a key's own limits bind that key alone, beside the tenant's; another tenant's key is not found", async () => {
  const { id, key, keyId: own } = await newTenant();
  const second = await newKey(id);
  const set = (of: string, body: unknown, by = key) =>
    plane.open('PUT', `/v1/keys/${of}/limits`, { key: by, body });
  const narrow = { rules: [{ ...perMinute, limit: 1, route_class: 'read' }] };
  const answer = await set(second.id, narrow);
  assert.equal(answer.status, 200, answer.text);
  const shown = keyLimits.parse(answer.body);
  assert.deepEqual([shown.key_id, shown.version, shown.rules[0]?.burst], [second.id, 1, 1]);
  assert.equal((await read(second.key)).status, 200);
  const refused = await read(second.key);
  expectError(refused, 429, 'rate_limit_exceeded');
  assert.equal(refused.headers['ratelimit-policy'], '"own-key-read-requests-60s";q=1;w=60');
  assert.equal((await read(key)).status, 200);
  const shownAgain = await plane.open('GET', `/v1/keys/${second.id}/limits`, { key });
  assert.deepEqual(shownAgain.body, answer.body);
  const never = await plane.open('GET', `/v1/keys/${own}/limits`, { key });
  assert.deepEqual(keyLimits.parse(never.body).rules, []);
  expectError(await set(keyId, narrow), 404, 'not_found');
  expectError(await set('00abcdefghij', narrow), 404, 'not_found');
  expectError(await plane.open('GET', `/v1/keys/${keyId}/limits`, { key }), 404, 'not_found');
  expectError(await set(own, { rules: [{ ...perMinute, per: 'tenant' }] }), 400, 'invalid_request');
  const viewer = createdApiKey.parse(
    (await plane.admin('POST', `/control/v1/tenants/${id}/keys`, { body: { name: 'v', role: 'viewer' } }))
      .body,
  );
  expectError(await set(own, { rules: [] }, viewer.key), 403, 'permission_denied');
});

test('a key cannot change its own limits, neither itself nor by a token; another key of the tenant can', async () => {
  const { id, key, keyId: own } = await newTenant();
  const other = await newKey(id);
  const set = (by: string, body: unknown) => plane.open('PUT', `/v1/keys/${own}/limits`, { key: by, body });
  const rules = [{ ...perMinute, route_class: 'chat' }];
  assert.equal((await set(other.key, { rules })).status, 200);
  const { token } = accessToken.parse((await plane.open('POST', '/v1/tokens', { key, body: {} })).body);
  for (const by of [key, token])
    for (const body of [{ rules: [] }, { rules }]) expectError(await set(by, body), 403, 'permission_denied');
  const kept = await plane.open('GET', `/v1/keys/${own}/limits`, { key });
  assert.equal(keyLimits.parse(kept.body).rules.length, 1);
});

test('a key with limits of its own makes no key, is shown no other, and loosens nothing, so that it cannot go around them', async () => {
  const make = async (body: object = {}) =>
    createdApiKey.parse(
      (
        await plane.admin('POST', `/control/v1/tenants/${tenantId}/keys`, {
          body: { name: 'k', role: 'admin', ...body },
        })
      ).body,
    );
  const [bound, other] = [await make(), await make({ role: 'viewer' })];
  const rules = [{ meter: 'requests', route_class: 'chat', limit: 600, period_s: 60 }];
  const set = await plane.open('PUT', `/v1/keys/${bound.id}/limits`, { key: adminKey, body: { rules } });
  assert.equal(set.status, 200, set.text);
  const key = bound.key;
  const issuer = {
    name: 'x',
    issuer: 'https://id.example.test',
    jwks_url: 'https://id.example.test/jwks.json',
    audience: `stoa:${toTypeId('ten', fromTypeId('ten', tenantId) ?? '')}`,
    claims: { default_role: 'viewer' },
  };
  const refused = [
    await plane.open('POST', '/v1/keys', { key, body: { name: 'k', role: 'viewer' } }),
    await plane.open('POST', `/v1/keys/${other.id}/rotate`, { key, body: {} }),
    await plane.open('PUT', `/v1/keys/${other.id}/limits`, { key, body: { rules: [] } }),
    await plane.open('PUT', `/v1/keys/${bound.id}/limits`, { key, body: { rules: [] } }),
    await plane.open('POST', '/v1/issuers', { key, body: issuer }),
    await plane.open('POST', '/v1/members', {
      key,
      body: { name: 'm', role: 'admin', external_id: 'm@idp' },
    }),
  ];
  for (const [index, answer] of refused.entries())
    assert.deepEqual([answer.status, errorIn(answer).code], [403, 'permission_denied'], `case ${index}`);
  const member = await plane.open('POST', '/v1/members', { key, body: { name: 'm', role: 'viewer' } });
  assert.equal(member.status, 201, 'one who signs in nowhere it may make');
  const path = `/v1/members/${memberObject.parse(member.body).id}`;
  const signing = await plane.open('PATCH', path, { key, body: { external_id: 'm@idp' } });
  assert.deepEqual([signing.status, errorIn(signing).code], [403, 'permission_denied']);
  const renamed = async (id: string) =>
    plane.open('PATCH', `/v1/members/${id}`, { key, body: { name: 'n' } });
  const made = await plane.open('POST', '/v1/members', {
    key: adminKey,
    body: { name: 'o', role: 'viewer', external_id: 'o@idp' },
  });
  const { id: signingIn } = memberObject.parse(made.body);
  assert.equal((await renamed(signingIn)).status, 200, 'a name lets nobody do more');
  const promoted = await plane.open('PATCH', `/v1/members/${signingIn}`, { key, body: { role: 'admin' } });
  assert.deepEqual([promoted.status, errorIn(promoted).code], [403, 'permission_denied']);
  const removed = await plane.open('DELETE', path, { key });
  assert.ok(removed.status < 300, removed.text);
  const rotated = await plane.open('POST', `/v1/keys/${bound.id}/rotate`, { key, body: {} });
  assert.equal(rotated.status, 200, rotated.text);
  const same = await plane.open('GET', `/v1/keys/${bound.id}/limits`, { key: adminKey });
  assert.equal(keyLimits.parse(same.body).rules.length, 1, 'its own rotation keeps them');
  await plane.open('PUT', `/v1/keys/${bound.id}/limits`, { key: adminKey, body: { rules: [] } });
  const freed = await plane.open('POST', '/v1/keys', { key, body: { name: 'k', role: 'viewer' } });
  assert.equal(freed.status, 201, 'without limits it may');
});

test('changes of limits are told as events and kept in the audit', async () => {
  const { id, key, keyId: own } = await newTenant();
  await setLimits(id, { rules: [perMinute] });
  await plane.open('PUT', `/v1/keys/${own}/limits`, {
    key: (await newKey(id)).key,
    body: { rules: [{ ...perMinute, route_class: 'chat' }] },
  });
  const audited = await plane.open('GET', '/v1/audit', { key });
  assert.match(audited.text, /"tenant_limits.replace"/);
  assert.match(audited.text, /"key_limits.replace"/);
});

/** A key of nobody that is well-formed to the last character. */
function wrongKey(): string {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  const random = (length: number): string =>
    Array.from({ length }, () => alphabet.charAt(randomInt(62))).join('');
  const unchecked = `stoa_sk_00${random(10)}_${random(30)}`;
  let rest = crc32(unchecked);
  let check = '';
  for (let index = 0; index < 6; index++, rest = Math.floor(rest / 62))
    check = alphabet.charAt(rest % 62) + check;
  return unchecked + check;
}

async function lookUps(): Promise<number> {
  const text = await plane.telemetry.renderMetrics();
  return Number(/^stoa_auth_lookup_queries_total\{kind="tenant"\} (\d+)$/m.exec(text)?.[1] ?? 0);
}

test('garbage of one address costs the database one query a second; known keys go on, and a right one that is new gets in', async () => {
  const { key: known } = await newTenant();
  const { key: unknown } = await newTenant();
  assert.equal((await read(known)).status, 200);
  const before = await lookUps();
  assert.ok(before > 0);
  const flood = Array.from({ length: 700 }, () => read(wrongKey()));
  const fresh = read(unknown);
  assert.equal((await read(known)).status, 200, 'a key that the process knows');
  const codes = (await Promise.all(flood)).map((answer) => errorIn(answer).code);
  assert.ok(codes.filter((code) => code === 'invalid_api_key').length >= 5);
  assert.ok(codes.every((code) => code === 'invalid_api_key' || code === 'rate_limit_exceeded'));
  const status = (await fresh).status;
  assert.ok(status === 200 || status === 429, String(status));
  assert.ok((await lookUps()) - before <= 60, 'of 701 credentials');
  assert.equal((await read(unknown)).status, 200, 'a key that is new to the process');
});

test('right keys of one address are bounded by nothing', async () => {
  clock.advance(60_000);
  const { key } = await newTenant();
  for (let index = 0; index < 20; index++) {
    const fresh = await newKey((await newTenant()).id);
    assert.equal((await read(fresh.key)).status, 200, 'right keys cost the address nothing');
  }
  assert.equal((await read(key)).status, 200);
});
