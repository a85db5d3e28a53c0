import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { PGlite } from '@electric-sql/pglite';
import { databaseMigrations } from '#db';

/** The last migration before the audit got months, befores and afters. */
const lastOld = '0004';

const roles = `
  create role stoa_tenant nologin noinherit;
  create role stoa_operator nologin noinherit;
  create role stoa_system nologin noinherit;
  create role stoa_migration nologin noinherit;
  grant create on database postgres to stoa_migration;
`;
const [first, second] = ['00000000-0000-7000-8000-00000000000a', '00000000-0000-7000-8000-00000000000b'];

let database: PGlite;

async function apply(isWanted: (name: string) => boolean): Promise<void> {
  const names = (await readdir(databaseMigrations.directory)).filter((name) => name.endsWith('.sql')).sort();
  for (const name of names.filter(isWanted)) {
    const text = await readFile(new URL(name, databaseMigrations.directory), 'utf8');
    await database.exec(
      `begin; set local role stoa_migration; set local search_path = pg_catalog; ${text}; commit`,
    );
  }
}

before(async () => {
  database = await PGlite.create();
  await database.exec(roles);
  await apply((name) => name.slice(0, 4) <= lastOld);
});

after(() => database.close());

test('entries from before are there afterwards, in their order, each whole for the operator and bare for its tenant', async () => {
  await database.exec(`
    insert into platform.audit_entries (occurred_at, operator, tenant_id, request_id, reason) values
      (now() - interval '14 months', 'key1', null, null, 'tenants.list'),
      (now() - interval '2 months', 'key1', '${first}', 'req_1', 'tenants.change to suspended: abuse'),
      (now() - interval '1 hour', 'system:set-up', '${second}', null, 'tenants.create'),
      (now() - interval '1 hour', 'key2', '${first}', 'req_2', 'tenants.read');
  `);
  await apply((name) => name.slice(0, 4) > lastOld);
  const { rows: whole } = await database.query(`
    select tenant_id, actor_type, actor_id, action, request_id, reason, outcome, times
    from platform.operator_audit_entries order by entry_id`);
  const common = { outcome: 'succeeded', times: 1 };
  assert.deepEqual(whole, [
    {
      tenant_id: null,
      actor_type: 'operator',
      actor_id: 'key1',
      action: 'tenants.list',
      request_id: null,
      reason: 'tenants.list',
      ...common,
    },
    {
      tenant_id: first,
      actor_type: 'operator',
      actor_id: 'key1',
      action: 'tenants.change',
      request_id: 'req_1',
      reason: 'tenants.change to suspended: abuse',
      ...common,
    },
    {
      tenant_id: second,
      actor_type: 'system',
      actor_id: 'system:set-up',
      action: 'tenants.create',
      request_id: null,
      reason: 'tenants.create',
      ...common,
    },
    {
      tenant_id: first,
      actor_type: 'operator',
      actor_id: 'key2',
      action: 'tenants.read',
      request_id: 'req_2',
      reason: 'tenants.read',
      ...common,
    },
  ]);
  const { rows: bare } = await database.query(`
    select shown.tenant_id, shown.actor_type, shown.actor_id, shown.action, shown.is_copy
    from tenant.audit_entries shown join platform.operator_audit_entries whole using (entry_id, occurred_at)
    order by entry_id`);
  assert.deepEqual(bare, [
    { tenant_id: first, actor_type: 'operator', actor_id: null, action: 'tenants.change', is_copy: true },
    {
      tenant_id: second,
      actor_type: 'system',
      actor_id: 'system:set-up',
      action: 'tenants.create',
      is_copy: true,
    },
    { tenant_id: first, actor_type: 'operator', actor_id: null, action: 'tenants.read', is_copy: true },
  ]);
  const { rows: times } = await database.query(`
    select count(*)::integer as count from platform.operator_audit_entries whole join platform.audit_entries old
    on old.occurred_at = whole.occurred_at and old.reason = whole.reason`);
  assert.deepEqual(times, [{ count: 4 }]);
});
