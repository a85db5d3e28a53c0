import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import {
  explainedRequest,
  listRequests,
  type RequestCompletedV1,
  readRequest,
  usageReport,
} from '@stoa/contracts';
import { type RawBuilder, sql } from 'kysely';
import { z } from 'zod';
import type { JsonRoute, RequestContext } from '#http';
import {
  AppError,
  newRequestId,
  newTenantId,
  silentLogger,
  systemClock,
  type TenantId,
  type TenantPrincipal,
  toTypeId,
} from '#kernel';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createJournal, type JournalStore } from '../journal/journal.ts';
import { recordQuery, recordsQuery } from './requests.sql.ts';
import { createRequestsRoutes, lowestIdAt } from './requests.ts';
import { createPartitionKeeper } from '../settlement/retention.ts';
import { createSettlement, type Settlement } from '../settlement/settlement.ts';
import { idAt, noMetrics, recordOf, settleNow, temporaryFolder } from '../journal/testing/records.ts';
import { sumQuery } from './usage.sql.ts';
import { createUsageRoutes } from './usage.ts';

const requestPage = z.object({
  object: z.literal('list'),
  data: z.array(explainedRequest),
  has_more: z.boolean(),
  first_id: z.string().nullable(),
  last_id: z.string().nullable(),
});

const requestId = newRequestId();
const context: RequestContext = {
  requestId,
  publicRequestId: toTypeId('req', requestId),
  clientRequestId: null,
  traceparent: null,
  clientAddress: '127.0.0.1',
  userAgent: null,
  ifMatch: null,
  idempotencyKey: null,
};

function principalOf(tenantId: TenantId, projectId: string | null = null): TenantPrincipal {
  return {
    kind: 'tenant',
    tenantId,
    keyId: '00abcdefghij',
    role: 'viewer',
    scopes: null,
    projectId,
    tags: {},
    standing: { refusal: null },
  };
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof AppError && error.code === code;
}

for (const adapter of testedAdapters()) {
  describe(`requests and usage on ${adapter}`, () => {
    let database: TestDatabase;
    let folder: Awaited<ReturnType<typeof temporaryFolder>>;
    let journal: JournalStore;
    let settlement: Settlement;
    let routes: readonly JsonRoute[];
    let tenantId: TenantId;
    before(async () => {
      database = await openTestDatabase({ adapter });
      folder = await temporaryFolder();
      const parts = { clock: systemClock, logger: silentLogger, metrics: noMetrics };
      const { db } = database;
      journal = createJournal(parts, { directory: folder.path });
      const partitions = createPartitionKeeper({ ...parts, db });
      settlement = createSettlement({ ...parts, db, journal, partitions });
      routes = [
        ...createRequestsRoutes({ db, journal }),
        ...createUsageRoutes({ db, journal, clock: systemClock }),
      ];
    });
    after(async () => {
      journal.close();
      await folder.remove();
      await database.close();
    });
    beforeEach(() => {
      tenantId = newTenantId();
    });
    afterEach(() => settlement.flush());

    async function call(
      id: string,
      principal: TenantPrincipal,
      input: { params?: unknown; query?: unknown },
    ): Promise<unknown> {
      const route = routes.find((one) => one.endpoint.id === id);
      const reply = await route?.handle(
        { params: input.params, query: input.query ?? {}, body: undefined },
        principal,
        context,
      );
      assert.equal(reply?.status, 200);
      return reply?.body;
    }
    async function read(record: RequestCompletedV1, principal = principalOf(tenantId)) {
      const id = toTypeId('req', record.request_id);
      return explainedRequest.strict().parse(await call(readRequest.id, principal, { params: { id } }));
    }
    async function list(query: Record<string, string> = {}, principal = principalOf(tenantId)) {
      return requestPage.parse(await call(listRequests.id, principal, { query }));
    }
    async function usage(query: Record<string, string> = {}, principal = principalOf(tenantId)) {
      return usageReport.parse(await call('usage.read', principal, { query }));
    }
    async function settle(
      changes: Partial<RequestCompletedV1> = {},
      owner = tenantId,
    ): Promise<RequestCompletedV1> {
      const record = recordOf(owner, changes);
      await settleNow(journal, record);
      return record;
    }

    test('a request explains itself the same before and after it is written', async () => {
      const record = await settle({ tags: { team: 'é' }, end_user: 'someone', client_request_id: 'mine' });
      assert.equal(journal.depth, 1);
      const early = await read(record);
      await settlement.flush();
      assert.equal(journal.depth, 0);
      assert.deepEqual(await read(record), early);
      assert.equal(early.id, toTypeId('req', record.request_id));
      assert.equal(early.cost, '0.0000015');
      assert.equal(early.charge, '0.000003');
      assert.equal(early.decision?.target, 'small-model');
      assert.equal(early.attempts[0]?.time_to_first_token_ms, 4.25);
      assert.ok(
        !JSON.stringify(
          await call(readRequest.id, principalOf(tenantId), { params: { id: early.id } }),
        ).includes('provider-1'),
      );
    });

    test('a request without a price has null cost and charge, never zero', async () => {
      const record = await settle({
        priced: false,
        cost_femto: null,
        charge_femto: null,
        price: null,
        price_version: null,
      });
      const explained = await read(record);
      assert.deepEqual([explained.priced, explained.cost, explained.charge], [false, null, null]);
    });

    test("another tenant's request, an unknown one and one of another project are not found", async () => {
      const stored = await settle({ project_id: 'red' });
      await settlement.flush();
      const waiting = await settle({ project_id: 'red' });
      for (const record of [stored, waiting]) {
        await assert.rejects(read(record, principalOf(newTenantId())), hasCode('not_found'));
        await assert.rejects(read(record, principalOf(tenantId, 'blue')), hasCode('not_found'));
        assert.equal((await read(record, principalOf(tenantId, 'red'))).project_id, 'red');
      }
      await assert.rejects(read(recordOf(tenantId)), hasCode('not_found'));
    });

    test('the list is newest first, each request once, written or not, in pages', async () => {
      const records: RequestCompletedV1[] = [];
      for (let index = 0; index < 7; index += 1) {
        records.push(await settle());
        if (index === 4) await settlement.flush();
      }
      await settle({}, newTenantId());
      const wanted = records.map((record) => toTypeId('req', record.request_id)).toReversed();
      const seen: string[] = [];
      let after: string | null = null;
      do {
        const page = await list({ limit: '3', ...(after === null ? {} : { after }) });
        seen.push(...page.data.map((request) => request.id));
        assert.equal(page.first_id, page.data[0]?.id ?? null);
        after = page.has_more ? page.last_id : null;
      } while (after !== null);
      assert.deepEqual(seen, wanted);
    });

    test('each filter of the list lets through what it names, written or not', async () => {
      const hourMs = 3_600_000;
      const at = Date.now() - 10 * hourMs;
      const failed: Partial<RequestCompletedV1> = { outcome: 'failed', attempts: [], decision: null };
      const make: readonly Partial<RequestCompletedV1>[] = [
        {
          request_id: idAt(at),
          key_id: '00keyAkeyAke',
          end_user: 'ann',
          project_id: 'red',
          requested_model: 'big',
        },
        { request_id: idAt(at + hourMs), ...failed },
        {
          request_id: idAt(at + 2 * hourMs),
          end_user: 'ann',
          decision: { target: 'other', probability: 1, reason: 'named' },
          attempts: [],
        },
      ];
      const queries: readonly (readonly [Record<string, string>, readonly number[]])[] = [
        [{ key_id: '00keyAkeyAke' }, [0]],
        [{ end_user: 'ann' }, [2, 0]],
        [{ project_id: 'red' }, [0]],
        [{ model: 'big' }, [0]],
        [{ target: 'other' }, [2]],
        [{ outcome: 'failed' }, [1]],
        [{ outcome: 'completed', end_user: 'ann', target: 'small-model' }, [0]],
        [{ from: new Date(at + hourMs).toISOString() }, [2, 1]],
        [{ to: new Date(at + hourMs).toISOString() }, [0]],
        [{ from: new Date(at).toISOString(), to: new Date(at + 2 * hourMs).toISOString() }, [1, 0]],
      ];
      const records: RequestCompletedV1[] = [];
      for (const changes of make) records.push(await settle(changes));
      for (const state of ['waiting', 'written']) {
        for (const [query, expected] of queries) {
          const found = (await list(query)).data.map((request) => request.id);
          const wanted = expected.map((index) => toTypeId('req', records[index]?.request_id ?? ''));
          assert.deepEqual(found, wanted, `${state} ${JSON.stringify(query)}`);
        }
        await settlement.flush();
      }
    });

    test('a key of a project lists that project only, and may not ask for another', async () => {
      const red = await settle({ project_id: 'red' });
      await settle({ project_id: 'blue' });
      await settle();
      await settlement.flush();
      const page = await list({}, principalOf(tenantId, 'red'));
      assert.deepEqual(
        page.data.map((request) => request.id),
        [toTypeId('req', red.request_id)],
      );
      await assert.rejects(
        list({ project_id: 'blue' }, principalOf(tenantId, 'red')),
        hasCode('permission_denied'),
      );
      const sums = await usage({ group_by: 'project' }, principalOf(tenantId, 'red'));
      assert.deepEqual(
        sums.data.map((row) => [row.project_id, row.requests]),
        [['red', 1]],
      );
    });

    test('usage sums exactly, the same whether records are written or not', async () => {
      const cost = '12345678901234567890123';
      await settle({ cost_femto: cost, charge_femto: cost, end_user: 'ann' });
      await settle({ cost_femto: '1', charge_femto: '1', end_user: 'ann' });
      await settle({ priced: false, cost_femto: null, charge_femto: null, end_user: 'bob' });
      await settle({ outcome: 'refused', priced: false, cost_femto: null, charge_femto: null, attempts: [] });
      const early = await usage({ group_by: 'end_user' });
      await settlement.flush();
      const late = await usage({ group_by: 'end_user' });
      assert.deepEqual({ ...late, as_of: '' }, { ...early, as_of: '' });
      assert.deepEqual(
        late.data.map((row) => [
          row.end_user,
          row.requests,
          row.unpriced_requests,
          row.refused_requests,
          row.cost,
        ]),
        [
          ['ann', 2, 0, 0, '12345678.901234567890124'],
          ['bob', 1, 1, 0, null],
          [null, 1, 0, 1, null],
        ],
      );
      assert.equal(late.totals.requests, 4);
      assert.equal(late.totals.input_tokens, 40);
      assert.equal(late.totals.charge, '12345678.901234567890124');
    });

    test('usage while records are being written counts each once', async () => {
      for (let index = 0; index < 300; index += 1) await settle();
      const [first, second] = await Promise.all([usage(), settlement.flush().then(() => usage())]);
      assert.equal(first.totals.requests, 300);
      assert.equal(second.totals.requests, 300);
    });

    test('what is written but not confirmed yet is listed and counted once', async () => {
      const records = [await settle(), await settle({ end_user: 'ann' })];
      await settlement.ship(
        records.map((record) => ({ requestId: record.request_id, json: JSON.stringify(record) })),
      );
      assert.equal(journal.pendingOf(tenantId).length, 2);
      assert.equal((await list()).data.length, 2);
      assert.equal((await usage()).totals.requests, 2);
    });

    test('filters of the report hold for what is not written yet, too', async () => {
      await settle({ end_user: 'ann', key_id: '00keyAkeyAke', project_id: 'red' });
      await settle({ request_id: idAt(Date.now() - 40 * 86_400_000) });
      await settle({ requested_model: 'asked', attempts: [], decision: null });
      const requestsOf = async (query: Record<string, string>): Promise<number> =>
        (await usage(query)).totals.requests;
      for (const state of ['waiting', 'written']) {
        assert.equal(await requestsOf({}), 2, state);
        assert.equal(await requestsOf({ end_user: 'ann' }), 1, state);
        assert.equal(await requestsOf({ key_id: '00keyAkeyAke' }), 1, state);
        assert.equal(await requestsOf({ project_id: 'red' }), 1, state);
        assert.equal(await requestsOf({ model: 'asked' }), 1, state);
        await settlement.flush();
      }
    });

    test('usage is grouped by several things at once, filtered, paged, and bounded by its days', async () => {
      const dayMs = 86_400_000;
      const today = new Date().toISOString().slice(0, 10);
      const yesterday = new Date(Date.now() - dayMs).toISOString().slice(0, 10);
      await settle();
      await settle({ requested_model: 'asked', attempts: [], decision: null });
      await settle({ request_id: idAt(Date.parse(today) - 1), key_id: '00keyAkeyAke' });
      await settle({ request_id: idAt(Date.now() - 40 * dayMs) });
      await settlement.flush();
      const rows = (await usage({ group_by: 'model,day,key' })).data.map((row) => [
        row.day,
        row.model,
        row.key_id,
      ]);
      assert.deepEqual(rows, [
        [today, 'asked', '00abcdefghij'],
        [today, 'small-model', '00abcdefghij'],
        [yesterday, 'small-model', '00keyAkeyAke'],
      ]);
      const first = await usage({ group_by: 'day,model', limit: '2' });
      assert.deepEqual([first.data.length, first.has_more, first.totals.requests], [2, true, 3]);
      const second = await usage({ group_by: 'day,model', limit: '2', after: first.last_id ?? '' });
      assert.deepEqual([second.data.length, second.has_more], [1, false]);
      assert.equal((await usage({ from: yesterday, to: yesterday })).totals.requests, 1);
      assert.equal((await usage({ key_id: '00keyAkeyAke' })).totals.requests, 1);
      assert.equal((await usage({ model: 'asked' })).totals.requests, 1);
      await assert.rejects(usage({ from: today, to: yesterday }), hasCode('invalid_request'));
      await assert.rejects(usage({ group_by: 'tenant' }), hasCode('invalid_request'));
      await assert.rejects(usage({ from: '2020-01-01', to: today }), hasCode('invalid_request'));
    });

    test('queries of a tenant walk an index of the months that they ask for, and no other', async () => {
      const crowd = Array.from({ length: 20 }, () => newTenantId());
      for (let index = 0; index < 4000; index += 1) {
        const owner = crowd[index % 20] ?? tenantId;
        await settle(
          { end_user: `user-${index % 200}`, outcome: index % 100 === 0 ? 'failed' : 'completed' },
          owner,
        );
      }
      await settlement.flush();
      const plan = async (query: RawBuilder<unknown>): Promise<string> => {
        const { rows } = await database.db.withTenant({ tenantId: crowd[3] ?? tenantId }, (tx) =>
          sql<{ 'QUERY PLAN': string }>`explain (costs off) ${query}`.execute(tx),
        );
        return rows.map((row) => row['QUERY PLAN']).join('\n');
      };
      const all = {
        fromId: null,
        beforeId: null,
        model: null,
        target: null,
        outcome: null,
        keyId: null,
        projectId: null,
      };
      const everything = { ...all, endUser: null };
      const fromId = lowestIdAt(Date.now() - 1000);

      const newest = await plan(recordsQuery({ ...everything, fromId }, 21));
      assert.match(newest, /Scan Backward using requests_m\d{6}_pkey/);
      assert.doesNotMatch(newest, /Seq Scan|Sort/);
      const one = await plan(recordQuery(newRequestId(), null));
      assert.equal(one.match(/Scan using requests_m\d{6}_pkey/g)?.length, 1);
      assert.match(
        await plan(recordsQuery({ ...all, endUser: 'user-3' }, 21)),
        /tenant_id_end_user_request_id_idx/,
      );
      const faults = await plan(recordsQuery({ ...everything, outcome: 'failed' }, 21));
      assert.match(faults, /tenant_id_outcome_request_id_idx/);
      const period = { fromId, beforeId: lowestIdAt(Date.now() + 60_000) };
      const narrow = { ...period, model: null, keyId: null, projectId: null, endUser: null, exceptIds: [] };
      const sums = await plan(sumQuery(['day', 'model'], narrow, 100));
      assert.match(sums, /usage_records_m\d{6}_pkey/);
      assert.doesNotMatch(sums, /Seq Scan/);
    });
  });
}
