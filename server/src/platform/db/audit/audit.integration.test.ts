import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { isPermissionDenied } from '#db';
import { AppError, newUuid } from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';

interface Entry {
  readonly entry_id: string;
  readonly tenant_id: string | null;
  readonly actor_type: string;
  readonly actor_id: string | null;
  readonly actor_role: string | null;
  readonly action: string;
  readonly resource_type: string | null;
  readonly resource_id: string | null;
  readonly before: string | null;
  readonly after: string | null;
  readonly client_address: string | null;
  readonly user_agent: string | null;
  readonly request_id: string | null;
}

const actor = { type: 'key', id: 'k1', role: 'admin', memberId: 'mem_1', tokenId: 'jti-1' } as const;
const resource = { type: 'thing', id: 'thing_1' };

for (const adapter of testedAdapters()) {
  describe(`audit entries on ${adapter}`, () => {
    let database: TestDatabase;
    before(async () => {
      database = await openTestDatabase({ adapter, migrations: [] });
    });
    after(() => database.close());

    async function ofTenant(tenantId: string): Promise<readonly Entry[]> {
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<Entry>`select * from tenant.audit_entries order by entry_id`.execute(tx),
      );
      return rows;
    }

    async function ofOperator(operator: string): Promise<readonly (Entry & { reason: string })[]> {
      const { rows } = await database.db.withOperator({ operator: 'looking' }, 'look', (tx) =>
        sql<Entry & { reason: string }>`
          select * from platform.operator_audit_entries where actor_id = ${operator} order by entry_id
        `.execute(tx),
      );
      return rows;
    }

    test("a tenant's entry says who, as whom, what, before, after, from where and by which request", async () => {
      const tenantId = newUuid();
      const from = { requestId: 'req_1', clientAddress: '192.0.2.1', userAgent: 'u'.repeat(5000) };
      await database.db.withTenant({ tenantId, actor, ...from }, (tx) =>
        tx.audit({ action: 'things.change', resource, before: { name: 'a' }, after: { name: 'b' } }),
      );
      const [entry, ...others] = await ofTenant(tenantId);
      assert.ok(entry);
      assert.deepEqual(others, []);
      assert.deepEqual(
        { ...entry, entry_id: undefined, occurred_at: undefined },
        {
          entry_id: undefined,
          occurred_at: undefined,
          tenant_id: tenantId,
          actor_type: 'key',
          actor_id: 'k1',
          actor_role: 'admin',
          action: 'things.change',
          resource_type: 'thing',
          resource_id: 'thing_1',
          outcome: 'succeeded',
          times: 1,
          before: '{"name":"a"}',
          after: '{"name":"b"}',
          client_address: '192.0.2.1',
          user_agent: 'u'.repeat(256),
          request_id: 'req_1',
          is_copy: false,
          member_id: 'mem_1',
          end_user: null,
          token_id: 'jti-1',
        },
      );
    });

    test('an entry is rolled back with its change, and one without an actor is refused', async () => {
      const tenantId = newUuid();
      const failing = database.db.withTenant({ tenantId, actor }, async (tx) => {
        await tx.audit({ action: 'things.change', resource });
        throw new Error('planted');
      });
      await assert.rejects(failing, /planted/);
      await assert.rejects(
        database.db.withTenant({ tenantId }, (tx) => tx.audit({ action: 'things.change', resource })),
        (error) => error instanceof AppError && error.code === 'internal_error',
      );
      assert.deepEqual(await ofTenant(tenantId), []);
    });

    test("an operator's act on a tenant is told to both: to the tenant without who it was, why and from where", async () => {
      const [tenantId, operator] = [newUuid(), `opk_${newUuid()}`];
      const context = {
        operator,
        tenantId,
        requestId: 'req_2',
        clientAddress: '192.0.2.2',
        userAgent: 'a-browser',
      };
      await database.db.withOperator(context, 'things.change: a secret reason', (tx) =>
        tx.audit({ action: 'things.change', resource, before: { a: 1 }, after: { a: 2 } }),
      );
      const [whole] = await ofOperator(operator);
      const [shown, ...others] = await ofTenant(tenantId);
      assert.ok(whole && shown);
      assert.deepEqual(others, []);
      assert.equal(whole.reason, 'things.change: a secret reason');
      assert.deepEqual(
        [whole.actor_role, whole.client_address, whole.user_agent],
        ['operator', '192.0.2.2', 'a-browser'],
      );
      assert.equal(shown.entry_id, whole.entry_id);
      assert.deepEqual(
        [shown.actor_type, shown.action, shown.after],
        ['operator', 'things.change', '{"a":2}'],
      );
      const text = JSON.stringify(shown);
      for (const internal of [operator, 'secret reason', '192.0.2.2', 'a-browser'])
        assert.ok(!text.includes(internal));
    });

    test('a passage of the operator that records nothing leaves one entry, one that does leaves no other', async () => {
      const operator = `opk_${newUuid()}`;
      await database.db.withOperator({ operator }, 'things.list of everybody', async () => undefined);
      await database.db.withOperator({ operator }, 'things.change', async (tx) => {
        await tx.audit({ action: 'things.change', resource });
        await tx.audit({ action: 'things.change', resource: { type: 'thing', id: 'thing_2' } });
      });
      const failing = database.db.withOperator({ operator }, 'things.fail', async () => {
        throw new Error('planted');
      });
      await assert.rejects(failing, /planted/);
      assert.deepEqual(
        (await ofOperator(operator)).map(({ action, resource_id }) => [action, resource_id]),
        [
          ['things.list', null],
          ['things.change', 'thing_1'],
          ['things.change', 'thing_2'],
        ],
      );
    });

    test('a tenant neither reads nor writes the entries of another', async () => {
      const [mine, others] = [newUuid(), newUuid()];
      await database.db.withTenant({ tenantId: others, actor }, (tx) =>
        tx.audit({ action: 'things.change', resource }),
      );
      assert.deepEqual(await ofTenant(mine), []);
      const forged = database.db.withTenant({ tenantId: mine, actor }, (tx) =>
        sql`insert into tenant.audit_entries (tenant_id, actor_type, action) values (${others}, 'key', 'x')`.execute(
          tx,
        ),
      );
      await assert.rejects(forged, isPermissionDenied);
      const peeking = database.db.withTenant({ tenantId: mine }, (tx) =>
        sql`select * from platform.operator_audit_entries`.execute(tx),
      );
      await assert.rejects(peeking, isPermissionDenied);
    });

    test('ids sort by the time of their entries, by the clock of the database', async () => {
      const tenantId = newUuid();
      await database.db.withTenant({ tenantId, actor }, async (tx) => {
        for (let index = 0; index < 200; index++) await tx.audit({ action: `act-${index}` });
      });
      assert.deepEqual(
        (await ofTenant(tenantId)).map(({ action }) => action),
        Array.from({ length: 200 }, (_, index) => `act-${index}`),
      );
    });

    test('what older code writes to the older table is an entry, too', async () => {
      const [tenantId, operator] = [newUuid(), `opk_${newUuid()}`];
      await database.db.withOperator({ operator: 'system:test' }, 'older code', (tx) =>
        sql`insert into platform.audit_entries (operator, tenant_id, request_id, reason)
          values (${operator}, ${tenantId}, 'req_3', 'tenants.change to suspended: abuse')`.execute(tx),
      );
      const [whole] = await ofOperator(operator);
      const [shown] = await ofTenant(tenantId);
      assert.deepEqual(
        [whole?.action, whole?.reason, shown?.action, shown?.actor_id, shown?.entry_id],
        ['tenants.change', 'tenants.change to suspended: abuse', 'tenants.change', null, whole?.entry_id],
      );
    });
  });
}
