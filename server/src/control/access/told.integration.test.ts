import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { controlChangedV1 } from '@stoa/contracts';
import { type LoggedEvent, logStart, readEvents } from '#events';
import { fromTypeId } from '#kernel';
import {
  type Answer,
  type ControlPlane,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
  testedAdapters,
} from '#testing';
import { z } from 'zod';

const made = z.object({ id: z.string(), version: z.number() });
const madeKey = made.extend({ key: z.string() });

for (const adapter of testedAdapters()) {
  describe(`what the control plane tells on ${adapter}`, () => {
    let database: TestDatabase;
    let plane: ControlPlane;
    before(async () => {
      database = await openTestDatabase({ adapter });
      plane = await openControlPlane(database.db);
    });
    after(async () => {
      await plane.close();
      await database.close();
    });

    /** Everything told of a tenant, once the horizon has passed it, in the order of the log. */
    async function toldOf(tenantId: string): Promise<readonly LoggedEvent[]> {
      const count = await database.db.withTenant({ tenantId }, (tx) =>
        sql<{ count: number }>`select count(*)::integer as count from tenant.events`.execute(tx),
      );
      for (const deadline = Date.now() + 30_000; ; ) {
        const page = await database.db.withTenant({ tenantId }, (tx) => readEvents(tx, logStart, 1000));
        if (page.length === count.rows[0]?.count) return page;
        assert.ok(Date.now() < deadline, 'the horizon does not move');
      }
    }

    function inShort({ key, keyversion, data }: LoggedEvent): string {
      const value = controlChangedV1.parse(JSON.parse(data));
      assert.equal(BigInt(value.version), keyversion);
      assert.equal(key, `${value.resource}:${value.resource_id}`);
      const fields = value.changed_fields.length === 0 ? '' : ` (${value.changed_fields.join()})`;
      return `${value.resource} ${value.version} ${value.change} ${value.state ?? '-'} by ${value.changed_by}${fields}`;
    }

    async function newTenant(): Promise<{ path: string; tenantId: string }> {
      const answer = await plane.admin('POST', '/control/v1/tenants', { body: { name: 'Acme' } });
      const { id } = made.parse(answer.body);
      return { path: `/control/v1/tenants/${id}`, tenantId: fromTypeId('ten', id) ?? '' };
    }

    function expectStatus(answer: Answer, status: number): void {
      assert.equal(answer.status, status, answer.text);
    }

    test('each change of a tenant is told once, in its transaction, and what changes nothing is not', async () => {
      const { path, tenantId } = await newTenant();
      const patch = async (body: object, status = 200, headers = {}) =>
        expectStatus(await plane.admin('PATCH', path, { body, headers }), status);
      await patch({ name: 'Acme Ltd' });
      await patch({ name: 'Acme Ltd' });
      await patch({ state: 'suspended' });
      await patch({ state: 'active' }, 412, { 'if-match': '"1"' });
      await patch({ state: 'active' });
      expectStatus(await plane.admin('DELETE', path), 200);
      expectStatus(await plane.admin('DELETE', path), 200);
      await patch({ state: 'active' });
      assert.deepEqual((await toldOf(tenantId)).map(inShort), [
        'tenant 1 created active by operator',
        'tenant 2 changed active by operator (name)',
        'tenant 3 suspended suspended by operator (state)',
        'tenant 4 resumed active by operator (state)',
        'tenant 5 deleted deleted by operator (state)',
        'tenant 6 restored active by operator (state)',
      ]);
    });

    test('each change of a key is told with who made it, and never a secret', async () => {
      const { path, tenantId } = await newTenant();
      const first = await plane.admin('POST', `${path}/keys`, { body: { name: 'first', role: 'admin' } });
      const admin = madeKey.parse(first.body);
      const own = await plane.open('POST', '/v1/keys', {
        key: admin.key,
        body: { name: 'own', role: 'viewer' },
      });
      const { id, key } = madeKey.parse(own.body);
      const changes = { body: { name: 'mine', role: 'developer' }, key: admin.key };
      expectStatus(await plane.open('PATCH', `/v1/keys/${id}`, changes), 200);
      expectStatus(await plane.open('DELETE', `/v1/keys/${id}`, { key: admin.key }), 200);
      expectStatus(await plane.open('DELETE', `/v1/keys/${id}`, { key: admin.key }), 200);
      expectStatus(await plane.open('PATCH', `/v1/keys/${id}`, changes), 409);
      const told = (await toldOf(tenantId)).filter((event) => event.key !== `tenant:${tenantId}`);
      assert.deepEqual(told.map(inShort), [
        'key 1 created active by operator',
        `key 1 created active by key:${admin.id}`,
        `key 2 changed active by key:${admin.id} (name,role)`,
        `key 3 revoked revoked by key:${admin.id} (revoked_at)`,
      ]);
      const text = told.map(({ data }) => data).join();
      for (const secret of [admin.key, key, plane.operatorKey]) {
        assert.ok(!text.includes(secret.slice(-36)), text);
      }
    });

    test('forty changes of one key at once are told as 1 to 40, without a gap', async () => {
      const { path, tenantId } = await newTenant();
      const answer = await plane.admin('POST', `${path}/keys`, { body: { name: '0', role: 'admin' } });
      const { id } = made.parse(answer.body);
      await Promise.all(
        Array.from({ length: 39 }, async (_, turn) =>
          expectStatus(
            await plane.admin('PATCH', `${path}/keys/${id}`, { body: { name: `${turn + 1}` } }),
            200,
          ),
        ),
      );
      const versions = (await toldOf(tenantId))
        .filter((event) => event.key === `key:${id}`)
        .map((event) => Number(event.keyversion));
      assert.deepEqual(
        versions,
        Array.from({ length: 40 }, (_, index) => index + 1),
      );
    });
  });
}
