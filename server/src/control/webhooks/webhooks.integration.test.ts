import assert from 'node:assert/strict';
import { createHmac, createPublicKey, verify } from 'node:crypto';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { sql } from 'kysely';
import { z } from 'zod';
import { asTenantId, fromTypeId, newUuid, toTypeId } from '#kernel';
import { type Answer, errorIn, testedAdapters } from '#testing';
import {
  webhook,
  type WebhookDelivery,
  webhookDelivery,
  webhookDeliveryInFull,
  webhookRetryDelaysMs,
  webhookWithSecret,
} from '@stoa/contracts';
import {
  openReceiver,
  openWebhooks,
  type OpenWebhooks,
  type Received,
  type Receiver,
  until,
} from './testing.ts';

const message = z.object({
  id: z.string(),
  type: z.string(),
  timestamp: z.iso.datetime(),
  data: z.looseObject({ summary: z.string().optional() }),
});

function hmacOf(secret: string, { headers, body }: Received): string {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const content = `${headers['webhook-id'] ?? ''}.${headers['webhook-timestamp'] ?? ''}.${body}`;
  return `v1,${createHmac('sha256', key).update(content).digest('base64')}`;
}

function isSignedBy(publicKey: string, { headers, body }: Received): boolean {
  const raw = Buffer.from(publicKey.replace('whpk_', ''), 'base64');
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const content = `${headers['webhook-id'] ?? ''}.${headers['webhook-timestamp'] ?? ''}.${body}`;
  const [version, signature = ''] = headers['webhook-signature']?.split(',') ?? [];
  return version === 'v1a' && verify(null, Buffer.from(content), key, Buffer.from(signature, 'base64'));
}

for (const adapter of testedAdapters()) {
  describe(`webhooks on ${adapter}`, () => {
    let all: OpenWebhooks;
    let receiver: Receiver;
    before(async () => {
      all = await openWebhooks(adapter, { roundMs: 2_000 });
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
    const create = async (key: string, fields: Record<string, unknown> = {}) => {
      const answer = await call(key, 'POST', '/v1/webhooks', {
        url: receiver.url,
        event_types: ['security.alerted.v1'],
        ...fields,
      });
      assert.equal(answer.status, 201, answer.text);
      return webhookWithSecret.parse(answer.body);
    };
    const deliveriesOf = async (key: string, id: string, query = ''): Promise<WebhookDelivery[]> => {
      const answer = await call(key, 'GET', `/v1/webhooks/${id}/deliveries${query}`);
      assert.equal(answer.status, 200, answer.text);
      return z.object({ data: z.array(webhookDelivery) }).parse(answer.body).data;
    };
    const settled = async (key: string, id: string, attempts: number): Promise<WebhookDelivery> => {
      let found: WebhookDelivery | undefined;
      await until(async () => {
        [found] = await deliveriesOf(key, id);
        return found !== undefined && found.attempts >= attempts;
      }, `${attempts} attempts`);
      assert.ok(found);
      return found;
    };
    const read = async (key: string, id: string) =>
      webhook.parse((await call(key, 'GET', `/v1/webhooks/${id}`)).body);

    test('an event reaches the endpoint, signed, with the id of the event, and nothing of its insides', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      assert.match(made.secret ?? '', /^whsec_[A-Za-z0-9+/]{43}=$/);
      const eventId = await all.tell(uuid, 'Ünïcode ✓');
      await until(() => receiver.received.length === 1, 'the message');
      const [got] = receiver.received;
      assert.ok(got);
      assert.equal(got.headers['webhook-id'], toTypeId('evt', eventId));
      assert.equal(got.headers['webhook-signature'], hmacOf(made.secret ?? '', got));
      assert.ok(Math.abs(Number(got.headers['webhook-timestamp']) - Date.now() / 1000) < 60);
      const body = message.parse(JSON.parse(got.body));
      assert.equal(body.type, 'security.alerted.v1');
      assert.equal(body.data.summary, 'Ünïcode ✓');
      assert.equal(got.body.includes(uuid), false);
      const delivery = await settled(key, made.id, 1);
      assert.deepEqual(
        [delivery.state, delivery.attempts, delivery.last_attempt?.status, delivery.next_attempt_at],
        ['delivered', 1, 204, null],
      );
    });

    test('v1a is signed with a key whose public half the tenant can read, and its secret is never shown', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key, { signature: 'v1a' });
      assert.equal(made.secret, null);
      await all.tell(uuid, 'x');
      await until(() => receiver.received.length === 1, 'the message');
      const [got] = receiver.received;
      assert.ok(got && isSignedBy(made.public_key ?? '', got));
    });

    test('the secret is shown once, and lies sealed in the database', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const secret = made.secret ?? '';
      const reads = await Promise.all([
        call(key, 'GET', `/v1/webhooks/${made.id}`),
        call(key, 'GET', '/v1/webhooks'),
        call(key, 'PATCH', `/v1/webhooks/${made.id}`, { description: 'd' }),
      ]);
      for (const answer of reads) assert.equal(answer.text.includes(secret.slice(6)), false);
      const rows = await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql<{ row: string }>`select w::text as row from tenant.webhook_endpoints w`.execute(tx),
      );
      for (const { row } of rows.rows) assert.equal(row.includes(secret.slice(6, 30)), false);
    });

    test('after a rotation both secrets sign for the overlap, and the new one alone without', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const rotate = async (overlap: number) =>
        webhookWithSecret.parse(
          (await call(key, 'POST', `/v1/webhooks/${made.id}/rotate-secret`, { overlap_seconds: overlap }))
            .body,
        );
      const second = await rotate(600);
      assert.notEqual(second.secret, made.secret);
      await all.tell(uuid, 'one');
      await until(() => receiver.received.length === 1, 'the message');
      const [first] = receiver.received;
      assert.ok(first);
      assert.equal(
        first.headers['webhook-signature'],
        `${hmacOf(second.secret ?? '', first)} ${hmacOf(made.secret ?? '', first)}`,
      );
      const third = await rotate(0);
      assert.equal(third.previous_secret_until, null);
      await all.tell(uuid, 'two');
      await until(() => receiver.received.length === 2, 'the message');
      const got = receiver.received[1];
      assert.ok(got);
      assert.equal(got.headers['webhook-signature'], hmacOf(third.secret ?? '', got));
    });

    test('only types that are subscribed are sent, and nothing while it is disabled', async () => {
      const { key, uuid } = await all.tenant();
      const other = await create(key, { event_types: ['run.changed.v1'] });
      const everything = await create(key, { event_types: ['*'] });
      const off = await create(key, { enabled: false });
      await all.tell(uuid, 'x');
      await until(
        async () => (await deliveriesOf(key, everything.id, '?event_type=security.alerted.v1')).length === 1,
        'it',
      );
      assert.deepEqual(await deliveriesOf(key, other.id), []);
      assert.deepEqual(await deliveriesOf(key, off.id), []);
    });

    test('a request of a tenant that does not subscribe leaves no trace here; of one that does it is sent', async () => {
      const [idle, keen] = [await all.tenant('Idle'), await all.tenant('Keen')];
      await create(idle.key, { event_types: ['run.changed.v1'] });
      const made = await create(keen.key, { event_types: ['request.completed.v1'] });
      const ids = [await all.tellRequest(idle.uuid), await all.tellRequest(keen.uuid)];
      await until(() => receiver.received.length === 1, 'the message');
      const delivery = await settled(keen.key, made.id, 1);
      assert.equal(delivery.event_id, toTypeId('evt', ids[1] ?? ''));
      // A later event of the idle tenant has been through, so the request was passed over by then.
      const later = await all.tell(idle.uuid, 'later');
      const inboxOf = async (uuid: string) =>
        (
          await all.database.db.withSystem('event-dispatch', (tx) =>
            sql<{ event_id: string }>`
              select event_id from tenant.event_inbox where tenant_id = ${uuid}
            `.execute(tx),
          )
        ).rows.map((row) => row.event_id);
      await until(async () => (await inboxOf(idle.uuid)).includes(later), 'the later event');
      assert.equal((await inboxOf(idle.uuid)).includes(ids[0] ?? ''), false);
      assert.equal((await inboxOf(keen.uuid)).includes(ids[1] ?? ''), true);
    });

    test('a failed attempt is made again by the schedule, under the same id, until it is given up', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(500).end('broken');
      const made = await create(key);
      await all.tell(uuid, 'x');
      for (let attempts = 1; attempts <= 10; attempts += 1) {
        const delivery = await settled(key, made.id, attempts);
        assert.equal(delivery.attempts, attempts);
        assert.equal(delivery.last_attempt?.status, 500);
        assert.equal(delivery.last_attempt?.response_excerpt, 'broken');
        const delayMs = webhookRetryDelaysMs[attempts - 1];
        if (delayMs === undefined) {
          assert.deepEqual([delivery.state, delivery.next_attempt_at], ['failed', null]);
          break;
        }
        const waitMs =
          new Date(delivery.next_attempt_at ?? '').getTime() -
          new Date(delivery.last_attempt?.started_at ?? '').getTime();
        assert.ok(waitMs >= delayMs && waitMs < delayMs * 1.06 + 5_000, `${attempts}: ${waitMs}`);
        await all.passTime(uuid);
      }
      assert.equal(receiver.received.length, 10);
      assert.equal(new Set(receiver.received.map((one) => one.headers['webhook-id'])).size, 1);
      const [first] = await deliveriesOf(key, made.id);
      const full = webhookDeliveryInFull.parse(
        (await call(key, 'GET', `/v1/webhooks/${made.id}/deliveries/${first?.id ?? ''}`)).body,
      );
      assert.equal(full.attempt_log.length, 10);
      assert.equal(full.payload, receiver.received[0]?.body);
      assert.notEqual((await read(key, made.id)).failing_since, null);
    });

    test('a delivery is made again on demand, and begins the schedule anew', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      await all.tell(uuid, 'x');
      const { id } = await settled(key, made.id, 1);
      receiver.respond = (_message, response) => response.writeHead(503, { 'retry-after': '120' }).end();
      const again = await call(key, 'POST', `/v1/webhooks/${made.id}/deliveries/${id}/redeliver`, {});
      assert.equal(again.status, 202, again.text);
      const failed = await settled(key, made.id, 2);
      assert.equal(failed.state, 'waiting');
      const waitMs = new Date(failed.next_attempt_at ?? '').getTime() - Date.now();
      assert.ok(waitMs > 100_000 && waitMs < 125_000, `Retry-After is kept: ${waitMs}`);
      assert.equal(receiver.received[0]?.headers['webhook-id'], receiver.received[1]?.headers['webhook-id']);
    });

    test('410 disables the endpoint for good, tells of it, and gives up what waits', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(410).end();
      const made = await create(key);
      await all.tell(uuid, 'x');
      await until(async () => !(await read(key, made.id)).enabled, 'it to be disabled');
      assert.equal((await read(key, made.id)).disabled_reason, 'gone');
      await all.tell(uuid, 'y');
      const told = await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql<{ data: string }>`
          select data from tenant.events where type = 'control.changed.v1' and key like 'webhook:%'
          order by keyversion desc limit 1
        `.execute(tx),
      );
      assert.match(told.rows[0]?.data ?? '', /"suspended".*"system"/);
      const again = await call(key, 'POST', `/v1/webhooks/${made.id}/test`, {});
      assert.equal(errorIn(again).code, 'conflict');
      const on = await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: true });
      assert.deepEqual([webhook.parse(on.body).enabled, webhook.parse(on.body).failing_since], [true, null]);
      assert.equal(receiver.received.length, 1);
    });

    test('an endpoint that has failed for days is disabled', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(500).end();
      const made = await create(key);
      await all.tell(uuid, 'x');
      await settled(key, made.id, 1);
      await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`update tenant.webhook_endpoints set failing_since = now() - interval '5 days 1 second'`.execute(
          tx,
        ),
      );
      await all.passTime(uuid);
      await until(async () => (await read(key, made.id)).disabled_reason === 'failing', 'it to be disabled');
    });

    test('a test message is tried once, and its answer is in the log, capped and storable', async () => {
      const { key } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(400).end(`\u0000${'é'.repeat(5_000)}`);
      const made = await create(key);
      const answer = await call(key, 'POST', `/v1/webhooks/${made.id}/test`, {});
      assert.equal(answer.status, 202, answer.text);
      const delivery = await settled(key, made.id, 1);
      assert.deepEqual([delivery.state, delivery.event_type], ['failed', 'webhook.test.v1']);
      const excerpt = delivery.last_attempt?.response_excerpt ?? '';
      assert.ok(excerpt.length > 500 && excerpt.length <= 1024 && !excerpt.includes('\u0000'));
    });

    test('a redirect is not followed, and counts as a failure', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(302, { location: '/elsewhere' }).end();
      const made = await create(key);
      await all.tell(uuid, 'x');
      const delivery = await settled(key, made.id, 1);
      assert.deepEqual([delivery.state, delivery.last_attempt?.status], ['waiting', 302]);
      assert.equal(receiver.received.length, 1);
    });

    test('a URL that is not called is refused where it is given', async () => {
      const { key } = await all.tenant();
      const made = await create(key);
      for (const url of [
        'https://10.0.0.1/',
        'http://169.254.169.254/',
        'https://localhost/',
        'ftp://a.example.com/',
        'x',
        'https://u:p@example.com/',
        `https://example.com/${'x'.repeat(3000)}`,
        '',
      ]) {
        const created = errorIn(await call(key, 'POST', '/v1/webhooks', { url, event_types: ['*'] }));
        assert.deepEqual([created.status, created.code, created.param], [400, 'invalid_request', 'url'], url);
        const changed = errorIn(await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { url }));
        assert.deepEqual([changed.status, changed.param], [400, 'url'], url);
      }
    });

    test('wrong bodies are refused with the field', async () => {
      const { key } = await all.tenant();
      const made = await create(key);
      const wrong: readonly (readonly [unknown, string | null])[] = [
        [{ event_types: ['*'] }, 'url'],
        [{ url: receiver.url, event_types: [] }, 'event_types'],
        [{ url: receiver.url, event_types: ['no.such.v1'] }, 'event_types[0]'],
        [{ url: receiver.url, event_types: ['*', '*'] }, 'event_types'],
        [{ url: receiver.url, event_types: ['*'], secret: 'x' }, null],
        [{ url: receiver.url, event_types: ['*'], description: 'x'.repeat(501) }, 'description'],
        [{ url: receiver.url, event_types: ['*'], signature: 'v2' }, 'signature'],
        [{ url: receiver.url, event_types: ['*'], enabled: 'yes' }, 'enabled'],
        [[], null],
        ['x', null],
        [null, null],
      ];
      for (const [body, param] of wrong) {
        const error = errorIn(await call(key, 'POST', '/v1/webhooks', body));
        assert.equal(error.status, 400, JSON.stringify(body));
        if (param !== null) assert.equal(error.param, param, JSON.stringify(body));
      }
      assert.equal(errorIn(await call(key, 'PATCH', `/v1/webhooks/${made.id}`, {})).status, 400);
      for (const id of ['whe_x', 'ten_01jz4x5t2sfkb8m6q0v9c3d7ea'])
        assert.equal(errorIn(await call(key, 'GET', `/v1/webhooks/${id}`)).status, 400);
    });

    test('another tenant’s webhooks and deliveries are not found, and its events are not sent', async () => {
      const mine = await all.tenant('Mine');
      const theirs = await all.tenant('Theirs');
      const made = await create(mine.key, { event_types: ['*'] });
      await all.tell(theirs.uuid, 'theirs');
      await all.tell(mine.uuid, 'mine');
      await until(() => receiver.received.some(({ body }) => body.includes('"mine"')), 'the message');
      assert.equal(
        receiver.received.some(({ body }) => body.includes('"theirs"')),
        false,
      );
      const [delivery] = await deliveriesOf(mine.key, made.id);
      const path = `/v1/webhooks/${made.id}`;
      const answers: Answer[] = await Promise.all([
        call(theirs.key, 'GET', path),
        call(theirs.key, 'PATCH', path, { enabled: false }),
        call(theirs.key, 'DELETE', path),
        call(theirs.key, 'POST', `${path}/rotate-secret`, {}),
        call(theirs.key, 'POST', `${path}/test`, {}),
        call(theirs.key, 'GET', `${path}/deliveries`),
        call(theirs.key, 'GET', `${path}/deliveries/${delivery?.id ?? ''}`),
        call(theirs.key, 'POST', `${path}/deliveries/${delivery?.id ?? ''}/redeliver`, {}),
      ]);
      for (const answer of answers) assert.equal(errorIn(answer).code, 'not_found');
      const list = z
        .object({ data: z.array(z.unknown()) })
        .parse((await call(theirs.key, 'GET', '/v1/webhooks')).body);
      assert.deepEqual(list.data, []);
    });

    test('a developer reads and does not write, a viewer does neither', async () => {
      const { id, key } = await all.tenant();
      const made = await create(key);
      for (const [role, canRead] of [
        ['developer', true],
        ['viewer', false],
      ] as const) {
        const answer = await all.plane.admin('POST', `/control/v1/tenants/${id}/keys`, {
          body: { name: role, role },
        });
        const own = z.object({ key: z.string() }).parse(answer.body).key;
        assert.equal((await call(own, 'GET', `/v1/webhooks/${made.id}`)).status, canRead ? 200 : 403);
        assert.equal((await call(own, 'DELETE', `/v1/webhooks/${made.id}`)).status, 403);
      }
    });

    test('lists are in pages, newest first; a deleted webhook is gone with its deliveries', async () => {
      const { key, uuid } = await all.tenant();
      const first = await create(key);
      const second = await create(key, { event_types: ['run.changed.v1'] });
      const page = z.object({ data: z.array(webhook), has_more: z.boolean(), last_id: z.string() });
      const one = page.parse((await call(key, 'GET', '/v1/webhooks?limit=1')).body);
      assert.deepEqual([one.data[0]?.id, one.has_more], [second.id, true]);
      const two = page.parse((await call(key, 'GET', `/v1/webhooks?limit=1&after=${one.last_id}`)).body);
      assert.deepEqual([two.data[0]?.id, two.has_more], [first.id, false]);
      for (const summary of ['a', 'b', 'c']) await all.tell(uuid, summary);
      await until(
        async () => (await deliveriesOf(key, first.id, '?state=delivered')).length === 3,
        'three deliveries',
      );
      const [newest, middle] = await deliveriesOf(key, first.id, '?limit=2');
      const rest = await deliveriesOf(key, first.id, `?after=${middle?.id ?? ''}`);
      assert.equal(rest.length, 1);
      assert.ok((newest?.id ?? '') > (middle?.id ?? ''));
      const deleted = await call(key, 'DELETE', `/v1/webhooks/${first.id}`);
      assert.equal(deleted.status, 204);
      assert.equal((await call(key, 'DELETE', `/v1/webhooks/${first.id}`)).status, 404);
      const left = await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`select 1 from tenant.webhook_deliveries where endpoint_id = ${fromTypeId('whe', first.id)}`.execute(
          tx,
        ),
      );
      assert.equal(left.rows.length, 0);
    });

    test('a version that has moved on is a conflict, and a repeated creation is one webhook', async () => {
      const { key } = await all.tenant();
      const made = await create(key);
      const headers = { 'if-match': '"1"' };
      const change = (body: unknown) =>
        all.plane.open('PATCH', `/v1/webhooks/${made.id}`, { key, body, headers });
      assert.equal((await change({ description: 'a' })).status, 200);
      assert.equal(errorIn(await change({ description: 'b' })).code, 'version_conflict');
      const body = { url: receiver.url, event_types: ['*'] };
      const send = () =>
        all.plane.open('POST', '/v1/webhooks', { key, body, headers: { 'idempotency-key': 'once' } });
      const [one, two] = [await send(), await send()];
      assert.deepEqual([one.status, one.text], [201, two.text]);
    });

    test('at most fifty webhooks, told as a conflict', async () => {
      const { key } = await all.tenant();
      for (let index = 0; index < 50; index += 1) await create(key, { enabled: false });
      const answer = await call(key, 'POST', '/v1/webhooks', { url: receiver.url, event_types: ['*'] });
      assert.equal(errorIn(answer).code, 'conflict');
    });

    test('disabling gives up what waits, and enabling does not bring it back', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(500).end();
      const made = await create(key);
      await all.tell(uuid, 'x');
      await settled(key, made.id, 1);
      await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: false });
      const [failed] = await deliveriesOf(key, made.id);
      assert.deepEqual([failed?.state, failed?.next_attempt_at], ['failed', null]);
      await call(key, 'PATCH', `/v1/webhooks/${made.id}`, { enabled: true });
      receiver.respond = (_message, response) => response.writeHead(200).end();
      await all.passTime(uuid);
      await all.tell(uuid, 'y');
      await until(() => receiver.received.length === 2, 'the second message');
      assert.match(receiver.received[1]?.body ?? '', /"y"/);
    });

    test('nothing of a deleted tenant is sent', async () => {
      const { id, key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(500).end();
      const made = await create(key);
      await all.tell(uuid, 'before');
      await settled(key, made.id, 1);
      assert.equal((await all.plane.admin('DELETE', `/control/v1/tenants/${id}`)).status, 200);
      await all.tell(uuid, 'after');
      await all.passTime(uuid);
      const states = async () =>
        (
          await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
            sql<{ state: string }>`select state from tenant.webhook_deliveries`.execute(tx),
          )
        ).rows.map(({ state }) => state);
      await until(async () => (await states()).every((state) => state === 'failed'), 'it to be given up');
      assert.equal(receiver.received.length, 1);
    });

    test('a delivery whose round was lost is found by the upkeep, and what is old is deleted', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key, { event_types: ['*'] });
      await all.tell(uuid, 'x');
      await until(
        async () => (await deliveriesOf(key, made.id, '?state=delivered')).length === 2,
        'both events',
      );
      const before = receiver.received.length;
      const [first, second] = await deliveriesOf(key, made.id);
      const { db } = all.database;
      await db.withTenant({ tenantId: uuid }, async (tx) => {
        // As a process leaves it that was killed with a message on its way, and whose job was lost too.
        await sql`
          update tenant.webhook_deliveries
          set state = 'waiting', delivered_at = null, next_attempt_at = now() - interval '15 minutes'
          where delivery_id = ${fromTypeId('whd', first?.id ?? '')}
        `.execute(tx);
        await sql`
          update tenant.webhook_deliveries set created_at = now() - interval '31 days'
          where delivery_id = ${fromTypeId('whd', second?.id ?? '')}
        `.execute(tx);
        await sql`
          update tenant.webhook_endpoints
          set round_at = now() - interval '16 minutes', round_token = gen_random_uuid()
        `.execute(tx);
      });
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
      await until(() => receiver.received.length === before + 1, 'the lost message');
      const left = await deliveriesOf(key, made.id);
      assert.deepEqual(
        left.map(({ id }) => id),
        [first?.id],
      );
    });

    test('a job that has been overtaken sends nothing', async () => {
      const { key, uuid } = await all.tenant();
      receiver.respond = (_message, response) => response.writeHead(500).end();
      const made = await create(key);
      await all.tell(uuid, 'x');
      await settled(key, made.id, 1);
      await all.database.db.withTenant({ tenantId: uuid }, (tx) =>
        sql`update tenant.webhook_deliveries set next_attempt_at = now()`.execute(tx),
      );
      const round = all.webhooks.jobs.find(({ name }) => name === 'webhook-round');
      await round?.run({
        tenantId: asTenantId(uuid),
        data: { endpoint_id: fromTypeId('whe', made.id), token: newUuid() },
        signal: new AbortController().signal,
        progress: () => undefined,
        jobId: 'x',
        attempt: 1,
        traceparent: null,
      });
      assert.equal(receiver.received.length, 1);
    });

    test('endpoints that hang hold up no other', async () => {
      const slow = await openReceiver();
      slow.respond = () => undefined;
      const stuck = await all.tenant('Stuck');
      for (let index = 0; index < 20; index += 1) await create(stuck.key, { url: `${slow.url}?${index}` });
      for (let index = 0; index < 5; index += 1) await all.tell(stuck.uuid, `s${index}`);
      await until(() => slow.received.length >= 8, 'messages that hang');
      const { key, uuid } = await all.tenant('Quick');
      await create(key);
      const startedMs = performance.now();
      await all.tell(uuid, 'x');
      await until(() => receiver.received.length === 1, 'the message');
      const tookMs = performance.now() - startedMs;
      assert.ok(tookMs < 5_000, `${Math.round(tookMs)} ms`);
      for (const { id } of z
        .object({ data: z.array(webhook) })
        .parse((await call(stuck.key, 'GET', '/v1/webhooks?limit=100')).body).data)
        await call(stuck.key, 'DELETE', `/v1/webhooks/${id}`);
      await slow.close();
    });

    test('many events are all delivered once each, over a busy endpoint', async () => {
      const { key, uuid } = await all.tenant();
      const made = await create(key);
      const count = 120;
      await Promise.all(Array.from({ length: count }, (_, index) => all.tell(uuid, `n${index}`)));
      await until(() => receiver.received.length >= count, 'all messages', 30_000);
      await until(
        async () => (await deliveriesOf(key, made.id, '?state=waiting')).length === 0,
        'all settled',
      );
      assert.equal(receiver.received.length, count);
      assert.equal(new Set(receiver.received.map((one) => one.headers['webhook-id'])).size, count);
    });
  });
}
