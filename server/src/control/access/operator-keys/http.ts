import {
  createOperatorKey,
  listOperatorKeys,
  readOperatorKey,
  revokeOperatorKey,
  rotateOperatorKey,
} from '@stoa/contracts';
import type { OperatorContext } from '#db';
import { creatingOperatorRoute, operatorRoute, type RequestContext, type Route } from '#http';
import { actingOperator, type OperatorPrincipal, versionTag } from '#kernel';
import type { OperatorKeyStore } from './operator-keys.ts';

/** The operator's routes for its own keys. */
export function operatorKeyRoutes(store: OperatorKeyStore): Route[] {
  return [
    creatingOperatorRoute(createOperatorKey, async ({ body }, principal, context, keep) =>
      store.create(by(principal, context), body, (tx, key) =>
        keep(tx, {
          status: 201,
          body: key,
          headers: { location: `/control/v1/operator-keys/${key.id}`, ...versionTag(key.version) },
        }),
      ),
    ),
    creatingOperatorRoute(rotateOperatorKey, async ({ params, body }, principal, context, keep) =>
      store.rotate(by(principal, context), params.id, body, context.ifMatch, (tx, key) =>
        keep(tx, { status: 200, body: key, headers: versionTag(key.version) }),
      ),
    ),
    operatorRoute(listOperatorKeys, async ({ query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      return { status: 200, body: await store.list(by(principal, context), page) };
    }),
    operatorRoute(readOperatorKey, async ({ params }, principal, context) => {
      const key = await store.read(by(principal, context), params.id);
      return { status: 200, body: key, headers: versionTag(key.version) };
    }),
    operatorRoute(revokeOperatorKey, async ({ params }, principal, context) => {
      const key = await store.revoke(by(principal, context), params.id, context.ifMatch);
      return { status: 200, body: key, headers: versionTag(key.version) };
    }),
  ];
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}
