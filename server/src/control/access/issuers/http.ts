import { changeIssuer, createIssuer, deleteIssuer, listIssuers, readIssuer } from '@stoa/contracts';
import { creatingTenantRoute, type Route, tenantRoute } from '#http';
import { tenantCaller, versioned } from '../http.ts';
import type { IssuerStore } from './issuers.ts';

/** A tenant's routes for the outside issuers that it trusts. */
export function issuerRoutes(store: IssuerStore): Route[] {
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
