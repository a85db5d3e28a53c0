import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type WebhookDelivery, webhookDelivery, webhookWithSecret } from '@stoa/contracts';
import { sql } from 'kysely';
import { z } from 'zod';
import { partitionOf } from '#events';
import { testedAdapters } from '#testing';
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
    /** Not asked of requests, which are told once: those go by memory (subscriptions.ts). */
    const arrives = async (key: string, uuid: string, id: string) => {
      const alert = await all.tell(uuid, 'at once');
      await passed(uuid, alert);
      const types = (await deliveriesOf(key, id)).map(({ event_type: type }) => type);
      assert.ok(types.includes('security.alerted.v1'), `an alert, in ${types.join()}`);
    };

    test('a new webhook gets what is told at once after it was made', async () => {
      const { key, uuid } = await unwanted();
      await arrives(key, uuid, await create(key));
    });

    test('a webhook gets a type that it was given by a change at once', async () => {
      const { key, uuid } = await unwanted();
      const id = await create(key, { event_types: ['run.changed.v1'] });
      await passed(uuid, await all.tellRequest(uuid));
      await change(key, id, { event_types: ['request.completed.v1', 'security.alerted.v1'] });
      await arrives(key, uuid, id);
    });

    test('a webhook that is enabled again gets what is told at once after', async () => {
      const { key, uuid } = await unwanted();
      const id = await create(key, { enabled: false });
      await passed(uuid, await all.tellRequest(uuid));
      await change(key, id, { enabled: true });
      await arrives(key, uuid, id);
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
