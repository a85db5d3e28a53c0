import {
  changeKey,
  changeTenantKey,
  createKey,
  createTenantKey,
  listKeys,
  listTenantKeys,
  readKey,
  readKeyPolicy,
  readTenantKey,
  readTenantKeyPolicy,
  replaceKeyPolicy,
  replaceTenantKeyPolicy,
  revokeKey,
  revokeTenantKey,
  rotateKey,
  rotateTenantKey,
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
import {
  actingOperator,
  actingTenant,
  AppError,
  fromTypeId,
  type OperatorPrincipal,
  type TenantPrincipal,
  versionTag,
} from '#kernel';
import type { KeyCaller, TenantCaller } from './caller.ts';
import type { KeyPolicyStore } from './keys/key-policy.ts';
import type { KeyStore } from './keys/keys.ts';

/** The operator's routes for the keys of any tenant. */
export function tenantKeyRoutes(store: KeyStore): Route[] {
  return [
    creatingOperatorRoute(createTenantKey, async ({ params, body }, principal, context, keep) =>
      store.create(operatorCaller(principal, context, params.id), body, (tx, key) =>
        keep(tx, versioned(201, key, { location: `/control/v1/tenants/${params.id}/keys/${key.id}` })),
      ),
    ),
    creatingOperatorRoute(rotateTenantKey, async ({ params, body }, principal, context, keep) =>
      store.rotate(
        operatorCaller(principal, context, params.id),
        params.key_id,
        body,
        context.ifMatch,
        (tx, key) => keep(tx, versioned(200, key)),
      ),
    ),
    operatorRoute(listTenantKeys, async ({ params, query }, principal, context) => ({
      status: 200,
      body: await store.list(operatorCaller(principal, context, params.id), query),
    })),
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
    creatingTenantRoute(rotateKey, async ({ params, body }, principal, context, keep) =>
      store.rotate(tenantCaller(principal, context), params.id, body, context.ifMatch, (tx, key) =>
        keep(tx, versioned(200, key)),
      ),
    ),
    tenantRoute(listKeys, async ({ query }, principal, context) => ({
      status: 200,
      body: await store.list(tenantCaller(principal, context), query),
    })),
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

/** How long a tenant's keys may live: for the operator, and for the tenant itself. */
export function keyPolicyRoutes(store: KeyPolicyStore): Route[] {
  return [
    operatorRoute(readTenantKeyPolicy, async ({ params }, principal, context) =>
      versioned(200, await store.read(operatorCaller(principal, context, params.id))),
    ),
    operatorRoute(replaceTenantKeyPolicy, async ({ params, body }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.replace(caller, body, context.ifMatch));
    }),
    tenantRoute(readKeyPolicy, async (_input, principal, context) =>
      versioned(200, await store.read(tenantCaller(principal, context))),
    ),
    tenantRoute(replaceKeyPolicy, async ({ body }, principal, context) =>
      versioned(200, await store.replace(tenantCaller(principal, context), body, context.ifMatch)),
    ),
  ];
}

export function versioned(
  status: number,
  body: { readonly version: number },
  headers: Readonly<Record<string, string>> = {},
): RouteReply {
  return { status, body, headers: { ...headers, ...versionTag(body.version) } };
}

export function operatorCaller(
  principal: OperatorPrincipal,
  context: RequestContext,
  tenant: string,
): KeyCaller {
  const tenantId = fromTypeId('ten', tenant);
  if (tenantId === null)
    throw new AppError('invalid_request', 'id: must be an id of the form ten_....', { param: 'id' });
  return {
    kind: 'operator',
    by: actingOperator(principal, context),
    tenantId,
  };
}

export function tenantCaller(principal: TenantPrincipal, context: RequestContext): TenantCaller {
  return { kind: 'tenant', principal, acting: actingTenant(principal, context) };
}
