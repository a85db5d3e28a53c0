import { sql } from 'kysely';
import type { KeyHandle } from './keys.sql.ts';

export interface KeyPolicyRow {
  readonly tenant_id: string;
  readonly max_lifetime_days: number | null;
  readonly allow_no_expiry: boolean;
  readonly version: bigint;
  readonly changed_at: Date;
}

const columns = sql`tenant_id, max_lifetime_days, allow_no_expiry, version, changed_at`;

/** By primary key. */
export async function selectKeyPolicy(tx: KeyHandle, tenantId: string): Promise<KeyPolicyRow | undefined> {
  const { rows } = await sql<KeyPolicyRow>`
    select ${columns} from tenant.key_policies where tenant_id = ${tenantId}
  `.execute(tx);
  return rows[0];
}

/** A tenant's row, made where there was none, locked until the transaction ends. */
export async function lockKeyPolicy(tx: KeyHandle, tenantId: string): Promise<KeyPolicyRow> {
  await sql`insert into tenant.key_policies (tenant_id) values (${tenantId}) on conflict do nothing`.execute(
    tx,
  );
  const { rows } = await sql<KeyPolicyRow>`
    select ${columns} from tenant.key_policies where tenant_id = ${tenantId} for update
  `.execute(tx);
  return one(rows);
}

export async function updateKeyPolicy(
  tx: KeyHandle,
  tenantId: string,
  values: { readonly maxLifetimeDays: number | null; readonly allowNoExpiry: boolean },
): Promise<KeyPolicyRow> {
  const { rows } = await sql<KeyPolicyRow>`
    update tenant.key_policies
    set max_lifetime_days = ${values.maxLifetimeDays}, allow_no_expiry = ${values.allowNoExpiry},
        version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

function one(rows: readonly KeyPolicyRow[]): KeyPolicyRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a policy returned none');
  return row;
}
