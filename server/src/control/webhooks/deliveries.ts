import { type WebhookDelivery, type WebhookDeliveryInFull, webhookTestType } from '@stoa/contracts';
import type { Database, TenantHandle } from '#db';
import type { Job, JobsApi } from '#jobs';
import { AppError, type Clock, newUuid, type Page, pageOf, type TenantActing, toTypeId } from '#kernel';
import { beginAnew, insertTestDelivery, selectDeliveries, selectDelivery } from './deliveries.sql.ts';
import type { RoundData } from './jobs.ts';
import {
  deliveryIdOf,
  deliveryInFull,
  deliveryObject,
  endpointIdOf,
  noSuchPlace,
  placeOf,
  unknownDelivery,
  unknownWebhook,
} from './objects.ts';
import { messageBody } from './public-events.ts';
import { planWith } from './rounds.ts';
import { type EndpointRow, lockEndpoint, selectEndpoint } from './webhooks.sql.ts';

export interface DeliveryStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly jobs: () => JobsApi;
  readonly round: Job<RoundData>;
}

type Answering<Answer> = (tx: TenantHandle, delivery: WebhookDelivery) => Promise<Answer>;

/** Errors: `not_found` also for what is another tenant's; `conflict` where the webhook is disabled. */
export interface DeliveryStore {
  list(
    by: TenantActing,
    id: string,
    query: {
      readonly after?: string | undefined;
      readonly limit: number;
      readonly state?: string | undefined;
      readonly event_type?: string | undefined;
    },
  ): Promise<Page<WebhookDelivery>>;
  read(by: TenantActing, id: string, deliveryId: string): Promise<WebhookDeliveryInFull>;
  test<Answer>(by: TenantActing, id: string, answer: Answering<Answer>): Promise<Answer>;
  redeliver<Answer>(
    by: TenantActing,
    id: string,
    deliveryId: string,
    answer: Answering<Answer>,
  ): Promise<Answer>;
}

export function createDeliveryStore(deps: DeliveryStoreDeps): DeliveryStore {
  const { db } = deps;
  return {
    async list(by, id, { after, limit, state = null, event_type: eventType = null }) {
      const endpointId = endpointIdOf(id);
      const cursor = after === undefined ? null : placeOf('whd', after);
      const rows = await db.withTenant(by, async (tx) => {
        if ((await selectEndpoint(tx, by.tenantId, endpointId)) === undefined) unknownWebhook();
        return selectDeliveries(tx, by.tenantId, endpointId, { after: cursor, limit, state, eventType });
      });
      if (rows !== null) return pageOf(rows.map(deliveryObject), limit, (delivery) => delivery.id);
      return noSuchPlace('whd');
    },

    async read(by, id, deliveryId) {
      const row = await db.withTenant(by, async (tx) => {
        const endpointId = endpointIdOf(id);
        if ((await selectEndpoint(tx, by.tenantId, endpointId)) === undefined) return unknownDelivery();
        return selectDelivery(tx, by.tenantId, endpointId, deliveryIdOf(deliveryId));
      });
      return deliveryInFull(row ?? unknownDelivery());
    },

    test: (by, id, answer) => test(deps, by, id, answer),
    redeliver: (by, id, deliveryId, answer) => redeliver(deps, by, { id, deliveryId }, answer),
  };
}

async function test<Answer>(
  deps: DeliveryStoreDeps,
  by: TenantActing,
  id: string,
  answer: Answering<Answer>,
): Promise<Answer> {
  const { db, clock } = deps;
  const { tenantId } = by;
  return db.withTenant(by, async (tx) => {
    const endpoint = await lockedEnabled(tx, by, id);
    const eventId = newUuid();
    const payload = messageBody({
      eventId,
      type: webhookTestType,
      occurredAt: new Date(clock.now()),
      data: { webhook_id: id, message: 'This is a test of your webhook.' },
    });
    const row = await insertTestDelivery(tx, {
      tenantId,
      deliveryId: newUuid(),
      endpointId: endpoint.endpoint_id,
      eventId,
      eventType: webhookTestType,
      payload,
    });
    await sendNow(deps, tx, endpoint);
    await tx.audit({ action: 'webhooks.test', resource: { type: 'webhook', id } });
    return answer(tx, deliveryObject(row));
  });
}

async function redeliver<Answer>(
  deps: DeliveryStoreDeps,
  by: TenantActing,
  { id, deliveryId }: { readonly id: string; readonly deliveryId: string },
  answer: Answering<Answer>,
): Promise<Answer> {
  return deps.db.withTenant(by, async (tx) => {
    const endpoint = await lockedEnabled(tx, by, id);
    const { tenantId } = by;
    const found = await selectDelivery(tx, tenantId, endpoint.endpoint_id, deliveryIdOf(deliveryId));
    if (found === undefined) unknownDelivery();
    const row = await beginAnew(tx, tenantId, found.delivery_id);
    await sendNow(deps, tx, endpoint);
    await tx.audit({
      action: 'webhooks.deliveries.redeliver',
      resource: { type: 'webhook_delivery', id: toTypeId('whd', row.delivery_id) },
    });
    return answer(tx, deliveryObject(row));
  });
}

async function lockedEnabled(tx: TenantHandle, by: TenantActing, id: string): Promise<EndpointRow> {
  const endpoint = (await lockEndpoint(tx, by.tenantId, endpointIdOf(id))) ?? unknownWebhook();
  if (endpoint.disabled_reason === null) return endpoint;
  throw new AppError('conflict', 'The webhook is disabled; enable it first.');
}

/** Plans a round now, unless one is due or under way, which then sees what was just written. */
async function sendNow(
  { clock, jobs, round }: DeliveryStoreDeps,
  tx: TenantHandle,
  endpoint: EndpointRow,
): Promise<void> {
  const now = new Date(clock.now());
  if (endpoint.round_at !== null && endpoint.round_at <= now) return;
  const { tenant_id: tenantId, endpoint_id: endpointId } = endpoint;
  await planWith(tx, jobs(), round, { tenantId, endpointId }, now);
}
