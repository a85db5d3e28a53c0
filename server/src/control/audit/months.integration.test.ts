import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { SqlError } from '#db';
import { silentLogger } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createAuditMonths } from './months.ts';

const parents = ['tenant.audit_entries', 'platform.operator_audit_entries'] as const;

for (const adapter of testedAdapters()) {
  describe(`months of the audit on ${adapter}`, () => {
    let database: TestDatabase;
    before(async () => {
      database = await openTestDatabase({ adapter });
    });
    after(() => database.close());

    async function monthsOf(parent: string): Promise<string[]> {
      const { rows } = await database.db.withOperator({ operator: 'system:test' }, 'look', (tx) =>
        sql<{ name: string }>`
          select right(relname, 8) as name from pg_inherits join pg_class on pg_class.oid = inhrelid
          where inhparent = ${parent}::regclass and relkind = 'r' order by relname
        `.execute(tx),
      );
      return rows.map(({ name }) => name);
    }

    /** The name of the month that lies so many months from now. */
    function nameOf(months: number): string {
      const now = new Date();
      const first = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + months, 1));
      return first.toISOString().slice(0, 10).replaceAll('-', '');
    }

    const makeFrom = (months: number) =>
      database.db.withSystem(
        'partitions',
        (tx) =>
          sql`select platform.make_audit_months(now() - make_interval(months => ${months}::integer))`.execute(
            tx,
          ),
        { deadlineMs: 60_000 },
      );

    const run = (months: number) => {
      const { task } = createAuditMonths({ db: database.db, logger: silentLogger }, months);
      const signal = new AbortController().signal;
      return task.run({ signal, fence: 1n, withSystem: database.db.withSystem });
    };

    test('the present month and the three after it are there, and made once however many make them', async () => {
      const { prepare } = createAuditMonths({ db: database.db, logger: silentLogger }, 13);
      await Promise.all([prepare(), prepare()]);
      for (const parent of parents) {
        assert.deepEqual(await monthsOf(parent), [nameOf(0), nameOf(1), nameOf(2), nameOf(3)], parent);
      }
    });

    test('a month goes when all of it is past its retention, with its entries, and no other does', async () => {
      const tenantId = await database.newTenant();
      await makeFrom(16);
      const write = (months: number) =>
        database.db.withSystem('audit', (tx) =>
          sql`insert into tenant.audit_entries (tenant_id, actor_type, action, occurred_at)
            values (${tenantId}, 'system', ${`month ${months}`},
              date_trunc('month', now()) - make_interval(months => ${months}::integer))`.execute(tx),
        );
      for (const months of [0, 13, 14, 16]) await write(months);
      await run(13);
      for (const parent of parents) {
        const months = await monthsOf(parent);
        assert.deepEqual([months[0], months.length], [nameOf(-13), 17], parent);
      }
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<{
          action: string;
        }>`select action from tenant.audit_entries where actor_id is null order by occurred_at`.execute(tx),
      );
      assert.deepEqual(
        rows.map(({ action }) => action),
        ['month 13', 'month 0'],
      );
    });

    test('nothing drops the last three months: neither a short retention nor the function of other partitions', async () => {
      await makeFrom(5);
      await assert.rejects(run(2), SqlError);
      const dropped = database.db.withSystem('partitions', (tx) =>
        sql`select platform.drop_partitions('tenant.audit_entries'::regclass, now() + interval '1 year')`.execute(
          tx,
        ),
      );
      await assert.rejects(dropped, SqlError);
      await run(3);
      const months = await monthsOf('tenant.audit_entries');
      assert.deepEqual([months[0], months.length], [nameOf(-3), 7]);
    });
  });
}
