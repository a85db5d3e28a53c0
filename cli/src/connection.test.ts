import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ConnectionFlags, type ConnectionKind, resolveConnection } from './connection.ts';
import { CommandFailure } from './failure.ts';

const inner = { tenant: 'stoa_sk_inner', operator: 'stoa_op_inner' };
let root = '';
let project = '';

function write(folder: string, credentials: object | string): void {
  mkdirSync(folder, { recursive: true });
  const text = typeof credentials === 'string' ? credentials : JSON.stringify(credentials);
  writeFileSync(join(folder, 'credentials.json'), text);
}

function resolved(
  kind: ConnectionKind,
  {
    flags = {},
    env = {},
    directory = project,
  }: { flags?: ConnectionFlags; env?: Record<string, string>; directory?: string } = {},
): { url: string; key: string; from: string[] } {
  const { url, key } = resolveConnection(kind, flags, {
    env,
    directory,
    rootDirectory: join(root, 'repository'),
  });
  return { url: url.value, key: key.value, from: [url.origin, key.origin] };
}

function failure(run: () => unknown): CommandFailure {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof CommandFailure, String(error));
    return error;
  }
  return assert.fail('it did not fail');
}

before(() => {
  root = mkdtempSync(join(tmpdir(), 'stoa-cli-'));
  project = join(root, 'project');
  mkdirSync(join(project, 'deep', 'down'), { recursive: true });
  write(join(project, '.stoa'), {
    baseUrl: 'http://127.0.0.1:4001',
    adminUrl: 'http://127.0.0.1:4002',
    operatorKey: inner.operator,
    demo: { tenantId: 'ten_x', apiKey: inner.tenant },
  });
});
after(() => rmSync(root, { recursive: true, force: true }));

describe('where a command calls, and with which key', () => {
  test('is told by the nearest credentials file at or above the directory', () => {
    const found = resolved('tenant', { directory: join(project, 'deep', 'down') });
    assert.deepEqual([found.url, found.key], ['http://127.0.0.1:4001', inner.tenant]);
    assert.equal(found.from[1], join(project, '.stoa', 'credentials.json'));
    assert.deepEqual(
      [resolved('operator').url, resolved('operator').key],
      ['http://127.0.0.1:4002', inner.operator],
    );
  });

  test('is told by the data directory that is set, and then by no other', () => {
    const empty = failure(() => resolved('tenant', { env: { STOA_DATA_DIR: join(root, 'empty') } }));
    assert.equal(empty.exitCode, 78);
    assert.match(empty.advice ?? '', /npm start.*STOA_URL.*STOA_KEY/);
    write(join(root, 'data'), { baseUrl: 'http://h:1', adminUrl: 'http://h:2', operatorKey: 'stoa_op_data' });
    assert.equal(resolved('operator', { env: { STOA_DATA_DIR: join(root, 'data') } }).key, 'stoa_op_data');
    assert.equal(resolved('operator', { env: { STOA_DATA_DIR: '../data' } }).url, 'http://h:2');
  });

  test('flags go before the environment, which goes before the file', () => {
    const env = { STOA_URL: 'http://env', STOA_KEY: 'stoa_sk_env' };
    assert.deepEqual(resolved('tenant', { env }).from, ['STOA_URL', 'STOA_KEY']);
    const flags = { url: 'http://flag', key: 'stoa_sk_flag' };
    assert.deepEqual(resolved('tenant', { env, flags }), {
      url: 'http://flag',
      key: 'stoa_sk_flag',
      from: ['--url', '--key'],
    });
    assert.equal(
      resolved('operator', { env: { STOA_ADMIN_URL: 'http://env' }, flags: { key: 'stoa_op_x' } }).url,
      'http://env',
    );
    assert.equal(resolved('tenant', { env: { STOA_URL: '' } }).url, 'http://127.0.0.1:4001');
  });

  test("a key of the file is never sent to an address that is not the file's", () => {
    for (const kind of ['tenant', 'operator'] as const) {
      const flags =
        kind === 'tenant' ? { url: 'http://elsewhere:4001' } : { adminUrl: 'http://elsewhere:4002' };
      const { exitCode, message } = failure(() => resolved(kind, { flags }));
      assert.equal(exitCode, 78);
      assert.match(message, /There is no key for http:\/\/elsewhere/);
    }
    // The tenants' address gets no operator's key either, nor the other way round.
    assert.throws(
      () => resolved('operator', { flags: { adminUrl: 'http://127.0.0.1:4001' } }),
      CommandFailure,
    );
    assert.equal(resolved('tenant', { flags: { url: 'http://127.0.0.1:4001/' } }).key, inner.tenant);
  });

  test("a tenant's key is no operator's: it is refused where it is given, and passed over where it is set", () => {
    assert.equal(failure(() => resolved('operator', { flags: { key: 'stoa_sk_x' } })).exitCode, 2);
    assert.equal(failure(() => resolved('tenant', { flags: { key: 'stoa_op_x' } })).exitCode, 2);
    assert.equal(resolved('operator', { env: { STOA_KEY: 'stoa_sk_x' } }).key, inner.operator);
    const away = { STOA_KEY: 'stoa_sk_x', STOA_ADMIN_URL: 'http://elsewhere' };
    assert.match(failure(() => resolved('operator', { env: away })).message, /STOA_KEY holds a tenant's/);
  });

  test('without a file the default addresses serve the key that is set', () => {
    const directory = join(root, 'elsewhere');
    const env = { STOA_KEY: 'stoa_sk_x' };
    assert.equal(resolved('tenant', { directory, env }).url, 'http://127.0.0.1:8080');
    assert.equal(
      resolved('operator', { directory, env: { STOA_KEY: 'stoa_op_x' } }).url,
      'http://127.0.0.1:8081',
    );
    write(join(root, 'repository', '.stoa'), {
      baseUrl: 'http://r:1',
      adminUrl: 'http://r:2',
      operatorKey: 'stoa_op_r',
    });
    assert.equal(resolved('operator', { directory }).key, 'stoa_op_r');
  });

  test('what cannot be used says so, and names no key', () => {
    write(join(root, 'broken'), 'stoa_op_secret');
    write(join(root, 'strange'), { operatorKey: 'stoa_op_secret' });
    for (const STOA_DATA_DIR of ['broken', 'strange'].map((name) => join(root, name))) {
      const { exitCode, message } = failure(() => resolved('operator', { env: { STOA_DATA_DIR } }));
      assert.equal(exitCode, 78);
      assert.ok(message.includes(STOA_DATA_DIR) && !message.includes('secret'), message);
    }
    assert.equal(failure(() => resolved('tenant', { flags: { url: 'nowhere' } })).exitCode, 2);
    assert.equal(failure(() => resolved('tenant', { env: { STOA_URL: 'nowhere' } })).exitCode, 78);
  });
});
