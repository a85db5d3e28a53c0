import {
  changeKey,
  changeTenantKey,
  createKey,
  createTenantKey,
  listKeys,
  listTenantKeys,
  readKey,
  readTenantKey,
  revokeKey,
  revokeTenantKey,
} from '@stoa/contracts';
import {
  creatingOperatorRoute,
  creatingTenantRoute,
  operatorRoute,
  type RequestContext,
  type Route,
  type RouteReply,
  tenantRoute,
} from '#http';
import { AppError, fromTypeId, type OperatorPrincipal, type TenantPrincipal, versionTag } from '#kernel';
import type { KeyCaller, KeyStore } from './keys/keys.ts';

/** The operator's routes for the keys of any tenant. */
export function tenantKeyRoutes(store: KeyStore): Route[] {
  return [
    creatingOperatorRoute(createTenantKey, async ({ params, body }, principal, context, keep) =>
      store.create(operatorCaller(principal, context, params.id), body, (tx, key) =>
        keep(tx, versioned(201, key, { location: `/control/v1/tenants/${params.id}/keys/${key.id}` })),
      ),
    ),
    operatorRoute(listTenantKeys, async ({ params, query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(operatorCaller(principal, context, params.id), page) };
    }),
    operatorRoute(readTenantKey, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.read(caller, params.key_id));
    }),
    operatorRoute(changeTenantKey, async ({ params, body }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.change(caller, params.key_id, body, context.ifMatch));
    }),
    operatorRoute(revokeTenantKey, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.revoke(caller, params.key_id, context.ifMatch));
    }),
  ];
}

/** A tenant's routes for its own keys. */
export function ownKeyRoutes(store: KeyStore): Route[] {
  return [
    creatingTenantRoute(createKey, async ({ body }, principal, context, keep) =>
      store.create(tenantCaller(principal, context), body, (tx, key) =>
        keep(tx, versioned(201, key, { location: `/v1/keys/${key.id}` })),
      ),
    ),
    tenantRoute(listKeys, async ({ query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(tenantCaller(principal, context), page) };
    }),
    tenantRoute(readKey, async ({ params }, principal, context) =>
      versioned(200, await store.read(tenantCaller(principal, context), params.id)),
    ),
    tenantRoute(changeKey, async ({ params, body }, principal, context) => {
      const caller = tenantCaller(principal, context);
      return versioned(200, await store.change(caller, params.id, body, context.ifMatch));
    }),
    tenantRoute(revokeKey, async ({ params }, principal, context) =>
      versioned(200, await store.revoke(tenantCaller(principal, context), params.id, context.ifMatch)),
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

function operatorCaller(principal: OperatorPrincipal, context: RequestContext, tenant: string): KeyCaller {
  const tenantId = fromTypeId('ten', tenant);
  if (tenantId === null)
    throw new AppError('invalid_request', 'id: must be an id of the form ten_....', { param: 'id' });
  return {
    kind: 'operator',
    by: { operator: principal.keyId, requestId: context.publicRequestId },
    tenantId,
  };
}

function tenantCaller(principal: TenantPrincipal, context: RequestContext): KeyCaller {
  return { kind: 'tenant', principal, requestId: context.publicRequestId };
}
