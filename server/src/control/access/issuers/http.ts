import {
  changeIssuer,
  changeTenantIssuer,
  createIssuer,
  createTenantIssuer,
  deleteIssuer,
  deleteTenantIssuer,
  listIssuers,
  listTenantIssuers,
  readIssuer,
  readTenantIssuer,
} from '@stoa/contracts';
import { creatingOperatorRoute, creatingTenantRoute, operatorRoute, type Route, tenantRoute } from '#http';
import { operatorCaller, tenantCaller, versioned } from '../http.ts';
import type { IssuerStore } from './issuers.ts';

/** The operator's routes for the outside issuers of any tenant, and a tenant's for those that it trusts. */
export function issuerRoutes(store: IssuerStore): Route[] {
  return [...tenantIssuerRoutes(store), ...ownIssuerRoutes(store)];
}

function tenantIssuerRoutes(store: IssuerStore): Route[] {
  return [
    creatingOperatorRoute(createTenantIssuer, async ({ params, body }, principal, context, keep) =>
      store.create(operatorCaller(principal, context, params.id), body, (tx, issuer) =>
        keep(
          tx,
          versioned(201, issuer, { location: `/control/v1/tenants/${params.id}/issuers/${issuer.id}` }),
        ),
      ),
    ),
    operatorRoute(listTenantIssuers, async ({ params, query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(operatorCaller(principal, context, params.id), page) };
    }),
    operatorRoute(readTenantIssuer, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.read(caller, params.issuer_id));
    }),
    operatorRoute(changeTenantIssuer, async ({ params, body }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.change(caller, params.issuer_id, body, context.ifMatch));
    }),
    operatorRoute(deleteTenantIssuer, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      await store.delete(caller, params.issuer_id, context.ifMatch);
      return { status: 204 };
    }),
  ];
}

function ownIssuerRoutes(store: IssuerStore): Route[] {
  return [
    creatingTenantRoute(createIssuer, async ({ body }, principal, context, keep) =>
      store.create(tenantCaller(principal, context), body, (tx, issuer) =>
        keep(tx, versioned(201, issuer, { location: `/v1/issuers/${issuer.id}` })),
      ),
    ),
    tenantRoute(listIssuers, async ({ query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(tenantCaller(principal, context), page) };
    }),
    tenantRoute(readIssuer, async ({ params }, principal, context) =>
      versioned(200, await store.read(tenantCaller(principal, context), params.id)),
    ),
    tenantRoute(changeIssuer, async ({ params, body }, principal, context) => {
      const caller = tenantCaller(principal, context);
      return versioned(200, await store.change(caller, params.id, body, context.ifMatch));
    }),
    tenantRoute(deleteIssuer, async ({ params }, principal, context) => {
      await store.delete(tenantCaller(principal, context), params.id, context.ifMatch);
      return { status: 204 };
    }),
  ];
}
