import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { newUuid } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { type AuditFilter, ownEntriesQuery } from './audit.sql.ts';

const open: AuditFilter = {
  from: null,
  to: null,
  actor: null,
  member: null,
  action: null,
  resourceType: null,
  resourceId: null,
  outcome: null,
};

for (const adapter of testedAdapters()) {
  describe(`plans of the audit on ${adapter}`, () => {
    let database: TestDatabase;
    let tenantId: string;

    before(async () => {
      database = await openTestDatabase({ adapter });
      tenantId = await database.newTenant();
      const otherId = await database.newTenant();
      await database.db.withSystem('audit', (tx) =>
        sql`
          insert into tenant.audit_entries
            (tenant_id, actor_type, actor_id, member_id, action, resource_type, resource_id, outcome)
          select case when number % 2 = 0 then ${tenantId}::uuid else ${otherId}::uuid end, 'key', 'key-' || number % 50,
            'mem-' || number % 50, 'act-' || number % 50, 'thing', 'thing-' || number % 500,
            case when number % 100 < 2 then 'denied' else 'succeeded' end
          from generate_series(1, 4000) number
        `.execute(tx),
      );
    });

    after(() => database.close());

    /** The plan as the tenant's login gets it, row security on. Small tables are read whole by choice: not here. */
    async function planOf(filter: Partial<AuditFilter>, place: string | null = null): Promise<string> {
      const { rows } = await database.db.withTenant({ tenantId }, async (tx) => {
        await sql`select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)`.execute(
          tx,
        );
        const query = ownEntriesQuery(tenantId, { ...open, ...filter }, { after: place, limit: 20 });
        return sql<{ 'QUERY PLAN': string }>`explain ${query}`.execute(tx);
      });
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    }

    /** Each filter, and the columns that the conditions of its index must hold. */
    const cases = [
      ['no filter', {}, []],
      ['the actor', { actor: 'key-4' }, ['actor_id']],
      ['the member', { member: 'mem-4' }, ['member_id']],
      ['the action', { action: 'act-4' }, ['action']],
      ['the resource', { resourceType: 'thing', resourceId: 'thing-4' }, ['resource_type', 'resource_id']],
      ['what was denied', { outcome: 'denied' }, ['outcome']],
    ] as const satisfies readonly (readonly [string, Partial<AuditFilter>, readonly string[]])[];

    for (const [name, filter, columns] of cases) {
      test(`a tenant's list by ${name} walks an index in its order, whatever row security adds`, async () => {
        const plan = await planOf(filter, newUuid());
        assert.ok(!plan.includes('Sort'), plan);
        assert.ok(!plan.includes('Seq Scan'), plan);
        const conditions = plan.split('\n').filter((line) => line.includes('Index Cond:'));
        assert.ok(conditions.length > 0, plan);
        for (const condition of conditions) {
          for (const column of ['tenant_id', 'entry_id', ...columns])
            assert.ok(condition.includes(column), plan);
        }
      });
    }

    test('times leave only their months', async () => {
      const month = 31 * 24 * 3_600_000;
      const whole = await planOf({});
      const narrow = await planOf({ from: new Date(Date.now() - month), to: new Date(Date.now() + 1) });
      const scans = (plan: string): number => plan.split('Scan').length;
      assert.ok(scans(narrow) < scans(whole), `${whole}\n${narrow}`);
    });
  });
}
