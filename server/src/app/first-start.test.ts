import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ErrorCode } from '@stoa/contracts';
import { AppError, newUuid, silentLogger } from '#kernel';
import { type DataDirectory, openDataDirectory, readCredentials } from './data-directory.ts';
import { type FirstStartPort, type FirstStartResult, keepCredentials, prepareKeys } from './first-start.ts';

const addresses = { baseUrl: 'http://127.0.0.1:1', adminUrl: 'http://127.0.0.1:2' };

async function prepareCredentials(
  port: FirstStartPort,
  directory: DataDirectory,
  at: typeof addresses,
): Promise<FirstStartResult> {
  const keys = await prepareKeys(port, directory, { wantsDemoTenant: true });
  return keepCredentials(directory, keys, at, silentLogger);
}

/** A control plane that knows the keys which it made, and answers others as told. */
function controlPlane(refusal: () => ErrorCode | null) {
  const made: string[] = [];
  const check = async (key: string): Promise<void> => {
    const code = made.includes(key) ? refusal() : 'invalid_api_key';
    if (code) throw new AppError(code, 'refused');
  };
  const make = async (kind: string): Promise<string> => {
    made.push(`${kind}_${made.length}`);
    return made.at(-1) ?? '';
  };
  const port: FirstStartPort = {
    checkOperatorKey: check,
    checkTenantKey: check,
    createOperatorKey: () => make('operator'),
    createTenant: async () => newUuid(),
    createAdminKey: () => make('tenant'),
  };
  return { port, made };
}

function scratch(context: TestContext) {
  const path = mkdtempSync(join(tmpdir(), 'stoa-first-start-'));
  context.after(() => rmSync(path, { recursive: true, force: true }));
  return openDataDirectory(join(path, 'data'));
}

test('the first start makes keys once; later ones keep them and rewrite the addresses', async (context) => {
  const directory = scratch(context);
  const { port, made } = controlPlane(() => null);
  const first = await prepareCredentials(port, directory, addresses);
  const second = await prepareCredentials(port, directory, { ...addresses, baseUrl: 'http://127.0.0.1:3' });
  assert.deepEqual([first.isNew, second.isNew, made.length], [true, false, 2]);
  assert.deepEqual(second.credentials, { ...first.credentials, baseUrl: 'http://127.0.0.1:3' });
  assert.deepEqual(readCredentials(directory), second.credentials);
  assert.equal(statSync(directory.credentialsPath).mode & 0o777, 0o600);
});

test('keys that the database does not know are replaced, those of a suspended tenant are kept', async (context) => {
  const directory = scratch(context);
  await prepareCredentials(controlPlane(() => null).port, directory, addresses);
  const replaced = await prepareCredentials(controlPlane(() => null).port, directory, addresses);
  assert.equal(replaced.isNew, true);
  let refusal: ErrorCode | null = null;
  const { port } = controlPlane(() => refusal);
  const before = await prepareCredentials(port, directory, addresses);
  refusal = 'tenant_suspended';
  const after = await prepareCredentials(port, directory, addresses);
  assert.deepEqual(after.credentials, before.credentials);
});

test('a database that is away makes no new keys', async (context) => {
  const directory = scratch(context);
  let refusal: ErrorCode | null = null;
  const { port, made } = controlPlane(() => refusal);
  await prepareCredentials(port, directory, addresses);
  refusal = 'database_unavailable';
  await assert.rejects(prepareCredentials(port, directory, addresses), {
    code: 'database_unavailable',
  });
  assert.equal(made.length, 2);
});

test('a credentials file that cannot be read is replaced', async (context) => {
  const directory = scratch(context);
  writeFileSync(directory.credentialsPath, '{"baseUrl":');
  const { credentials } = await prepareCredentials(controlPlane(() => null).port, directory, addresses);
  assert.deepEqual(readCredentials(directory), credentials);
});
