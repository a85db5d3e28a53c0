import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  accessToken,
  apiKey,
  auditEntry,
  type AuditEntryObject,
  createdApiKey,
  listOf,
  ownAuditEntry,
  type OwnAuditEntryObject,
  tenant,
} from '@stoa/contracts';
import { sql } from 'kysely';
import { fromTypeId } from '#kernel';
import {
  type ControlPlane,
  errorIn,
  openControlPlane,
  openTestDatabase,
  type TestDatabase,
  testedAdapters,
} from '#testing';

const page = listOf(auditEntry.strict()).strict();
const ownPage = listOf(ownAuditEntry.strict()).strict();

for (const adapter of testedAdapters()) {
  describe(`the audit on ${adapter}`, () => {
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

    async function newTenant(name = 'x'): Promise<string> {
      return tenant.parse((await plane.admin('POST', '/control/v1/tenants', { body: { name } })).body).id;
    }

    async function newKey(tenantId: string, role = 'admin') {
      const made = await plane.admin('POST', `/control/v1/tenants/${tenantId}/keys`, {
        body: { name: 'k', role },
      });
      return createdApiKey.parse(made.body);
    }

    async function entries(query = ''): Promise<AuditEntryObject[]> {
      const answer = await plane.admin('GET', `/control/v1/audit?limit=100${query}`);
      assert.equal(answer.status, 200, answer.text);
      return page.parse(answer.body).data;
    }

    async function ownEntries(key: string, query = ''): Promise<OwnAuditEntryObject[]> {
      const answer = await plane.open('GET', `/v1/audit?limit=100${query}`, { key });
      assert.equal(answer.status, 200, answer.text);
      return ownPage.parse(answer.body).data;
    }

    test('each passage of the operator leaves an entry with who, what, whom and by which request, newest first', async () => {
      const id = await newTenant();
      const suspended = await plane.admin('PATCH', `/control/v1/tenants/${id}`, {
        body: { state: 'suspended', reason: 'abuse, ‮see ticket 7' },
        headers: { 'user-agent': 'a test' },
      });
      const data = await entries(`&tenant_id=${id}`);
      assert.deepEqual(
        data.map(({ reason }) => reason),
        ['tenants.change to suspended: abuse, ‮see ticket 7', 'tenants.create'],
      );
      const [newest] = data;
      assert.equal(newest?.request_id, suspended.headers['x-request-id']);
      assert.equal(newest?.tenant_id, id);
      const operator = plane.operatorKey.slice(8, 20);
      assert.equal(newest?.operator, operator);
      assert.deepEqual(newest?.actor, {
        type: 'operator',
        id: operator,
        role: 'operator',
        member_id: null,
        token_id: null,
        end_user: null,
      });
      assert.deepEqual(
        [newest?.action, newest?.resource, newest?.outcome, newest?.count, newest?.user_agent],
        ['tenants.change', { type: 'tenant', id }, 'succeeded', 1, 'a test'],
      );
      assert.match(newest?.client_address ?? '', /127\.0\.0\.1$/);
      assert.equal(tenant.parse(newest?.before).state, 'active');
      assert.equal(tenant.parse(newest?.after).state, 'suspended');
    });

    test("one tenant's entries are listed without another's", async () => {
      const [a, b] = [await newTenant(), await newTenant()];
      const data = await entries(`&tenant_id=${a}`);
      assert.ok(data.length > 0 && data.every(({ tenant_id }) => tenant_id === a));
      assert.ok(a !== b);
    });

    test("a tenant's admin sees its own acts and the operator's, and nothing of who the operator was or why", async () => {
      const [mine, others] = [await newTenant('mine'), await newTenant('others')];
      const { id: adminId, key } = await newKey(mine);
      await newKey(others);
      const made = await plane.open('POST', '/v1/keys', { key, body: { name: 'second', role: 'viewer' } });
      const second = createdApiKey.parse(made.body);
      await plane.open('PATCH', `/v1/keys/${second.id}`, { key, body: { name: 'renamed' } });
      await plane.admin('PATCH', `/control/v1/tenants/${mine}`, {
        body: { name: 'named anew', reason: 'a secret reason' },
      });
      const data = await ownEntries(key);
      assert.deepEqual(
        data.map(({ action, actor, resource }) => [action, actor.type, actor.id, resource?.id]),
        [
          ['tenants.change', 'operator', null, mine],
          ['keys.change', 'key', adminId, second.id],
          ['keys.create', 'key', adminId, second.id],
          ['tenant_keys.create', 'operator', null, adminId],
          ['tenants.create', 'operator', null, mine],
        ],
      );
      const [renamed, changed, created] = data;
      assert.equal(apiKey.parse(changed?.before).name, 'second');
      assert.equal(apiKey.parse(changed?.after).name, 'renamed');
      assert.equal(created?.before, null);
      assert.match(changed?.client_address ?? '', /127\.0\.0\.1$/);
      assert.deepEqual(
        [renamed?.client_address, renamed?.user_agent, renamed?.actor.role],
        [null, null, null],
      );
      const text = JSON.stringify(data);
      for (const secret of [
        plane.operatorKey.slice(8, 20),
        'a secret reason',
        others,
        second.key,
        second.key.slice(21, 60),
      ]) {
        assert.ok(!text.includes(secret), secret);
      }
      // The operator sees the same acts once each, its own whole.
      const all = await entries(`&tenant_id=${mine}`);
      assert.deepEqual(
        all.map(({ id }) => id),
        data.map(({ id }) => id),
      );
      assert.ok(all[0]?.reason.endsWith('a secret reason'));
    });

    test('pages neither repeat nor miss an entry, over both kinds', async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      for (let index = 0; index < 5; index++) {
        await plane.open('POST', '/v1/keys', { key, body: { name: `k${index}`, role: 'viewer' } });
        await newTenant();
      }
      const [newest] = await entries();
      const whole = (await entries(`&after=${newest?.id ?? ''}`)).map((entry) => entry.id);
      assert.ok(whole.length >= 10);
      const seen: string[] = [];
      let place = newest?.id;
      while (place !== undefined && seen.length < whole.length) {
        const found = page.parse((await plane.admin('GET', `/control/v1/audit?limit=2&after=${place}`)).body);
        seen.push(...found.data.map((entry) => entry.id));
        place = found.last_id ?? undefined;
      }
      assert.deepEqual(seen.slice(0, whole.length), whole);
      assert.deepEqual(seen, [...seen].sort().reverse());
      const own = (await ownEntries(key)).map((entry) => entry.id);
      const first = ownPage.parse((await plane.open('GET', '/v1/audit?limit=3', { key })).body);
      const rest = await ownEntries(key, `&after=${first.last_id ?? ''}`);
      assert.deepEqual(
        [...first.data, ...rest].map((entry) => entry.id),
        own,
      );
      assert.ok(first.has_more);
    });

    test('filters: time, actor, action, resource, outcome', async () => {
      const id = await newTenant();
      const { id: adminId, key } = await newKey(id);
      const { id: viewerId, key: viewer } = await newKey(id, 'viewer');
      await plane.open('POST', '/v1/keys', { key, body: { name: 'a', role: 'viewer' } });
      assert.equal((await plane.open('GET', '/v1/keys', { key: viewer })).status, 403);
      await plane.audit.api.writeDenied();
      const all = await ownEntries(key);
      const actions = async (query: string) => (await ownEntries(key, query)).map(({ action }) => action);
      assert.deepEqual(await actions('&action=keys.create'), ['keys.create']);
      assert.deepEqual(await actions(`&actor=${adminId}`), ['keys.create']);
      assert.deepEqual(await actions('&outcome=denied'), ['keys:read']);
      assert.deepEqual(await actions(`&resource_type=tenant&resource_id=${id}`), ['tenants.create']);
      assert.deepEqual(await actions(`&actor=${viewerId}&outcome=succeeded`), []);
      assert.deepEqual(await actions('&member=mem_01h455vb4pex5vsknk084sn02q'), []);
      const [earliest = ''] = all.map((entry) => entry.occurred_at).sort();
      assert.equal((await actions(`&from=${earliest}`)).length, all.length);
      assert.equal((await actions(`&to=${earliest}`)).length, 0);
      assert.equal((await actions('&from=2020-01-01T00:00:00Z&to=2020-02-01T00:00:00Z')).length, 0);
      assert.deepEqual(
        (await entries(`&tenant_id=${id}&outcome=denied`)).map(({ action, reason }) => [action, reason]),
        [['keys:read', 'keys:read']],
      );
    });

    test('denied acts of one principal and permission are one entry with a count, and without a principal none', async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      const { id: viewerId, key: viewer } = await newKey(id, 'viewer');
      const answers = await Promise.all([
        ...Array.from({ length: 7 }, () => plane.open('GET', '/v1/keys', { key: viewer })),
        plane.open('POST', '/v1/keys', { key: viewer, body: { name: 'x', role: 'viewer' } }),
        ...Array.from({ length: 5 }, () => plane.open('GET', '/v1/keys', { key: `${viewer.slice(0, -1)}~` })),
      ]);
      assert.deepEqual(
        answers.map(({ status }) => status),
        [403, 403, 403, 403, 403, 403, 403, 403, 401, 401, 401, 401, 401],
      );
      await Promise.all([plane.audit.api.writeDenied(), plane.audit.api.writeDenied()]);
      const denied = await ownEntries(key, '&outcome=denied');
      assert.deepEqual(
        denied
          .sort((a, b) => b.count - a.count)
          .map(({ action, count, actor, resource }) => [action, count, actor.id, actor.role, resource?.id]),
        [
          ['keys:read', 7, viewerId, 'viewer', 'keys.list'],
          ['keys:write', 1, viewerId, 'viewer', 'keys.create'],
        ],
      );
      await plane.open('GET', '/v1/keys', { key: viewer });
      await plane.audit.lifecycle.stop();
      assert.equal(
        (await ownEntries(key, '&outcome=denied')).length,
        3,
        'what is counted is written at the end',
      );
    });

    test('a key that is refused though its secret is right is known: one entry with the reason', async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      const { id: revokedId, key: revoked } = await newKey(id, 'viewer');
      await plane.open('DELETE', `/v1/keys/${revokedId}`, { key });
      for (let index = 0; index < 3; index++) {
        const answer = await plane.open('GET', '/v1/audit', { key: revoked });
        assert.deepEqual([answer.status, errorIn(answer).code], [401, 'key_revoked']);
      }
      // One letter of the secret is another: nobody knows who that is.
      const guess = `${revoked.slice(0, 30)}${revoked[30] === 'a' ? 'b' : 'a'}${revoked.slice(31)}`;
      assert.equal(errorIn(await plane.open('GET', '/v1/audit', { key: guess })).code, 'invalid_api_key');
      await plane.audit.api.writeDenied();
      assert.deepEqual(
        (await ownEntries(key, '&outcome=denied')).map(({ action, count, actor, resource }) => [
          action,
          count,
          actor.id,
          resource,
        ]),
        [['authenticate', 3, revokedId, { type: 'refusal', id: 'key_revoked' }]],
      );
    });

    test('a right token that is refused, revoked or from elsewhere, is an entry with the reason, met before or not', async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      const { id: keyId, key: narrowed } = await newKey(id);
      const newToken = async (): Promise<string> => {
        const made = await plane.open('POST', '/v1/tokens', { key: narrowed, body: {} });
        return accessToken.parse(made.body).token;
      };
      const use = async (token: string): Promise<string> =>
        errorIn(await plane.open('GET', '/v1/audit', { key: token })).code;
      const [met, unmet] = [await newToken(), await newToken()];
      assert.equal((await plane.open('GET', '/v1/models', { key: met })).status < 500, true);
      const path = `/v1/keys/${keyId}`;
      await plane.open('PATCH', path, { key, body: { allowed_ips: ['192.0.2.0/24'] } });
      assert.deepEqual([await use(met), await use(unmet)], ['ip_not_allowed', 'ip_not_allowed']);
      await plane.audit.api.writeDenied();
      // As when the minute turns: of one minute there is one entry.
      await database.db.withSystem('audit', (tx) => sql`delete from platform.denied_minutes`.execute(tx));
      await plane.open('DELETE', path, { key });
      assert.deepEqual([await use(met), await use(unmet)], ['key_revoked', 'key_revoked']);
      await plane.audit.api.writeDenied();
      assert.deepEqual(
        (await ownEntries(key, '&outcome=denied')).map(({ action, count, actor, resource }) => [
          action,
          count,
          actor.type,
          actor.id,
          resource?.id,
        ]),
        [
          ['authenticate', 2, 'token', keyId, 'key_revoked'],
          ['authenticate', 2, 'token', keyId, 'ip_not_allowed'],
        ],
      );
    });

    test('an export is all entries of the filter as lines, in pages, and as the list has them', async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      await database.db.withSystem('audit', (tx) =>
        sql`insert into tenant.audit_entries (tenant_id, actor_type, actor_id, action)
          select ${fromTypeId('ten', id)}::uuid, 'system', 'system:test', 'act-' || number
          from generate_series(1, 1700) number`.execute(tx),
      );
      for (const answer of [
        await plane.open('GET', '/v1/audit/export', { key }),
        await plane.admin('GET', `/control/v1/audit/export?tenant_id=${id}`),
      ]) {
        assert.equal(answer.status, 200);
        assert.equal(answer.headers['content-type'], 'application/x-ndjson');
        const lines = answer.text.trimEnd().split('\n');
        assert.equal(lines.length, 1702);
        const ids = lines.map((line) => ownAuditEntry.parse(JSON.parse(line)).id);
        assert.deepEqual(ids, [...new Set(ids)].sort().reverse());
      }
      const some = await plane.open('GET', '/v1/audit/export?action=act-7', { key });
      assert.equal(some.text.trimEnd().split('\n').length, 1);
      const none = await plane.open('GET', '/v1/audit/export?action=nothing', { key });
      assert.deepEqual([none.status, none.text], [200, '']);
      const exports = await entries('&action=audit.export');
      assert.equal(exports.length, 1, 'one export of the operator is one entry, whatever its pages');
    });

    test('a query that is none is refused, on both listeners', async () => {
      const { key } = await newKey(await newTenant());
      const faults = [
        'after=x',
        'after=-1',
        'after=99999999999999999999',
        'limit=0',
        'from=yesterday',
        'outcome=perhaps',
        'resource_id=x',
        'member=x',
      ];
      for (const query of faults) {
        for (const answer of [
          await plane.admin('GET', `/control/v1/audit?${query}`),
          await plane.open('GET', `/v1/audit?${query}`, { key }),
        ]) {
          assert.deepEqual([answer.status, errorIn(answer).code], [400, 'invalid_request'], query);
        }
      }
      const odd = await plane.admin('GET', '/control/v1/audit?tenant_id=x');
      assert.deepEqual([odd.status, errorIn(odd).code], [400, 'invalid_request']);
      const nul = await plane.open('GET', '/v1/audit?action=a%00b', { key });
      assert.deepEqual([nul.status, errorIn(nul).code], [400, 'invalid_text']);
      const largest = await plane.admin('GET', '/control/v1/audit?after=aud_7zzzzzzzzzzzzzzzzzzzzzzzzz');
      assert.equal(largest.status, 200);
      const oldest = await plane.admin('GET', '/control/v1/audit?after=aud_00000000000000000000000000');
      assert.deepEqual([oldest.status, page.parse(oldest.body).data], [200, []]);
    });

    test("the operator's list is no tenant's, and a tenant's is its admins' only", async () => {
      const id = await newTenant();
      const { key } = await newKey(id);
      assert.equal((await plane.admin('GET', '/control/v1/audit', { key })).status, 401);
      assert.equal((await plane.open('GET', '/control/v1/audit', { key })).status, 404);
      for (const role of ['developer', 'viewer']) {
        const { key: lesser } = await newKey(id, role);
        for (const path of ['/v1/audit', '/v1/audit/export']) {
          const answer = await plane.open('GET', path, { key: lesser });
          assert.deepEqual([answer.status, errorIn(answer).code], [403, 'permission_denied'], role);
        }
      }
    });
  });
}
