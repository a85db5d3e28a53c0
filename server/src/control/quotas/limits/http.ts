import {
  readKeyLimits,
  readOwnLimits,
  readTenantLimits,
  replaceKeyLimits,
  replaceTenantLimits,
} from '@stoa/contracts';
import { operatorRoute, type Route, type RouteReply, tenantRoute } from '#http';
import { actingOperator, actingTenant, AppError, fromTypeId, versionTag } from '#kernel';
import type { LimitsStore } from './store.ts';

export function limitsRoutes(store: LimitsStore): Route[] {
  return [
    operatorRoute(readTenantLimits, async ({ params }, principal, context) =>
      versioned(await store.readTenant(actingOperator(principal, context), tenantIdOf(params.id))),
    ),
    operatorRoute(replaceTenantLimits, async ({ params, body }, principal, context) => {
      const by = actingOperator(principal, context);
      return versioned(await store.replaceTenant(by, tenantIdOf(params.id), body, context.ifMatch));
    }),
    tenantRoute(readOwnLimits, async (_input, principal, context) =>
      versioned(await store.readOwn(actingTenant(principal, context))),
    ),
    tenantRoute(readKeyLimits, async ({ params }, principal, context) =>
      versioned(await store.readKey(actingTenant(principal, context), params.id)),
    ),
    tenantRoute(replaceKeyLimits, async ({ params, body }, principal, context) => {
      // Of a token, too, this is the key that it was made with.
      if (params.id === principal.keyId)
        throw new AppError('permission_denied', 'A key may not change its own limits; use another key.');
      const acting = actingTenant(principal, context);
      return versioned(await store.replaceKey(acting, params.id, body, context.ifMatch));
    }),
  ];
}

function tenantIdOf(id: string): string {
  const tenantId = fromTypeId('ten', id);
  if (tenantId === null) throw new AppError('not_found', 'There is no such tenant.');
  return tenantId;
}

function versioned(body: { readonly version: number }): RouteReply {
  return { status: 200, body, headers: versionTag(body.version) };
}
