import { sql } from 'kysely';
import type { SystemHandle, TenantHandle } from '#db';

export interface PolicyRow {
  readonly tenant_id: string;
  readonly target_order: string;
  readonly allowed: string | null;
  readonly version: bigint;
  readonly changed_at: Date;
}

const columns = sql`tenant_id, target_order, allowed, version, changed_at`;

/** One tenant's policy, by primary key; for the cache. */
export async function selectPolicy(tx: SystemHandle, tenantId: string): Promise<PolicyRow | undefined> {
  const { rows } = await sql<PolicyRow>`
    select ${columns} from tenant.policies where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0];
}

/** Policies changed in the last `windowMs` milliseconds, by the index on `changed_at`. Few, if any. */
export async function selectRecentPolicies(
  tx: SystemHandle,
  windowMs: number,
): Promise<readonly PolicyRow[]> {
  const { rows } = await sql<PolicyRow>`
    select ${columns} from tenant.policies
    where changed_at > clock_timestamp() - ${windowMs} * interval '1 millisecond'
  `.execute(tx);
  return rows;
}

/** The tenant's own policy. */
export async function selectOwnPolicy(tx: TenantHandle, tenantId: string): Promise<PolicyRow | undefined> {
  const { rows } = await sql<PolicyRow>`
    select ${columns} from tenant.policies where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0];
}

/** The tenant's own row, made where there was none, locked until the transaction ends. */
export async function lockOwnPolicy(tx: TenantHandle, tenantId: string): Promise<PolicyRow> {
  await sql`insert into tenant.policies (tenant_id) values (${tenantId}) on conflict do nothing`.execute(tx);
  const { rows } = await sql<PolicyRow>`
    select ${columns} from tenant.policies where tenant_id = ${tenantId} for update
  `.execute(tx);
  return one(rows);
}

export async function updateOwnPolicy(
  tx: TenantHandle,
  tenantId: string,
  values: { order: string; allowed: string | null },
): Promise<PolicyRow> {
  const { rows } = await sql<PolicyRow>`
    update tenant.policies
    set target_order = ${values.order}, allowed = ${values.allowed}, version = version + 1,
        changed_at = clock_timestamp()
    where tenant_id = ${tenantId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

function one(rows: readonly PolicyRow[]): PolicyRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a policy returned none');
  return row;
}
