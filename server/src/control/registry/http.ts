import {
  changeControlModel,
  changeProvider,
  createControlModel,
  createProvider,
  deleteControlModel,
  deleteProvider,
  listControlModels,
  listModels,
  listProviders,
  readControlModel,
  readModel,
  readOperatorPolicy,
  readProvider,
  readTenantPolicy,
  replaceOperatorPolicy,
  replaceTenantPolicy,
} from '@stoa/contracts';
import type { OperatorContext } from '#db';
import {
  creatingOperatorRoute,
  operatorRoute,
  type RequestContext,
  type Route,
  type RouteReply,
  tenantRoute,
} from '#http';
import { actingOperator, actingTenant, AppError, type OperatorPrincipal, versionTag } from '#kernel';
import { modelList, modelNamed } from './model-list.ts';
import type { ModelStore, PriceOf } from './models.ts';
import type { PolicyStore } from './policies.ts';
import type { ProviderStore } from './providers.ts';
import type { RegistryApi } from './types.ts';

export interface RegistryRoutesDeps {
  readonly api: RegistryApi;
  readonly providers: ProviderStore;
  readonly models: ModelStore;
  readonly policies: PolicyStore;
  readonly priceOf: PriceOf;
}

export function registryRoutes(deps: RegistryRoutesDeps): Route[] {
  return [...providerRoutes(deps), ...modelRoutes(deps), ...policyRoutes(deps), ...tenantModelRoutes(deps)];
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}

function versioned(
  status: number,
  body: { version: number },
  headers: Record<string, string> = {},
): RouteReply {
  return { status, body, headers: { ...headers, ...versionTag(body.version) } };
}

function providerRoutes({ providers }: RegistryRoutesDeps): Route[] {
  return [
    creatingOperatorRoute(createProvider, ({ body }, principal, context, keep) =>
      providers.create(by(principal, context), body, (tx, made) =>
        keep(tx, versioned(201, made, { location: `/control/v1/providers/${made.id}` })),
      ),
    ),
    operatorRoute(listProviders, async ({ query }, principal, context) => ({
      status: 200,
      body: await providers.list(by(principal, context), query),
    })),
    operatorRoute(readProvider, async ({ params }, principal, context) =>
      versioned(200, await providers.read(by(principal, context), params.id)),
    ),
    operatorRoute(changeProvider, async ({ params, body }, principal, context) =>
      versioned(200, await providers.change(by(principal, context), params.id, body, context.ifMatch)),
    ),
    operatorRoute(deleteProvider, async ({ params }, principal, context) => {
      await providers.remove(by(principal, context), params.id, context.ifMatch);
      return { status: 204 };
    }),
  ];
}

function modelRoutes({ models }: RegistryRoutesDeps): Route[] {
  return [
    creatingOperatorRoute(createControlModel, ({ body }, principal, context, keep) =>
      models.create(by(principal, context), body, (tx, made) =>
        keep(tx, versioned(201, made, { location: `/control/v1/models/${made.id}` })),
      ),
    ),
    operatorRoute(listControlModels, async ({ query }, principal, context) => ({
      status: 200,
      body: await models.list(by(principal, context), query),
    })),
    operatorRoute(readControlModel, async ({ params }, principal, context) =>
      versioned(200, await models.read(by(principal, context), params.id)),
    ),
    operatorRoute(changeControlModel, async ({ params, body }, principal, context) =>
      versioned(200, await models.change(by(principal, context), params.id, body, context.ifMatch)),
    ),
    operatorRoute(deleteControlModel, async ({ params }, principal, context) => {
      await models.remove(by(principal, context), params.id, context.ifMatch);
      return { status: 204 };
    }),
  ];
}

function policyRoutes({ policies }: RegistryRoutesDeps): Route[] {
  return [
    operatorRoute(readOperatorPolicy, async (_input, principal, context) =>
      versioned(200, await policies.readOperator(by(principal, context))),
    ),
    operatorRoute(replaceOperatorPolicy, async ({ body }, principal, context) =>
      versioned(200, await policies.replaceOperator(by(principal, context), body.order, context.ifMatch)),
    ),
    tenantRoute(readTenantPolicy, async (_input, principal) =>
      versioned(200, await policies.readTenant(principal.tenantId)),
    ),
    tenantRoute(replaceTenantPolicy, async ({ body }, principal, context) =>
      versioned(200, await policies.replaceTenant(actingTenant(principal, context), body, context.ifMatch)),
    ),
  ];
}

function tenantModelRoutes({ api, priceOf }: RegistryRoutesDeps): Route[] {
  return [
    tenantRoute(listModels, async (_input, principal) => {
      const policy = await api.policyFor(principal.tenantId);
      return { status: 200, body: { object: 'list', data: modelList(api.snapshot(), policy, priceOf) } };
    }),
    tenantRoute(readModel, async ({ params }, principal) => {
      const policy = await api.policyFor(principal.tenantId);
      const found = modelNamed(params.id, api.snapshot(), policy, priceOf);
      if (!found) throw new AppError('model_not_found', 'There is no such model.', { param: 'model' });
      return { status: 200, body: found };
    }),
  ];
}
