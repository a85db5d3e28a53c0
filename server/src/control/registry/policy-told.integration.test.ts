import assert from 'node:assert/strict';
import { test } from 'node:test';
import { controlChangedV1 } from '@stoa/contracts';
import { sql } from 'kysely';
import { AppError, asTenantId } from '#kernel';
import { openTestDatabase, testedAdapters } from '#testing';
import { createPolicyStore } from './policies.ts';

for (const adapter of testedAdapters()) {
  test(`each setting of a tenant's policy is told once, and a refused one is not, on ${adapter}`, async () => {
    const database = await openTestDatabase({ adapter });
    try {
      const tenantId = asTenantId(await database.newTenant());
      const policies = createPolicyStore({
        db: database.db,
        monotonicMs: () => 0,
        catalog: () => ({ entries: new Map(), chatOrder: [], warnings: [] }),
        onOperatorOrder: async () => undefined,
        onTenantPolicy: () => undefined,
      });
      const actor = { type: 'key', id: '00a1B2c3D4e5', role: 'admin' } as const;
      const acting = { tenantId, actor, requestId: 'req_1', clientAddress: '192.0.2.1', userAgent: null };
      const values = { order: [], allowed: null };
      await policies.replaceTenant(acting, values, null);
      await assert.rejects(policies.replaceTenant(acting, values, '"7"'), AppError);
      await policies.replaceTenant(acting, { order: [], allowed: [] }, '"1"');
      const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
        sql<{
          data: string;
          keyversion: bigint;
        }>`select data, keyversion from tenant.events order by seq`.execute(tx),
      );
      assert.deepEqual(
        rows.map((row) => row.keyversion),
        [1n, 2n],
      );
      const told = rows.map((row) => controlChangedV1.parse(JSON.parse(row.data)));
      assert.deepEqual(
        told.map((data) => [
          data.resource,
          data.resource_id,
          data.change,
          data.changed_fields,
          data.changed_by,
        ]),
        [
          ['policy', tenantId, 'created', [], 'key:00a1B2c3D4e5'],
          ['policy', tenantId, 'changed', ['allowed'], 'key:00a1B2c3D4e5'],
        ],
      );
    } finally {
      await database.close();
    }
  });
}
