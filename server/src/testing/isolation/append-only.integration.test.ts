import assert from 'node:assert/strict';
import { test } from 'node:test';
import { migrationSets } from '../../app/migrations.ts';
import { testedAdapters } from '../index.ts';
import { openAsSuperuser, rolledBack, type SuperuserSession } from './superuser.ts';

const logins = ['stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration'] as const;

/** The tables of the audit and all their partitions. */
const tablesSql = `
  select c.oid::regclass::text as name from pg_class c
  where c.oid in ('tenant.audit_entries'::regclass, 'platform.operator_audit_entries'::regclass,
      'platform.audit_entries'::regclass)
    or c.oid in (select inhrelid from pg_inherits where inhparent in
      ('tenant.audit_entries'::regclass, 'platform.operator_audit_entries'::regclass))
  order by 1`;

function isDenied(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === '42501';
}

async function attempt(session: SuperuserSession, login: string, statement: string): Promise<void> {
  await rolledBack(session, async () => {
    await session.run(`set local role ${login}`);
    await assert.rejects(session.run(statement), isDenied, `${login}: ${statement}`);
  });
}

for (const adapter of testedAdapters()) {
  test(`no login changes, deletes or truncates an entry of the audit, the owner neither, on ${adapter}`, async () => {
    const session = await openAsSuperuser(adapter, migrationSets);
    try {
      // What a month that is made later has must be no more.
      await session.run(
        `set role stoa_system; select platform.make_audit_months(now() - interval '2 months'); reset role`,
      );
      const tables = (await session.run(tablesSql)).map((row) => String(row['name']));
      assert.ok(tables.length >= 15, tables.join(', '));
      for (const login of logins) {
        for (const table of tables) {
          await attempt(session, login, `update ${table} set occurred_at = now()`);
          await attempt(session, login, `delete from ${table}`);
          await attempt(session, login, `truncate ${table}`);
        }
      }
      for (const login of ['stoa_tenant', 'stoa_operator', 'stoa_system']) {
        for (const table of tables)
          await attempt(session, login, `alter table ${table} disable row level security`);
        for (const table of tables) await attempt(session, login, `drop table ${table}`);
      }
    } finally {
      await session.close();
    }
  });
}
