import { changeTenant, createTenant, deleteTenant, listTenants, readTenant } from '@stoa/contracts';
import type { OperatorContext } from '#db';
import { creatingOperatorRoute, operatorRoute, type RequestContext, type Route } from '#http';
import {
  actingOperator,
  AppError,
  asTenantId,
  fromTypeId,
  type OperatorPrincipal,
  type TenantId,
  versionTag,
} from '#kernel';
import type { TenantStore } from './tenants.ts';

export function tenantRoutes(store: TenantStore): Route[] {
  return [
    creatingOperatorRoute(createTenant, ({ body }, principal, context, keep) =>
      store.create(by(principal, context), body.name, (tx, tenant) =>
        keep(tx, {
          status: 201,
          body: tenant,
          headers: { location: `/control/v1/tenants/${tenant.id}`, ...versionTag(tenant.version) },
        }),
      ),
    ),
    operatorRoute(listTenants, async ({ query }, principal, context) => ({
      status: 200,
      body: await store.list(by(principal, context), {
        after: query.after === undefined ? null : tenantIdOf(query.after, 'after'),
        state: query.state ?? null,
        limit: query.limit,
      }),
    })),
    operatorRoute(readTenant, async ({ params }, principal, context) => {
      const tenant = await store.read(by(principal, context), tenantIdOf(params.id, 'id'));
      return { status: 200, body: tenant, headers: versionTag(tenant.version) };
    }),
    operatorRoute(changeTenant, async ({ params, body }, principal, context) => {
      const id = tenantIdOf(params.id, 'id');
      const tenant = await store.change(by(principal, context), id, body, context.ifMatch);
      return { status: 200, body: tenant, headers: versionTag(tenant.version) };
    }),
    operatorRoute(deleteTenant, async ({ params }, principal, context) => {
      const id = tenantIdOf(params.id, 'id');
      const tenant = await store.remove(by(principal, context), id, context.ifMatch);
      return { status: 200, body: tenant, headers: versionTag(tenant.version) };
    }),
  ];
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}

function tenantIdOf(id: string, param: string): TenantId {
  const uuid = fromTypeId('ten', id);
  if (uuid === null)
    throw new AppError('invalid_request', `${param}: must be an id of the form ten_....`, { param });
  return asTenantId(uuid);
}
