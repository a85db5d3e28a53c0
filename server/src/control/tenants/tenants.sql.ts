import type { TenantState } from '@stoa/contracts';
import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle } from '#db';

export interface TenantRow {
  readonly tenant_id: string;
  readonly name: string;
  readonly state: TenantState;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
  readonly suspended_at: Date | null;
  readonly deleted_at: Date | null;
  readonly purge_after: Date | null;
  readonly purge_started_at: Date | null;
}

/** What may change of a tenant. */
export type TenantValues = Pick<TenantRow, 'name' | 'state' | 'suspended_at' | 'deleted_at' | 'purge_after'>;

const columns = sql`tenant_id, name, state, version, created_at, changed_at, suspended_at, deleted_at, purge_after, purge_started_at`;

/** Inserts a tenant in its first state. By primary key. */
export async function insertTenant(
  tx: OperatorHandle,
  tenant: { tenantId: string; name: string; createdAt: Date },
): Promise<TenantRow> {
  const { rows } = await sql<TenantRow>`
    insert into tenant.tenants (tenant_id, name, created_at)
    values (${tenant.tenantId}, ${tenant.name}, ${tenant.createdAt})
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** A page and one more, newest first: ids are ordered by their time. By primary key, backwards; a rare state scans. */
export async function selectTenants(
  tx: OperatorHandle,
  page: { after: string | null; state: TenantState | null; limit: number },
): Promise<readonly TenantRow[]> {
  const { rows } = await sql<TenantRow>`
    select ${columns} from tenant.tenants
    where (${page.after}::uuid is null or tenant_id < ${page.after}::uuid)
      and (${page.state}::text is null or state = ${page.state}::text)
    order by tenant_id desc
    limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

export async function selectTenant(tx: OperatorHandle, tenantId: string): Promise<TenantRow | undefined> {
  const { rows } = await sql<TenantRow>`
    select ${columns} from tenant.tenants where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0];
}

/** Reads a tenant and keeps others from changing it until the transaction ends. */
export async function lockTenant(tx: OperatorHandle, tenantId: string): Promise<TenantRow | undefined> {
  const { rows } = await sql<TenantRow>`
    select ${columns} from tenant.tenants where tenant_id = ${tenantId} for update
  `.execute(tx);
  return rows[0];
}

/** Writes what may change of a tenant; the caller holds its lock. */
export async function updateTenant(
  tx: OperatorHandle,
  tenantId: string,
  values: TenantValues,
): Promise<TenantRow> {
  const { rows } = await sql<TenantRow>`
    update tenant.tenants
    set name = ${values.name}, state = ${values.state}, suspended_at = ${values.suspended_at},
        deleted_at = ${values.deleted_at}, purge_after = ${values.purge_after},
        version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** Tenants whose grace ended before `now`, and those whose purge did not come to its end; oldest first. */
export async function selectPurgeable(
  tx: SystemHandle,
  now: Date,
  limit: number,
): Promise<readonly string[]> {
  const { rows } = await sql<{ tenant_id: string }>`
    select tenant_id from tenant.tenants
    where state = 'deleted' and purge_after <= ${now}
    order by purge_after, tenant_id
    limit ${limit}
  `.execute(tx);
  return rows.map((row) => row.tenant_id);
}

/**
 * Marks the tenant as being purged; false where it was restored in the meantime. No change that anybody is told of, so
 * the version stays.
 */
export async function markPurgeStarted(tx: SystemHandle, tenantId: string, now: Date): Promise<boolean> {
  const { rows } = await sql`
    update tenant.tenants
    set purge_started_at = coalesce(purge_started_at, ${now})
    where tenant_id = ${tenantId} and state = 'deleted' and purge_after <= ${now}
    returning tenant_id
  `.execute(tx);
  return rows.length === 1;
}

/** Deletes all rows of a tenant in one table of the schema tenant. By the table's primary key, led by tenant_id. */
export async function deleteRowsOf(tx: SystemHandle, table: string, tenantId: string): Promise<number> {
  const result = await sql`
    delete from ${sql.table(table)} where tenant_id = ${tenantId}
  `.execute(tx);
  return Number(result.numAffectedRows ?? 0n);
}

function one(rows: readonly TenantRow[]): TenantRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a tenant returned none');
  return row;
}
