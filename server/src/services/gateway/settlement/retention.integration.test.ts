import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { isPermissionDenied } from '#db';
import { type Clock, silentLogger, systemClock } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createPartitionKeeper } from './retention.ts';

const dayMs = 86_400_000;

for (const adapter of testedAdapters()) {
  describe(`partitions on ${adapter}`, () => {
    let database: TestDatabase;
    before(async () => {
      database = await openTestDatabase({ adapter });
    });
    after(() => database.close());

    function keeper(clock: Clock = systemClock) {
      return createPartitionKeeper({ db: database.db, clock, logger: silentLogger });
    }

    async function partitionsOf(parent: string): Promise<string[]> {
      const { rows } = await database.db.withTenant(
        { tenantId: '00000000-0000-7000-8000-000000000000' },
        (tx) =>
          sql<{ name: string }>`
          select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
          where inhparent = ${parent}::regclass order by relname
        `.execute(tx),
      );
      return rows.map((row) => row.name);
    }

    function monthName(parent: string, atMs: number): string {
      return `${parent}_m${new Date(atMs).toISOString().slice(0, 7).replace('-', '')}`;
    }

    test('every partition has row security enabled and forced, and no grants of its own', async () => {
      const { rows } = await database.db.withTenant(
        { tenantId: '00000000-0000-7000-8000-000000000000' },
        (tx) =>
          sql<{ count: number; bare: number }>`
          select count(*)::integer as count, count(*) filter (
            where not relrowsecurity or not relforcerowsecurity
              or (select count(*) from pg_policies where tablename = relname) < 4
              or has_table_privilege('stoa_system', pg_class.oid, 'select')
              or has_table_privilege('stoa_tenant', pg_class.oid, 'select'))::integer as bare
          from pg_inherits join pg_class on pg_class.oid = inhrelid
          where relkind = 'r' and inhparent in
            ('tenant.requests'::regclass, 'tenant.usage_records'::regclass, 'tenant.events'::regclass)
        `.execute(tx),
      );
      assert.ok((rows[0]?.count ?? 0) >= 13, JSON.stringify(rows));
      assert.equal(rows[0]?.bare, 0);
    });

    test('preparing again, and twice at once, makes nothing and fails nowhere', async () => {
      const before = [await partitionsOf('tenant.requests'), await partitionsOf('tenant.usage_records')];
      await Promise.all([keeper().prepare(), keeper().prepare()]);
      assert.deepEqual(
        [await partitionsOf('tenant.requests'), await partitionsOf('tenant.usage_records')],
        before,
      );
    });

    test('a month is made on demand for a time within reason, and only then', async () => {
      const at = Date.now() - 200 * dayMs;
      assert.equal(await keeper().prepareFor(at, at + 40 * dayMs), true);
      const names = await partitionsOf('tenant.usage_records');
      assert.ok(names.includes(monthName('usage_records', at)));
      assert.ok(names.includes(monthName('usage_records', at + 40 * dayMs)));
      assert.equal(await keeper().prepareFor(0, 1), false);
      assert.equal(await keeper().prepareFor(Date.now() + 365 * dayMs, Date.now() + 366 * dayMs), false);
    });

    test('what is past its retention goes, all else stays: explanations 90 days, usage 13 months', async () => {
      const at = Date.now() - 200 * dayMs;
      await keeper().prepareFor(at, Date.now());
      const usage = await partitionsOf('tenant.usage_records');
      await keeper().expire();
      const requests = await partitionsOf('tenant.requests');
      assert.ok(!requests.includes(monthName('requests', at)));
      assert.ok(requests.includes(monthName('requests', Date.now() - 89 * dayMs)));
      assert.deepEqual(await partitionsOf('tenant.usage_records'), usage);
    });

    test('not even a clock that runs ahead drops the partitions of the last 28 days', async () => {
      const ahead: Clock = { ...systemClock, now: () => Date.now() + 1000 * dayMs };
      const before = await partitionsOf('tenant.requests');
      await assert.rejects(keeper(ahead).expire());
      assert.deepEqual(await partitionsOf('tenant.requests'), before);
    });

    test('a tenant can neither make nor drop partitions', async () => {
      const attempt = database.db.withTenant({ tenantId: '00000000-0000-7000-8000-000000000000' }, (tx) =>
        sql`select platform.drop_month_partitions('tenant.requests'::regclass, now() - interval '1 year')`.execute(
          tx,
        ),
      );
      await assert.rejects(attempt, isPermissionDenied);
    });
  });
}
