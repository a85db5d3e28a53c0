import { readOwnEvent } from '@stoa/contracts';
import { sql } from 'kysely';
import type { Database, TenantHandle } from '#db';
import type { JsonRoute } from '#http';
import { AppError, fromTypeId } from '#kernel';
import { binaryCloudEvent, structuredCloudEvent } from '../cloudevents.ts';
import type { LoggedEvent } from '../types.ts';
import { requireWholeTenant } from './dead-letters.ts';
import { type EventColumns, eventOf } from './deliveries.sql.ts';
import type { RouteMakers } from './route-makers.ts';

/** A tenant's own event in either form of CloudEvents, for consumers outside: what a webhook told of, whole. */
export function ownEventRoute({
  db,
  http,
}: {
  readonly db: Database;
  readonly http: RouteMakers;
}): JsonRoute {
  return http.tenantRoute(readOwnEvent, async ({ params, query }, principal) => {
    requireWholeTenant(principal);
    const { tenantId } = principal;
    const id = fromTypeId('evt', params.id);
    const event =
      id === null ? undefined : await db.withTenant({ tenantId }, (tx) => selectEvent(tx, tenantId, id));
    if (event === undefined) {
      throw new AppError('not_found', 'There is no such event, or the log no longer holds it.', {
        param: 'id',
      });
    }
    const message = query.form === 'binary' ? binaryCloudEvent(event) : structuredCloudEvent(event);
    const { 'content-type': contentType = 'application/json', ...headers } = message.headers;
    return { status: 200, headers, text: { contentType, content: message.body } };
  });
}

/** By the primary key, in each day of the log. */
async function selectEvent(
  tx: TenantHandle,
  tenantId: string,
  eventId: string,
): Promise<LoggedEvent | undefined> {
  const { rows } = await sql<EventColumns>`
    select tenant_id, event_id, type, key, keyversion, occurred_at, causation, traceparent, data, xid::text as xid, seq
    from tenant.events where tenant_id = ${tenantId} and event_id = ${eventId} limit 1
  `.execute(tx);
  const [row] = rows;
  return row === undefined ? undefined : eventOf(row);
}
