/**
 * Known failures of others, as journeys of a key: its plaintext in logs, files and tables; a refusal that tells of tables;
 * an outage of the database that turns valid keys into wrong ones.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { errorBody } from '@stoa/contracts';
import pg from 'pg';
import { z } from 'zod';
import { createFaultProxy, type FaultProxy } from '../../server/src/testing/fault-proxy.ts';
import { codeOf } from './answer-shapes.ts';
import {
  type Answer,
  databaseAddress,
  eventually,
  send,
  startStoa,
  type StoaProcess,
  usesPostgres,
} from './stoa-process.ts';

const madeKey = z.object({ id: z.string(), key: z.string() });
type MadeKey = z.infer<typeof madeKey>;

let gate: FaultProxy | null = null;
let stoa: StoaProcess;

before(async () => {
  if (usesPostgres) {
    gate = await createFaultProxy(databaseAddress);
  }
  stoa = await startStoa({
    env: { STOA_LOG_LEVEL: 'debug' },
    ...(gate === null ? {} : { databasePort: gate.port }),
  });
});

after(async () => {
  await gate?.set({});
  await stoa.dispose();
  await gate?.set({ isShut: true });
});

/** Every secret that the tests were shown, to be found nowhere again. */
const shown: string[] = [];

function remember(answer: Answer): MadeKey {
  assert.ok(answer.status === 201 || answer.status === 200, answer.text);
  const made = madeKey.parse(answer.json);
  shown.push(made.key);
  return made;
}

async function newKey(
  tenantId: string,
  body: object = {},
  headers: Record<string, string> = {},
): Promise<MadeKey> {
  return remember(
    await stoa.call('POST', `/control/v1/tenants/${tenantId}/keys`, {
      body: { name: 'key', role: 'admin', ...body },
      headers,
    }),
  );
}

async function refusal(key: string, path = '/v1/keys'): Promise<[number, string]> {
  const answer = await stoa.call('GET', path, { key });
  return [answer.status, answer.status === 200 ? '' : codeOf(answer)];
}

test('a key goes through its whole life', async () => {
  const { tenantId, apiKey } = await stoa.newTenant('Acme');
  shown.push(apiKey, stoa.credentials.operatorKey, stoa.credentials.demo.apiKey);
  const admin = await newKey(tenantId, {}, { 'idempotency-key': 'operator-once' });
  const again = { name: 'once', role: 'viewer' };
  const once = { key: admin.key, body: again, headers: { 'idempotency-key': 'tenant-once' } };
  const made = remember(await stoa.call('POST', '/v1/keys', once));
  assert.equal(
    remember(await stoa.call('POST', '/v1/keys', once)).key,
    made.key,
    'a repeat shows the key again',
  );
  const address = `/v1/keys/${made.id}/rotate`;
  const rotate = { key: admin.key, body: { overlap_seconds: 3600 }, headers: { 'idempotency-key': 'turn' } };
  const turned = remember(await stoa.call('POST', address, rotate));
  assert.equal(remember(await stoa.call('POST', address, rotate)).key, turned.key);
  for (const { key } of [made, turned]) assert.deepEqual(await refusal(key, '/v1/models'), [200, '']);
  remember(await stoa.call('POST', address, { key: admin.key, body: { overlap_seconds: 0 } }));
  const byOperator = `/control/v1/tenants/${tenantId}/keys/${made.id}/rotate`;
  const last = remember(await stoa.call('POST', byOperator, { body: { overlap_seconds: 0 } }));
  assert.deepEqual(await refusal(made.key, '/v1/models'), [401, 'invalid_api_key']);
  assert.deepEqual(await refusal(last.key), [403, 'permission_denied']);
  const elsewhere = await newKey(tenantId, { allowed_ips: ['203.0.113.0/24'] });
  assert.deepEqual(await refusal(elsewhere.key), [403, 'ip_not_allowed']);
  const short = await newKey(tenantId, { expires_at: new Date(Date.now() + 1500).toISOString() });
  const revoked = await newKey(tenantId);
  await stoa.call('DELETE', `/v1/keys/${revoked.id}`, { key: admin.key });
  assert.deepEqual(await refusal(revoked.key), [401, 'key_revoked']);
  await eventually('end of a key', async () => (await refusal(short.key))[1] === 'key_expired');
  const operator = remember(
    await stoa.call('POST', '/control/v1/operator-keys', { body: { name: 'second', role: 'operator' } }),
  );
  assert.equal((await stoa.call('GET', '/control/v1/tenants', { key: operator.key })).status, 200);
  await stoa.call('PATCH', `/control/v1/tenants/${tenantId}`, { body: { state: 'suspended' } });
  assert.deepEqual(await refusal(admin.key), [403, 'tenant_suspended']);
  await stoa.call('PATCH', `/control/v1/tenants/${tenantId}`, { body: { state: 'active' } });
});

test('a key that is sent in the wrong place, or with a slip in it, comes back out nowhere', async () => {
  const { baseUrl } = stoa.credentials;
  const { tenantId } = await stoa.newTenant('Careless');
  const { key } = await newKey(tenantId);
  const good = { authorization: `Bearer ${key}` };
  const slip = key.slice(0, -1);
  const answers = [
    await send('GET', `${baseUrl}/v1/keys/${key}`, good),
    await send('GET', `${baseUrl}/v1/${key}`, good),
    await send('GET', `${baseUrl}/v1/keys?after=${key}`, good),
    await send('GET', `${baseUrl}/v1/models?api_key=${key}`, {}),
    await send('POST', `${baseUrl}/v1/keys/${key}/rotate`, { ...good, body: {} }),
    await send('POST', `${baseUrl}/v1/keys`, { ...good, body: `{"name": "${key}` }),
    await send('POST', `${baseUrl}/v1/keys`, { ...good, body: { name: 'a', role: key } }),
    await send('POST', `${baseUrl}/v1/keys`, {
      ...good,
      body: { name: 'a', role: 'viewer', allowed_ips: [key] },
    }),
    await send('POST', `${baseUrl}/v1/keys`, { ...good, body: { name: 'a', role: 'viewer', [key]: 1 } }),
    await send('POST', `${baseUrl}/v1/chat/completions`, { ...good, body: { model: key, messages: 1 } }),
    await send('GET', `${baseUrl}/v1/models`, { authorization: key }),
    await send('GET', `${baseUrl}/v1/models`, { authorization: `Basic ${btoa(`:${key}`)}` }),
    await send('GET', `${baseUrl}/v1/models`, { authorization: `Bearer ${slip}` }),
    await send('GET', `${stoa.credentials.adminUrl}/control/v1/tenants`, good),
    await send('GET', `${baseUrl}/v1/models`, { headers: { 'x-api-key': key, cookie: `key=${key}` } }),
  ];
  for (const { status } of answers) assert.ok(status >= 400 && status < 500, String(status));
});

test('every 401 for a wrong key is the same body, which names no table, statement or file', async () => {
  const expected = errorBody('invalid_api_key', 'The API key is not valid.');
  for (const token of [
    '',
    'x',
    "' OR 1=1 --",
    "1'; drop table tenant.api_keys; --",
    '" OR ""="',
    'stoa_sk_',
    `stoa_sk_${"'".repeat(49)}`,
    `stoa_sk_000000000000_${'0'.repeat(36)}`,
    '{"$gt":""}',
    'eyJhbGciOiJub25lIn0.e30.',
    '%00',
    'A'.repeat(8000),
  ]) {
    for (const url of [
      `${stoa.credentials.baseUrl}/v1/models`,
      `${stoa.credentials.adminUrl}/control/v1/tenants`,
    ]) {
      const answer = await send('GET', url, { authorization: `Bearer ${token}` });
      assert.equal(answer.status, 401, token);
      assert.deepEqual(answer.json, expected, token);
    }
  }
});

function describeOutage(): void {
  test('an outage of the database turns no valid key into a 401, and all work again after it', async () => {
    assert.ok(gate);
    const { tenantId } = await stoa.newTenant('In the dark');
    const known = await newKey(tenantId);
    const rotated = remember(
      await stoa.call('POST', `/v1/keys/${known.id}/rotate`, {
        key: known.key,
        body: { overlap_seconds: 3600 },
      }),
    );
    const narrow = await newKey(tenantId, { allowed_ips: ['127.0.0.1'] });
    const unknown = await newKey(tenantId);
    const valid = [known.key, rotated.key, narrow.key];
    for (const key of valid) assert.deepEqual(await refusal(key, '/v1/models'), [200, '']);
    await gate.set({ isShut: true });
    for (let round = 0; round < 20; round++) {
      for (const key of valid) assert.deepEqual(await refusal(key, '/v1/models'), [200, '']);
      assert.deepEqual(await refusal(unknown.key, '/v1/models'), [503, 'database_unavailable']);
      assert.deepEqual(await refusal(`${known.key.slice(0, -1)}_`, '/v1/models'), [401, 'invalid_api_key']);
      await new Promise((resume) => setTimeout(resume, 100));
    }
    await gate.set({});
    await eventually('look-up', async () => (await refusal(unknown.key, '/v1/models'))[0] === 200);
    for (const key of valid) assert.deepEqual(await refusal(key, '/v1/models'), [200, '']);
  });
}
describe('with a database behind a gate', { skip: !usesPostgres && 'needs PostgreSQL' }, describeOutage);

/** The whole key, and enough of its secret to find a piece of it: what an id or the last four characters show is no secret. */
function pieces(): string[] {
  return [...new Set(shown)].flatMap((key) => [key, key.slice(21, 51)]);
}

/** Every value of every table, as text. */
async function everyRow(): Promise<string> {
  const { hostname, port } = new URL(`http://${databaseAddress.host}:${databaseAddress.port}`);
  const admin = new URL(
    process.env['STOA_TEST_DATABASE_ADMIN_URL'] ?? `postgres://root@${hostname}:${port}/postgres`,
  );
  admin.pathname = `/${stoa.database ?? ''}`;
  const client = new pg.Client({ connectionString: admin.href });
  await client.connect();
  try {
    const { rows: tables } = await client.query<{ name: string }>(`
      select format('%I.%I', schemaname, tablename) as name from pg_tables
      where schemaname not in ('pg_catalog', 'information_schema')`);
    let text = '';
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`select t::text as row from ${name} t`);
      text += rows.map(({ row }) => row).join('\n');
    }
    assert.ok(tables.length > 20 && text.includes('In the dark'), 'the rows were read');
    return text;
  } finally {
    await client.end();
  }
}

test("a key's plaintext is in no log, no file and no table, whatever was done with it", async () => {
  assert.ok(shown.length > 10);
  const rows = usesPostgres ? await everyRow() : '';
  for (let index = 0; index < 5; index++) {
    const body = { model: 'auto', messages: [{ role: 'user', content: 'What is a stoa?' }] };
    assert.equal((await stoa.call('POST', '/v1/chat/completions', { body })).status, 200);
  }
  // Killed, it leaves its journal and the database's files as they lie.
  await stoa.kill();
  const output = stoa.output();
  assert.ok(output.includes('"level":"debug"') || output.includes('"request"'), 'the log was written');
  const files = readdirSync(stoa.dataDirectory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'credentials.json')
    .map(({ parentPath, name }) => join(parentPath, name));
  assert.ok(files.some((file) => file.includes('journal')));
  // What is no secret is found in the same way, so that a search that finds nothing means something.
  assert.ok(usesPostgres || files.some((file) => readFileSync(file).includes('Careless')));
  for (const piece of pieces()) {
    assert.ok(!output.includes(piece), 'a key is in the logs');
    assert.ok(!rows.includes(piece), 'a key is in a table');
  }
  for (const file of files) {
    const content = readFileSync(file);
    for (const piece of pieces()) assert.equal(content.indexOf(piece), -1, `a key is in ${file}`);
  }
});
