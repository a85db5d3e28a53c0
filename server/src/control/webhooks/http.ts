import {
  changeWebhook,
  createWebhook,
  deleteWebhook,
  listWebhookDeliveries,
  listWebhooks,
  readWebhook,
  readWebhookDelivery,
  redeliverWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '@stoa/contracts';
import { creatingTenantRoute, type Route, type RouteReply, tenantRoute } from '#http';
import { actingTenant, requirePermission, type TenantPrincipal, versionTag } from '#kernel';
import type { DeliveryStore } from './deliveries.ts';
import type { EndpointStore } from './endpoints.ts';

export function webhookRoutes(endpoints: EndpointStore, deliveries: DeliveryStore): Route[] {
  return [...endpointRoutes(endpoints), ...deliveryRoutes(deliveries)];
}

function endpointRoutes(store: EndpointStore): Route[] {
  return [
    creatingTenantRoute(createWebhook, async ({ body }, principal, context, keep) => {
      requireReader(principal);
      return store.create(actingTenant(principal, context), body, (tx, made) =>
        keep(tx, versioned(201, made, { location: `/v1/webhooks/${made.id}` })),
      );
    }),
    tenantRoute(listWebhooks, async ({ query }, principal, context) => ({
      status: 200,
      body: await store.list(actingTenant(principal, context), {
        after: query.after ?? null,
        limit: query.limit,
      }),
    })),
    tenantRoute(readWebhook, async ({ params }, principal, context) =>
      versioned(200, await store.read(actingTenant(principal, context), params.id)),
    ),
    tenantRoute(changeWebhook, async ({ params, body }, principal, context) => {
      if (body.url !== undefined || body.event_types !== undefined) requireReader(principal);
      const by = actingTenant(principal, context);
      return versioned(200, await store.change(by, params.id, body, context.ifMatch));
    }),
    tenantRoute(deleteWebhook, async ({ params }, principal, context) => {
      await store.delete(actingTenant(principal, context), params.id, context.ifMatch);
      return { status: 204 };
    }),
    creatingTenantRoute(rotateWebhookSecret, async ({ params, body }, principal, context, keep) =>
      store.rotate(
        actingTenant(principal, context),
        params.id,
        body.overlap_seconds,
        context.ifMatch,
        (tx, rotated) => keep(tx, versioned(200, rotated)),
      ),
    ),
  ];
}

/** Who decides where events go could as well read them. */
function requireReader(principal: TenantPrincipal): void {
  requirePermission(principal, 'events:read');
}

function deliveryRoutes(store: DeliveryStore): Route[] {
  const underWay = (delivery: { readonly id: string; readonly webhook_id: string }): RouteReply => ({
    status: 202,
    body: delivery,
    headers: { location: `/v1/webhooks/${delivery.webhook_id}/deliveries/${delivery.id}` },
  });
  return [
    creatingTenantRoute(testWebhook, async ({ params }, principal, context, keep) =>
      store.test(actingTenant(principal, context), params.id, (tx, made) => keep(tx, underWay(made))),
    ),
    tenantRoute(listWebhookDeliveries, async ({ params, query }, principal, context) => ({
      status: 200,
      body: await store.list(actingTenant(principal, context), params.id, query),
    })),
    tenantRoute(readWebhookDelivery, async ({ params }, principal, context) => ({
      status: 200,
      body: await store.read(actingTenant(principal, context), params.id, params.delivery_id),
    })),
    creatingTenantRoute(redeliverWebhook, async ({ params }, principal, context, keep) =>
      store.redeliver(actingTenant(principal, context), params.id, params.delivery_id, (tx, delivery) =>
        keep(tx, underWay(delivery)),
      ),
    ),
  ];
}

function versioned(
  status: number,
  body: { readonly version: number },
  headers: Readonly<Record<string, string>> = {},
): RouteReply {
  return { status, body, headers: { ...headers, ...versionTag(body.version) } };
}
