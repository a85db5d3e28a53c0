import {
  changeMember,
  changeTenantMember,
  createMember,
  createTenantMember,
  listMembers,
  listTenantMembers,
  readMember,
  readTenantMember,
  removeMember,
  removeTenantMember,
} from '@stoa/contracts';
import { creatingOperatorRoute, creatingTenantRoute, operatorRoute, type Route, tenantRoute } from '#http';
import { operatorCaller, tenantCaller, versioned } from '../http.ts';
import type { MemberStore } from './members.ts';

/** The operator's routes for the members of any tenant, and a tenant's for its own. */
export function memberRoutes(store: MemberStore): Route[] {
  return [...tenantMemberRoutes(store), ...ownMemberRoutes(store)];
}

function tenantMemberRoutes(store: MemberStore): Route[] {
  return [
    creatingOperatorRoute(createTenantMember, async ({ params, body }, principal, context, keep) =>
      store.create(operatorCaller(principal, context, params.id), body, (tx, member) =>
        keep(
          tx,
          versioned(201, member, { location: `/control/v1/tenants/${params.id}/members/${member.id}` }),
        ),
      ),
    ),
    operatorRoute(listTenantMembers, async ({ params, query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(operatorCaller(principal, context, params.id), page) };
    }),
    operatorRoute(readTenantMember, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.read(caller, params.member_id));
    }),
    operatorRoute(changeTenantMember, async ({ params, body }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.change(caller, params.member_id, body, context.ifMatch));
    }),
    operatorRoute(removeTenantMember, async ({ params }, principal, context) => {
      const caller = operatorCaller(principal, context, params.id);
      return versioned(200, await store.remove(caller, params.member_id, context.ifMatch));
    }),
  ];
}

function ownMemberRoutes(store: MemberStore): Route[] {
  return [
    creatingTenantRoute(createMember, async ({ body }, principal, context, keep) =>
      store.create(tenantCaller(principal, context), body, (tx, member) =>
        keep(tx, versioned(201, member, { location: `/v1/members/${member.id}` })),
      ),
    ),
    tenantRoute(listMembers, async ({ query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(tenantCaller(principal, context), page) };
    }),
    tenantRoute(readMember, async ({ params }, principal, context) =>
      versioned(200, await store.read(tenantCaller(principal, context), params.id)),
    ),
    tenantRoute(changeMember, async ({ params, body }, principal, context) => {
      const caller = tenantCaller(principal, context);
      return versioned(200, await store.change(caller, params.id, body, context.ifMatch));
    }),
    tenantRoute(removeMember, async ({ params }, principal, context) =>
      versioned(200, await store.remove(tenantCaller(principal, context), params.id, context.ifMatch)),
    ),
  ];
}
