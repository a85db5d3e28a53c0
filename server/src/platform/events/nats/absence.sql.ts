import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import type { EventCursor } from '../types.ts';

/** Why `readEvents` doesn't find an event: above the horizon, gone with its tenant, or gone. */
export type Absence = 'unreadable' | 'purged' | 'lost';

/**
 * Why an event of a tenant can't be read at its place in the log. A tenant whose purge has begun never comes back, so its
 * events are missed by nobody. Two look-ups, by events_by_cursor and the tenant's primary key.
 */
export async function readAbsence(
  tx: SystemHandle,
  { cursor, tenantId }: { readonly cursor: EventCursor; readonly tenantId: string },
): Promise<Absence> {
  const { rows } = await sql<{ is_there: boolean; has_tenant: boolean }>`
    select
      exists (
        select from tenant.events where xid = ${cursor.xid}::xid8 and seq = ${cursor.seq}::bigint
      ) as is_there,
      exists (
        select from tenant.tenants where tenant_id = ${tenantId} and purge_started_at is null
      ) as has_tenant
  `.execute(tx);
  const [row] = rows;
  if (row === undefined || row.is_there) return 'unreadable';
  return row.has_tenant ? 'lost' : 'purged';
}
