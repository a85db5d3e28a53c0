import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { modelFileEntry, provider, providerFileEntry, listOf, controlModel } from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { AppError, createSealer } from '#kernel';
import { type ControlPlane, errorIn, openControlPlane, openTestDatabase, type TestDatabase } from '#testing';
import { openRegistry, type TestRegistry } from './testing.ts';
import type { FileSections } from './types.ts';

const sealer = createSealer(randomBytes(32));
let database: TestDatabase;
let registry: TestRegistry;
let plane: ControlPlane;

before(async () => {
  database = await openTestDatabase();
  registry = openRegistry(database.db, { sealer, environment: { FILE_KEY: 'sk-from-environment\n' } });
  await registry.lifecycle.start();
  plane = await openControlPlane(database.db, { routes: () => registry.routes });
});
after(async () => {
  await plane.close();
  await registry.close();
  await database.close();
});

const sectionsShape = z.object({ providers: z.array(providerFileEntry), models: z.array(modelFileEntry) });
const file = (providers: unknown[], models: unknown[] = []): FileSections =>
  sectionsShape.parse({ providers, models });
const server = {
  name: 'server',
  kind: 'openai-compatible',
  base_url: 'http://127.0.0.1:9/v1',
  api_key: 'sk-in-the-file-1',
  discover: false,
};
const nothing = { added: 0, changed: 0, disabled: 0 };

const target = (id: string) => registry.api.snapshot().byId.get(id);
const auditCount = async (): Promise<bigint> => {
  const by = { operator: 'system:test' };
  const { rows } = await database.db.withOperator(by, 'count', (tx) =>
    sql<{
      count: bigint;
    }>`select count(*) from platform.operator_audit_entries where actor_id = 'system:configuration-file'`.execute(
      tx,
    ),
  );
  return rows[0]?.count ?? -1n;
};

test('entries of the file become targets, once; applying the same file again writes nothing', async () => {
  const sections = file(
    [server],
    [
      { id: 'a', provider: 'server', model: 'name-of-a', price_as: { model: 'x' } },
      { id: 'b', provider: 'server' },
    ],
  );
  assert.deepEqual(await registry.api.apply(sections), { added: 3, changed: 0, disabled: 0 });
  assert.partialDeepStrictEqual(target('a'), {
    model: 'name-of-a',
    source: 'file',
    priceKey: { provider: null, model: 'x' },
  });
  assert.equal(target('b')?.provider.credential, 'sk-in-the-file-1');
  const audited = await auditCount();
  assert.deepEqual(await registry.api.apply(sections), nothing);
  assert.equal(await auditCount(), audited);
});

test('what changes in the file changes, and a new credential is a new account for the breaker', async () => {
  await registry.api.apply(
    file(
      [server],
      [
        { id: 'a', provider: 'server' },
        { id: 'b', provider: 'server' },
      ],
    ),
  );
  const before = target('b')?.provider.credentialId;
  const sections = file(
    [{ ...server, api_key: undefined, api_key_env: 'FILE_KEY' }],
    [
      { id: 'a', provider: 'server' },
      { id: 'b', provider: 'server', context_tokens: 5 },
    ],
  );
  assert.deepEqual(await registry.api.apply(sections), { added: 0, changed: 2, disabled: 0 });
  assert.partialDeepStrictEqual(target('b'), {
    contextTokens: 5,
    provider: { credential: 'sk-from-environment' },
  });
  assert.notEqual(target('b')?.provider.credentialId, before);
  assert.deepEqual(await registry.api.apply(sections), nothing);
});

test('what is removed from the file is disabled and keeps no secret; it comes back when the file has it again', async () => {
  const sections = file(
    [server],
    [
      { id: 'a', provider: 'server' },
      { id: 'b', provider: 'server' },
    ],
  );
  await registry.api.apply(sections);
  const shorter = await registry.api.apply(file([server], [{ id: 'a', provider: 'server' }]));
  assert.deepEqual([shorter.disabled, target('a')?.id, target('b')], [1, 'a', undefined]);
  assert.equal((await registry.api.apply(file([]))).disabled, 2);
  assert.equal(target('a'), undefined);
  const { rows } = await database.db.withSystem('registry', (tx) =>
    sql<{
      credential_sealed: string | null;
    }>`select credential_sealed from platform.providers where name = 'server'`.execute(tx),
  );
  assert.deepEqual(rows, [{ credential_sealed: null }]);
  assert.deepEqual(await registry.api.apply(file([])), nothing);
  assert.equal((await registry.api.apply(sections)).changed, 3);
  assert.equal(target('b')?.provider.credential, 'sk-in-the-file-1');
});

test('entries of the file are read through the API and not changed', async () => {
  await registry.api.apply(file([server], [{ id: 'a', provider: 'server' }]));
  const providers = listOf(provider).parse((await plane.admin('GET', '/control/v1/providers')).body).data;
  const models = listOf(controlModel).parse((await plane.admin('GET', '/control/v1/models')).body).data;
  const paths = [
    `/control/v1/providers/${providers.find((one) => one.source === 'file')?.id ?? ''}`,
    `/control/v1/models/${models.find((one) => one.source === 'file')?.id ?? ''}`,
  ];
  for (const path of paths) {
    assert.equal((await plane.admin('GET', path)).status, 200);
    for (const answer of [
      await plane.admin('PATCH', path, { body: { enabled: false } }),
      await plane.admin('DELETE', path),
    ]) {
      assert.deepEqual([answer.status, errorIn(answer).code], [409, 'managed_by_file']);
    }
  }
});

test('two processes that apply the same file at once make it once', async (t) => {
  await registry.api.apply(file([]));
  const other = openRegistry(database.db, { sealer });
  t.after(() => other.close());
  const sections = file([{ ...server, name: 'twice' }], [{ id: 'twice', provider: 'twice' }]);
  const reports = await Promise.all([registry.api.apply(sections), other.api.apply(sections)]);
  assert.deepEqual(
    reports.map((report) => report.added).sort((a, b) => a - b),
    [0, 2],
  );
  assert.equal(other.api.snapshot().byId.get('twice')?.provider.credential, 'sk-in-the-file-1');
});

test('entries that contradict each other are refused with their place, and change nothing', async () => {
  const version = registry.api.snapshot().version;
  const cases: readonly (readonly [FileSections, string])[] = [
    [file([server, server]), 'providers[1].name'],
    [file([{ ...server, name: 'default' }]), 'providers[0].name'],
    [file([{ ...server, api_key_env: 'FILE_KEY' }]), 'providers[0].api_key_env'],
    [file([{ ...server, api_key: undefined, api_key_env: 'MISSING' }]), 'providers[0].api_key_env'],
    [file([{ ...server, base_url: undefined }]), 'providers[0].base_url'],
    [file([server], [{ id: 'a', provider: 'nobody' }]), 'models[0].provider'],
    [
      file(
        [server],
        [
          { id: 'a', provider: 'server' },
          { id: 'a', provider: 'server' },
        ],
      ),
      'models[1].id',
    ],
  ];
  for (const [sections, param] of cases) {
    await assert.rejects(
      registry.api.apply(sections),
      (error) => error instanceof AppError && error.code === 'invalid_configuration' && error.param === param,
    );
  }
  assert.equal(registry.api.snapshot().version, version);
});

test('an entry of the file wins over one of the API for the same name', async () => {
  await registry.api.apply(file([]));
  const made = await plane.admin('POST', '/control/v1/providers', {
    body: { ...server, name: 'of-api', api_key: undefined, credential: 'sk-of-the-api' },
  });
  const { id } = provider.parse(made.body);
  await plane.admin('POST', '/control/v1/models', { body: { target: 'same', provider_id: id } });
  assert.equal(target('same')?.source, 'api');
  await registry.api.apply(file([server], [{ id: 'same', provider: 'server' }]));
  assert.equal(target('same')?.source, 'file');
  await registry.api.apply(file([server]));
  assert.equal(target('same')?.source, 'api');
});
