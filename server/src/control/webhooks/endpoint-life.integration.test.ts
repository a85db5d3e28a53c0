import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import {
  createdApiKey,
  webhook,
  type WebhookDelivery,
  webhookDelivery,
  webhookWithSecret,
} from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { fromTypeId } from '#kernel';
import { errorIn, testedAdapters } from '#testing';
import { deliveriesQuery } from './deliveries.sql.ts';
import { openReceiver, openWebhooks, type OpenWebhooks, type Receiver, until } from './testing.ts';

/** What becomes of deliveries when their endpoint, or its tenant, changes under them. */
for (const adapter of testedAdapters()) {
  describe(`the life of a webhook on ${adapter}`, () => {
    let all: OpenWebhooks;
    let receiver: Receiver;
    before(async () => {
      all = await openWebhooks(adapter, { roundMs: 2_000, heldMs: 200 });
    });
    after(async () => {
      await all?.close();
    });
    beforeEach(async () => {
      receiver = await openReceiver();
    });
    afterEach(async () => {
      await receiver.close();
    });

    const call = (key: string, method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown) =>
      all.plane.open(method, path, { key, ...(body === undefined ? {} : { body }) });
    const create = async (key: string) => {
      const answer = await call(key, 'POST', '/v1/webhooks', {
        url: receiver.url,
        event_types: ['security.alerted.v1'],
      });
      assert.equal(answer.status, 201, answer.text);
      return webhookWithSecret.parse(answer.body);
    };
    const read = async (key: string, id: string) =>
      webhook.parse((await call(key, 'GET', `/v1/webhooks/${id}`)).body);
    const deliveriesOf = async (key: string, id: string): Promise<WebhookDelivery[]> => {
      const answer = await call(key, 'GET', `/v1/webhooks/${id}/deliveries`);
      return z.object({ data: z.array(webhookDelivery) }).parse(answer.body).data;
    };
    const countOf = (uuid: string, where: ReturnType<typeof sql>): Promise<number> =>
      all.database.db.withTenant({ tenantId: uuid }, async (tx) => {
        const { rows } = await sql<{
          count: bigint;
        }>`select count(*) as count from tenant.webhook_deliveries where ${where}`.execute(tx);
        return Number(rows[0]?.count ?? -1n);
      });
    /** Deliveries as an endpoint gathers that is away for long; due in an hour. */
    const pileUp = (uuid: string, id: string, count: number) =>
      all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`
          insert into tenant.webhook_deliveries
            (tenant_id, delivery_id, endpoint_id, event_id, event_type, payload, next_attempt_at)
          select ${uuid}::uuid, gen_random_uuid(), ${fromTypeId('whe', id)}::uuid, gen_random_uuid(), 'security.alerted.v1', '{}',
            now() + interval '1 hour'
          from generate_series(1, ${count}::integer)
        `.execute(tx),
      );
    const turn = async (id: string, state: 'active' | 'suspended') =>
      (await all.plane.admin('PATCH', `/control/v1/tenants/${id}`, { body: { state } })).status;
    const keepUp = async () => {
      const upkeep = all.webhooks.jobs.find(({ name }) => name === 'webhook-upkeep');
      await upkeep?.run({
        tenantId: null,
        data: {},
        signal: new AbortController().signal,
        progress: () => undefined,
        jobId: 'x',
        attempt: 1,
        traceparent: null,
      });
    };

    test('a busy endpoint with a retry to come leaves one job for it, however many rounds pass meanwhile', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      receiver.respond = (_message, response) => response.writeHead(503, { 'retry-after': '3600' }).end();
      await all.tell(uuid, 'fails');
      await until(async () => (await deliveriesOf(key, made.id))[0]?.attempts === 1, 'the failure');
      receiver.respond = (_message, response) => response.writeHead(204).end();
      const isPlanned = () =>
        all.database.db.withTenant({ tenantId: uuid }, async (tx) => {
          const { rows } = await sql`select 1 from tenant.webhook_endpoints where round_at > now()`.execute(
            tx,
          );
          return rows.length === 1;
        });
      for (let index = 0; index < 6; index += 1) {
        await until(isPlanned, 'the round to end');
        const before = receiver.received.length;
        await all.tell(uuid, `n${index}`);
        await until(() => receiver.received.length > before, 'the message');
      }
      await until(isPlanned, 'the last round to end');
      const waiting = await all.database.db.withSystem('jobs', async (tx) => {
        const { rows } = await sql<{ count: bigint }>`
          select count(*) as count from jobs.job_common
          where name = 'webhook-round' and group_id = ${uuid} and state < 'active'
        `.execute(tx);
        return Number(rows[0]?.count);
      });
      assert.equal(waiting, 1);
      await all.passTime(uuid);
      await until(
        async () => (await deliveriesOf(key, made.id)).every(({ state }) => state === 'delivered'),
        'the retry, by that one job',
      );
    });

    test('what the old address answers does not disable a webhook that has moved, nor count against it', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const old = receiver;
      let answerOld: (() => void) | undefined;
      old.respond = (_message, response) => {
        answerOld = () => response.writeHead(410).end();
      };
      await all.tell(uuid, 'x');
      await until(() => answerOld !== undefined, 'the message at the old address');
      const next = await openReceiver();
      try {
        assert.equal((await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { url: next.url })).status, 200);
        answerOld?.();
        await until(async () => (await deliveriesOf(key, made.id))[0]?.attempts === 1, 'the old answer');
        await all.tell(uuid, 'y');
        await until(() => next.received.length === 1, 'the message at the new address');
        const now = await read(key, made.id);
        assert.deepEqual([now.enabled, now.disabled_reason, now.failing_since], [true, null, null]);
      } finally {
        await next.close();
      }
    });

    test('a new address has the five days from its own first failure', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`update tenant.webhook_endpoints set failing_since = now() - interval '6 days'`.execute(tx),
      );
      receiver.respond = (_message, response) => response.writeHead(500).end();
      assert.equal(
        (await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { url: `${receiver.url}/new` })).status,
        200,
      );
      await all.tell(uuid, 'x');
      await until(async () => (await deliveriesOf(key, made.id))[0]?.attempts === 1, 'the failure');
      const now = await read(key, made.id);
      assert.equal(now.enabled, true);
      assert.ok(now.failing_since !== null && Date.now() - Date.parse(now.failing_since) < 60_000);
    });

    test('nothing is sent for a tenant that is suspended, and what waited is when it goes on', async () => {
      const { id, key, uuid } = await all.tenant();
      const made = await create(key);
      assert.equal(await turn(id, 'suspended'), 200);
      await all.tell(uuid, 'x');
      await until(async () => (await countOf(uuid, sql`state = 'waiting'`)) === 1, 'the delivery');
      await all.passTime(uuid);
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.equal(receiver.received.length, 0);
      assert.equal(await countOf(uuid, sql`attempts > 0 or state <> 'waiting'`), 0);
      assert.equal(await turn(id, 'active'), 200);
      await until(() => receiver.received.length === 1, 'the message');
      await until(async () => (await deliveriesOf(key, made.id))[0]?.state === 'delivered', 'its settlement');
    });

    test('a long backlog is given up in pieces, and enabling brings none of it back', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      await pileUp(uuid, made.id, 2_500);
      const off = await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: false });
      assert.equal(off.status, 200);
      assert.ok((await countOf(uuid, sql`state = 'waiting'`)) > 0, 'not all of it in the call');
      assert.equal((await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: true })).status, 200);
      await all.passTime(uuid);
      await all.tell(uuid, 'new');
      await until(async () => (await countOf(uuid, sql`state = 'waiting'`)) === 0, 'the rest to be given up');
      assert.equal(await countOf(uuid, sql`state = 'failed' and attempts = 0`), 2_500);
      assert.deepEqual(
        receiver.received.map(({ body }) => /"new"/.test(body)),
        [true],
      );
    });

    test('a backlog that nothing else looks at is given up by the upkeep', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      await pileUp(uuid, made.id, 1_200);
      await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: false });
      assert.equal(await countOf(uuid, sql`state = 'waiting'`), 200);
      await keepUp();
      await until(async () => (await countOf(uuid, sql`state = 'waiting'`)) === 0, 'the rest to be given up');
    });

    test('a webhook with many deliveries is gone at once for its tenant, and its rows with the upkeep', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const kept = await create(key);
      await pileUp(uuid, made.id, 1_500);
      const [one] = await deliveriesOf(key, made.id);
      assert.equal((await call(key, 'DELETE', `/v1/webhooks/${made.id}`)).status, 204);
      const path = `/v1/webhooks/${made.id}`;
      for (const [method, gone, body] of [
        ['GET', path],
        ['DELETE', path],
        ['PATCH', path, { enabled: true }],
        ['POST', `${path}/test`, {}],
        ['POST', `${path}/rotate-secret`, {}],
        ['GET', `${path}/deliveries`],
        ['GET', `${path}/deliveries/${one?.id ?? ''}`],
        ['POST', `${path}/deliveries/${one?.id ?? ''}/redeliver`, {}],
      ] as const)
        assert.equal((await call(key, method, gone, body)).status, 404, `${method} ${gone}`);
      const list = z.object({ data: z.array(webhook) });
      const left = list.parse((await call(key, 'GET', '/v1/webhooks')).body).data.map(({ id }) => id);
      assert.deepEqual(left, [kept.id]);
      await keepUp();
      assert.equal(await countOf(uuid, sql`true`), 0);
      const rows = await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`select 1 from tenant.webhook_endpoints`.execute(tx),
      );
      assert.equal(rows.rows.length, 1);
    });

    test('a replaced secret lies nowhere once its overlap is over, and is there until then', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const { db } = all.database;
      const isKept = () =>
        db.withTenant({ tenantId: uuid }, async (tx) => {
          const { rows } =
            await sql`select 1 from tenant.webhook_endpoints where previous_secret is not null`.execute(tx);
          return rows.length === 1;
        });
      const path = `/v1/webhooks/${made.id}/rotate-secret`;
      assert.equal((await call(key, 'POST', path, { overlap_seconds: 3600 })).status, 200);
      await keepUp();
      assert.equal(await isKept(), true);
      await db.withTenant({ tenantId: uuid }, (tx) =>
        sql`update tenant.webhook_endpoints set previous_until = now() - interval '1 second'`.execute(tx),
      );
      await keepUp();
      assert.equal(await isKept(), false);
      assert.equal((await read(key, made.id)).previous_secret_until, null);
    });

    test('what failed is found without a walk over what was delivered', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      await pileUp(uuid, made.id, 2_000);
      const endpointId = fromTypeId('whe', made.id) ?? '';
      const page = { after: null, limit: 20, state: 'failed', eventType: null };
      const { db } = all.database;
      await db.withTenant({ tenantId: uuid }, (tx) =>
        sql`
          update tenant.webhook_deliveries set state = 'delivered', delivered_at = now(), next_attempt_at = null
          where endpoint_id = ${endpointId}
        `.execute(tx),
      );
      const { rows } = await db.withTenant({ tenantId: uuid }, (tx) =>
        sql<{ 'QUERY PLAN': string }>`explain ${deliveriesQuery(uuid, endpointId, page)}`.execute(tx),
      );
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
      assert.ok(plan.includes('webhook_deliveries_failed') && !plan.includes('Seq Scan'), plan);
    });

    test('who may not read events decides nothing about where they go', async () => {
      const { key } = await all.tenant();
      const made = await create(key);
      const scoped = await call(key, 'POST', '/v1/keys', {
        name: 'blind',
        role: 'admin',
        scopes: ['webhooks:write'],
      });
      const blind = createdApiKey.parse(scoped.body).key;
      const refused = [
        await call(blind, 'POST', '/v1/webhooks', { url: receiver.url, event_types: ['*'] }),
        await call(blind, 'PATCH', `/v1/webhooks/${made.id}`, { url: 'https://203.0.114.7/other' }),
        await call(blind, 'PATCH', `/v1/webhooks/${made.id}`, { event_types: ['*'] }),
      ];
      for (const answer of refused) {
        assert.equal(answer.status, 403, answer.text);
        assert.match(answer.text, /events:read/);
      }
      const kept = await read(key, made.id);
      assert.deepEqual([kept.url, kept.event_types], [receiver.url, ['security.alerted.v1']]);
      const paused = await call(blind, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: false });
      assert.equal(paused.status, 200, paused.text);
    });

    test('at most fifty webhooks also where many are made at once', async () => {
      const { key } = await all.tenant();
      for (let index = 0; index < 47; index += 1) await create(key);
      const body = { url: receiver.url, event_types: ['*'] };
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => call(key, 'POST', '/v1/webhooks', body)),
      );
      assert.equal(answers.filter(({ status }) => status === 201).length, 3);
      for (const answer of answers.filter(({ status }) => status !== 201))
        assert.equal(errorIn(answer).code, 'conflict');
    });
  });
}
