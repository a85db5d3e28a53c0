import { type AuditEntryObject, listAuditEntries } from '@stoa/contracts';
import type { Database } from '#db';
import { operatorRoute, type Route } from '#http';
import { AppError, fromTypeId, pageOf, toTypeId } from '#kernel';
import { type AuditRow, selectAuditEntries } from './audit.sql.ts';

export interface AuditDeps {
  readonly db: Database;
}

export interface AuditModule {
  /** For the admin listener. */
  readonly routes: Route[];
}

const largestEntryId = 9_223_372_036_854_775_807n;

/**
 * Shows what the audited door wrote: every passage of an operator, its reason, its tenant and its request. Reading the
 * entries is such a passage too.
 */
export function createAudit({ db }: AuditDeps): AuditModule {
  return {
    routes: [
      operatorRoute(listAuditEntries, async ({ query }, principal, context) => {
        const page = {
          after: query.after === undefined ? null : entryIdOf(query.after),
          tenantId: query.tenant_id === undefined ? null : fromTypeId('ten', query.tenant_id),
          limit: query.limit,
        };
        const by = { operator: principal.keyId, requestId: context.publicRequestId };
        const rows = await db.withOperator(by, 'audit.list', (tx) => selectAuditEntries(tx, page));
        return { status: 200, body: pageOf(rows.map(toObject), query.limit, (entry) => entry.id) };
      }),
    ],
  };
}

function entryIdOf(text: string): bigint {
  const id = /^\d{1,19}$/.test(text) ? BigInt(text) : largestEntryId + 1n;
  if (id <= largestEntryId) return id;
  throw new AppError('invalid_request', 'after: must be the id of an entry.', { param: 'after' });
}

function toObject(row: AuditRow): AuditEntryObject {
  return {
    id: String(row.entry_id),
    object: 'audit_entry',
    occurred_at: row.occurred_at.toISOString(),
    operator: row.operator,
    tenant_id: row.tenant_id === null ? null : toTypeId('ten', row.tenant_id),
    request_id: row.request_id,
    reason: row.reason,
  };
}
