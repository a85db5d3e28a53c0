import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type WebhookDelivery, webhookDelivery, webhookWithSecret } from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { partitionOf } from '#events';
import { testedAdapters } from '#testing';
import { createSubscriptions } from './subscriptions.ts';
import { openReceiver, openWebhooks, type OpenWebhooks, type Receiver, until } from './testing.ts';

/** What is told at once after a webhook came to want it, in another process than the one that consumes events. */
for (const adapter of testedAdapters()) {
  describe(`the moment in which a webhook begins to want events, on ${adapter}`, () => {
    let all: OpenWebhooks;
    let receiver: Receiver;
    before(async () => {
      receiver = await openReceiver();
      all = await openWebhooks(adapter, { roundMs: 2_000 }, true);
    });
    after(async () => {
      await all?.close();
      await receiver?.close();
    });

    const call = (key: string, method: 'GET' | 'POST' | 'PATCH', path: string, body?: unknown) =>
      all.plane.open(method, path, { key, ...(body === undefined ? {} : { body }) });
    const create = async (key: string, fields: Record<string, unknown> = {}) => {
      const answer = await call(key, 'POST', '/v1/webhooks', {
        url: receiver.url,
        event_types: ['*'],
        ...fields,
      });
      assert.equal(answer.status, 201, answer.text);
      return webhookWithSecret.parse(answer.body).id;
    };
    const change = async (key: string, id: string, fields: Record<string, unknown>) => {
      const answer = await call(key, 'PATCH', `/v1/webhooks/${id}`, fields);
      assert.equal(answer.status, 200, answer.text);
    };
    const deliveriesOf = async (key: string, id: string): Promise<WebhookDelivery[]> => {
      const answer = await call(key, 'GET', `/v1/webhooks/${id}/deliveries?limit=100`);
      assert.equal(answer.status, 200, answer.text);
      return z.object({ data: z.array(webhookDelivery) }).parse(answer.body).data;
    };
    /** Waits until the consumer is past an event, whatever it did with it. */
    const passed = (uuid: string, eventId: string): Promise<void> =>
      until(
        () =>
          all.database.db.withSystem('event-dispatch', async (tx) => {
            const { rows } = await sql<{ key: string; xid: string; seq: bigint }>`
              select key, xid::text as xid, seq from tenant.events where tenant_id = ${uuid} and event_id = ${eventId}
            `.execute(tx);
            const [event] = rows;
            assert.ok(event);
            const places = await sql`
              select 1 from platform.event_places
              where consumer = 'webhooks.fan-out' and partition = ${partitionOf(uuid, event.key)}
                and (xid, seq) >= (${event.xid}::xid8, ${event.seq}::bigint)
            `.execute(tx);
            return places.rows.length === 1;
          }),
        'the consumer to be past the event',
      );
    const isInInbox = (uuid: string, eventId: string): Promise<boolean> =>
      all.database.db.withTenant({ tenantId: uuid }, async (tx) => {
        const { rows } = await sql`
          select 1 from tenant.event_inbox where consumer = 'webhooks.fan-out' and event_id = ${eventId}
        `.execute(tx);
        return rows.length === 1;
      });
    /** A tenant of which the consumer has just learnt that nobody wants its requests. */
    const unwanted = async () => {
      const made = await all.tenant();
      const eventId = await all.tellRequest(made.uuid);
      await passed(made.uuid, eventId);
      assert.equal(await isInInbox(made.uuid, eventId), false, 'what nobody wants is not written down');
      return made;
    };
    const arrive = async (key: string, uuid: string, id: string) => {
      const told = [await all.tellRequest(uuid), await all.tell(uuid, 'at once')];
      for (const eventId of told) await passed(uuid, eventId);
      const types = (await deliveriesOf(key, id)).map(({ event_type: type }) => type);
      for (const type of ['request.completed.v1', 'security.alerted.v1'])
        assert.ok(types.includes(type), `${type}, in ${types.join()}`);
    };

    test('a new webhook gets what is told at once after it was made', async () => {
      const { key, uuid } = await unwanted();
      await arrive(key, uuid, await create(key));
    });

    test('a webhook gets a type that it was given by a change at once', async () => {
      const { key, uuid } = await unwanted();
      const id = await create(key, { event_types: ['run.changed.v1'] });
      await passed(uuid, await all.tellRequest(uuid));
      await change(key, id, { event_types: ['request.completed.v1', 'security.alerted.v1'] });
      await arrive(key, uuid, id);
    });

    test('a webhook that is enabled again gets what is told at once after', async () => {
      const { key, uuid } = await unwanted();
      const id = await create(key, { enabled: false });
      await passed(uuid, await all.tellRequest(uuid));
      await change(key, id, { enabled: true });
      await arrive(key, uuid, id);
    });

    test('who asks while the rows are read shares the next reading, which has what was made meanwhile', async () => {
      const { key, uuid } = await all.tenant();
      const { db } = all.database;
      let readings = 0;
      const begun = Promise.withResolvers<void>();
      const goOn = Promise.withResolvers<void>();
      const ask = createSubscriptions({
        async withSystem(job, work) {
          readings += 1;
          const answer = await db.withSystem(job, work);
          begun.resolve();
          await goOn.promise;
          return answer;
        },
      });
      const first = ask([uuid]);
      await begun.promise;
      await create(key, { event_types: ['run.changed.v1'] });
      const later = [ask([uuid]), ask([])];
      goOn.resolve();
      assert.equal((await first).wants(uuid, 'run.changed.v1'), false);
      for (const subscribed of await Promise.all(later)) {
        assert.equal(subscribed.wants(uuid, 'run.changed.v1'), true);
        assert.equal(subscribed.wants(uuid, 'invoice.changed.v1'), false);
      }
      assert.equal(readings, 2);
    });

    test('a change of another kind right after a webhook was made is sent, each of ten times', async () => {
      for (let turn = 0; turn < 10; turn += 1) {
        const { key } = await all.tenant();
        const id = await create(key);
        const made = await call(key, 'POST', '/v1/keys', { name: 'more', role: 'developer' });
        assert.equal(made.status, 201, made.text);
        // The webhook's own change and the key's.
        await until(async () => (await deliveriesOf(key, id)).length >= 2, `both events of turn ${turn}`);
      }
    });
  });
}
