import {
  exportAuditEntries,
  exportOwnAuditEntries,
  listAuditEntries,
  listOwnAuditEntries,
} from '@stoa/contracts';
import type { Database } from '#db';
import { operatorRoute, type Route, tenantRoute } from '#http';
import { actingOperator, AppError, fromTypeId, pageOf } from '#kernel';
import { type AuditFilter, type AuditPage, selectEntries, selectOwnEntries } from './audit.sql.ts';
import { operatorEntry, ownEntry } from './entries.ts';

/** How many entries an export has in memory at once. */
const exportedAtOnce = 500;

/** A tenant's own entries. */
export function ownAuditRoutes(db: Database): Route[] {
  return [
    tenantRoute(listOwnAuditEntries, async ({ query }, { tenantId }) => {
      const page = { after: entryIdOf(query.after), limit: query.limit };
      const filter = filterOf(query);
      const rows = await db.withTenant({ tenantId }, (tx) => selectOwnEntries(tx, tenantId, filter, page));
      return { status: 200, body: pageOf(rows.map(ownEntry), query.limit, ({ id }) => id) };
    }),
    tenantRoute(exportOwnAuditEntries, async ({ query }, { tenantId }) => {
      const filter = filterOf(query);
      return exported(entryIdOf(query.after), ownEntry, (page) =>
        db.withTenant({ tenantId }, (tx) => selectOwnEntries(tx, tenantId, filter, page)),
      );
    }),
  ];
}

/** Everybody's, for the operator. Reading them leaves an entry, too. */
export function auditRoutes(db: Database): Route[] {
  return [
    operatorRoute(listAuditEntries, async ({ query }, principal, context) => {
      const page = { after: entryIdOf(query.after), limit: query.limit };
      const [tenantId, filter] = [tenantIdOf(query.tenant_id), filterOf(query)];
      const rows = await db.withOperator(actingOperator(principal, context), listAuditEntries.id, (tx) =>
        selectEntries(tx, tenantId, filter, page),
      );
      return { status: 200, body: pageOf(rows.map(operatorEntry), query.limit, ({ id }) => id) };
    }),
    operatorRoute(exportAuditEntries, async ({ query }, principal, context) => {
      const [tenantId, filter] = [tenantIdOf(query.tenant_id), filterOf(query)];
      const by = actingOperator(principal, context);
      // One export is one passage of the operator's door; its further pages are read as the platform reads.
      let isFirst = true;
      return exported(entryIdOf(query.after), operatorEntry, (page) => {
        if (!isFirst) return db.withSystem('audit', (tx) => selectEntries(tx, tenantId, filter, page));
        isFirst = false;
        return db.withOperator(by, exportAuditEntries.id, (tx) => selectEntries(tx, tenantId, filter, page));
      });
    }),
  ];
}

/**
 * The answer of an export. Its first page is read before the answer begins, so that a database that is away is an error with
 * its status; each further one is read in a transaction of its own when the reader has room for it.
 */
async function exported<Row extends { readonly entry_id: string }>(
  after: string | null,
  shown: (row: Row) => unknown,
  read: (page: AuditPage) => Promise<readonly Row[]>,
) {
  const first = await read({ after, limit: exportedAtOnce });
  async function* lines(): AsyncGenerator<string> {
    let rows = first;
    for (;;) {
      const page = rows.slice(0, exportedAtOnce);
      const last = page.at(-1);
      if (last === undefined) return;
      yield page.map((row) => `${JSON.stringify(shown(row))}\n`).join('');
      if (rows.length <= exportedAtOnce) return;
      rows = await read({ after: last.entry_id, limit: exportedAtOnce });
    }
  }
  return {
    status: 200,
    headers: { 'content-disposition': 'attachment; filename="audit.ndjson"' },
    parts: { contentType: 'application/x-ndjson', content: lines() },
  };
}

interface FilterQuery {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly actor?: string | undefined;
  readonly member?: string | undefined;
  readonly action?: string | undefined;
  readonly resource_type?: string | undefined;
  readonly resource_id?: string | undefined;
  readonly outcome?: AuditFilter['outcome'] | undefined;
}

function filterOf(query: FilterQuery): AuditFilter {
  const { resource_type: resourceType, resource_id: resourceId } = query;
  if (resourceId !== undefined && resourceType === undefined) {
    throw new AppError('invalid_request', 'resource_type: is needed beside resource_id.', {
      param: 'resource_type',
    });
  }
  return {
    from: query.from === undefined ? null : new Date(query.from),
    to: query.to === undefined ? null : new Date(query.to),
    actor: query.actor ?? null,
    member: query.member ?? null,
    action: query.action ?? null,
    resourceType: resourceType ?? null,
    resourceId: resourceId ?? null,
    outcome: query.outcome ?? null,
  };
}

function entryIdOf(id: string | undefined): string | null {
  return id === undefined ? null : fromTypeId('aud', id);
}

function tenantIdOf(id: string | undefined): string | null {
  return id === undefined ? null : fromTypeId('ten', id);
}
