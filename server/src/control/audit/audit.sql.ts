import { sql } from 'kysely';
import type { OperatorHandle } from '#db';

export interface AuditRow {
  readonly entry_id: bigint;
  readonly occurred_at: Date;
  readonly operator: string;
  readonly tenant_id: string | null;
  readonly request_id: string | null;
  readonly reason: string;
}

/** A page and one more, newest first. By primary key, backwards; one tenant's entries by audit_entries_by_tenant. */
export async function selectAuditEntries(
  tx: OperatorHandle,
  page: { after: bigint | null; tenantId: string | null; limit: number },
): Promise<readonly AuditRow[]> {
  const { rows } = await sql<AuditRow>`
    select entry_id, occurred_at, operator, tenant_id, request_id, reason
    from platform.audit_entries
    where (${page.after}::bigint is null or entry_id < ${page.after}::bigint)
      and (${page.tenantId}::uuid is null or tenant_id = ${page.tenantId}::uuid)
    order by entry_id desc
    limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}
