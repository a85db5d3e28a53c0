import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type ApiKeyObject, createdApiKey, securityAlertedV1, tenant } from '@stoa/contracts';
import { sql } from 'kysely';
import { fromTypeId, type ManualClock, manualClock } from '#kernel';
import {
  type ControlPlane,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
  testedAdapters,
} from '#testing';
import { warnOfExpiringKeys } from './expiry-warnings.ts';

const tenants = '/control/v1/tenants';
const dayMs = 24 * 60 * 60 * 1000;

for (const adapter of testedAdapters()) {
  describe(`warnings before keys expire on ${adapter}`, () => {
    let database: TestDatabase;
    let plane: ControlPlane;
    let clock: ManualClock;
    before(async () => {
      database = await openTestDatabase({ adapter });
      clock = manualClock(Date.now());
      plane = await openControlPlane(database.db, {
        clock,
        access: { maximumAgeMs: Number.POSITIVE_INFINITY },
      });
    });
    after(async () => {
      await plane.close();
      await database.close();
    });

    async function newTenant(): Promise<string> {
      return tenant.parse((await plane.admin('POST', tenants, { body: { name: 'Acme' } })).body).id;
    }

    async function newKey(tenantId: string, days: number): Promise<ApiKeyObject & { readonly key: string }> {
      const answer = await plane.admin('POST', `${tenants}/${tenantId}/keys`, {
        body: { name: 'key', role: 'admin', expires_at: new Date(clock.now() + days * dayMs).toISOString() },
      });
      assert.equal(answer.status, 201, answer.text);
      return createdApiKey.parse(answer.body);
    }

    const warn = (): Promise<number> => warnOfExpiringKeys({ db: database.db, clock });

    async function told(tenantId: string) {
      const { rows } = await database.db.withTenant({ tenantId: fromTypeId('ten', tenantId) ?? '' }, (tx) =>
        sql<{ data: string; key: string; keyversion: bigint }>`
          select key, keyversion, data from tenant.events where type = 'security.alerted.v1' order by key, keyversion
        `.execute(tx),
      );
      return rows.map(({ key, keyversion, data }) => ({
        key,
        keyversion: Number(keyversion),
        data: securityAlertedV1.strict().parse(JSON.parse(data)),
      }));
    }

    test('a key is warned of 14, 7 and 1 days ahead, once each, whoever looks how often', async () => {
      const tenantId = await newTenant();
      const key = await newKey(tenantId, 30);
      await newKey(tenantId, 400);
      const days: number[] = [];
      for (let day = 0; day <= 31; day++) {
        const before = (await told(tenantId)).length;
        await Promise.all([warn(), warn()]);
        assert.equal(await warn(), 0);
        if ((await told(tenantId)).length > before) days.push(30 - day);
        clock.advance(dayMs);
      }
      assert.deepEqual(days, [14, 7, 1]);
      const warnings = await told(tenantId);
      assert.deepEqual(
        warnings.map(({ key: of, keyversion, data }) => [of, keyversion, data.severity, data.expires_at]),
        [
          [`key:${key.id}`, 1, 'low', key.expires_at],
          [`key:${key.id}`, 2, 'medium', key.expires_at],
          [`key:${key.id}`, 3, 'high', key.expires_at],
        ],
      );
      assert.ok(warnings.every(({ data }) => data.alert === 'key_expiring' && data.principal_id === key.id));
      assert.match(warnings[1]?.data.summary ?? '', /within 7 days/);
      assert.match(warnings[2]?.data.summary ?? '', /within a day/);
    });

    test('who looks late is told the nearest warning only, and a short key is not warned of when it is made', async () => {
      const tenantId = await newTenant();
      const late = await newKey(tenantId, 30);
      const short = await newKey(tenantId, 3);
      const shortest = await newKey(tenantId, 0.5);
      await warn();
      assert.deepEqual(await told(tenantId), []);
      clock.advance(2.5 * dayMs);
      await warn();
      clock.advance(22.5 * dayMs);
      await warn();
      const warnings = (await told(tenantId)).map(({ data }) => [data.principal_id, data.severity]);
      assert.deepEqual(new Set(warnings.map(String)), new Set([`${short.id},high`, `${late.id},medium`]));
      assert.ok(warnings.every(([id]) => id !== shortest.id));
    });

    test('a new end of a key starts its warnings anew, and no version moves for a warning', async () => {
      const tenantId = await newTenant();
      const { id } = await newKey(tenantId, 10);
      clock.advance(4 * dayMs);
      await warn();
      const address = `${tenants}/${tenantId}/keys/${id}`;
      assert.equal((await plane.admin('GET', address)).headers['etag'], '"1"');
      const expires = new Date(clock.now() + 20 * dayMs).toISOString();
      await plane.admin('POST', `${address}/rotate`, { body: { expires_at: expires } });
      await warn();
      assert.equal((await told(tenantId)).length, 1);
      clock.advance(13 * dayMs);
      await warn();
      const warnings = await told(tenantId);
      assert.deepEqual(
        warnings.map(({ keyversion, data }) => [keyversion, data.severity]),
        [
          [1, 'medium'],
          [2, 'medium'],
        ],
      );
    });

    test('keys that are revoked or expired, or whose tenant is deleted, are not warned of', async () => {
      const tenantId = await newTenant();
      const revoked = await newKey(tenantId, 20);
      await newKey(tenantId, 2);
      const gone = await newTenant();
      await newKey(gone, 20);
      await plane.admin('DELETE', `${tenants}/${tenantId}/keys/${revoked.id}`);
      clock.advance(14 * dayMs);
      await plane.admin('DELETE', `${tenants}/${gone}`);
      assert.equal(await warn(), 0);
      assert.deepEqual(await told(tenantId), []);
    });

    test('more keys than one transaction takes are all warned of', async () => {
      const tenantId = await newTenant();
      const { id } = await newKey(tenantId, 20);
      await database.db.withOperator({ operator: 'system:test' }, 'copy', (tx) =>
        sql`
          insert into tenant.api_keys
            (tenant_id, key_id, hash, last_four, name, role, created_by, created_at, expires_at)
          select tenant_id, '00' || lpad(n::text, 10, '0'), hash, last_four, name, role, created_by, created_at, expires_at
          from tenant.api_keys, generate_series(1, 1200) n where key_id = ${id}
        `.execute(tx),
      );
      clock.advance(6 * dayMs);
      assert.equal(await warn(), 1201);
      assert.equal(await warn(), 0);
      assert.equal((await told(tenantId)).length, 1201);
    });
  });
}
