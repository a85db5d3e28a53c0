import type { LoggedEvent, SystemConsumer } from '#events';
import type { Job, JobsApi } from '#jobs';
import { newUuid } from '#kernel';
import { insertDeliveries, type NewDelivery } from './deliveries.sql.ts';
import type { RoundData } from './jobs.ts';
import { eventMessage, isSubscribed, publicEventTypes } from './public-events.ts';
import { lockEnabled, planRounds, type Subscriber } from './rounds.sql.ts';
import type { AskSubscriptions } from './subscriptions.ts';

export interface FanOutDeps {
  readonly askSubscriptions: AskSubscriptions;
  readonly jobs: () => JobsApi;
  readonly round: Job<RoundData>;
}

/**
 * Makes of every event a delivery for each endpoint that wants it, and plans a round for each of those, in the
 * transaction of the consumer. Who wants them is asked of the rows there. What is told once and mostly unwanted
 * (requests) is asked about beforehand, many tenants at a time, so that it costs no transaction of its own.
 */
export function fanOutConsumer({ askSubscriptions, jobs, round }: FanOutDeps): SystemConsumer {
  return {
    name: 'webhooks.fan-out',
    types: publicEventTypes,
    door: { system: 'webhook-fan-out' },
    // The receivers know a message by the id of its event.
    isReplayable: true,
    async pickWanted(events) {
      const subscribed = await askSubscriptions(events.map(({ tenantId }) => tenantId));
      return events.filter(({ tenantId, type }) => subscribed.wants(tenantId, type));
    },
    async handle(tx, events) {
      const tenantIds = [...new Set(events.map((event) => event.tenantId))];
      const endpoints = await lockEnabled(tx, tenantIds);
      const byTenant = Map.groupBy(endpoints, (endpoint) => endpoint.tenant_id);
      const made = events.flatMap((event) => deliveriesOf(event, byTenant.get(event.tenantId) ?? []));
      if (made.length === 0) return;
      await insertDeliveries(tx, made);
      const named = new Map(
        made.map(({ tenantId, endpointId }) => [
          endpointId,
          { tenant_id: tenantId, endpoint_id: endpointId },
        ]),
      );
      const planned = await planRounds(tx, [...named.values()]);
      await jobs().enqueueEach(
        tx,
        round,
        planned.map((one) => ({
          tenantId: one.tenant_id,
          data: { endpoint_id: one.endpoint_id, token: one.round_token },
        })),
      );
    },
  };
}

/** What happened before an endpoint was there is not sent to it. */
function deliveriesOf(event: LoggedEvent, endpoints: readonly Subscriber[]): NewDelivery[] {
  const { tenantId, eventId, type: eventType, traceparent, occurredAt } = event;
  const subscribed = endpoints.filter(
    (endpoint) => isSubscribed(endpoint.event_types, eventType) && endpoint.created_at <= occurredAt,
  );
  const payload = subscribed.length === 0 ? null : eventMessage(event);
  if (payload === null) return [];
  return subscribed.map(({ endpoint_id: endpointId }) => ({
    tenantId,
    deliveryId: newUuid(),
    endpointId,
    eventId,
    eventType,
    payload,
    traceparent,
  }));
}
