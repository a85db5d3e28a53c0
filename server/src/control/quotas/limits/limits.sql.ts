import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle, TenantHandle } from '#db';

export interface LimitsRow {
  readonly tenant_id: string;
  /** JSON; null where the deployment's defaults hold. */
  readonly rules: string | null;
  readonly version: bigint;
  readonly changed_at: Date;
}

export interface KeyLimitsRow {
  readonly tenant_id: string;
  readonly key_id: string;
  readonly rules: string;
  readonly version: bigint;
  readonly changed_at: Date;
}

/** Of a tenant (`key_id` empty) or of a key. */
export interface ChangedLimitsRow {
  readonly tenant_id: string;
  readonly key_id: string;
  readonly rules: string | null;
  readonly version: bigint;
}

const columns = sql`tenant_id, rules, version, changed_at`;
const keyColumns = sql`tenant_id, key_id, rules, version, changed_at`;

/** Every limit that is set, in the order of the primary keys, so many at a time after the last one. */
export async function selectLimits(
  tx: SystemHandle,
  after: { readonly tenantId: string; readonly keyId: string } | null,
  limit: number,
): Promise<readonly ChangedLimitsRow[]> {
  const { tenantId, keyId } = after ?? { tenantId: '00000000-0000-0000-0000-000000000000', keyId: '' };
  const { rows } = await sql<ChangedLimitsRow>`
    select * from (
      select tenant_id, '' as key_id, rules, version from tenant.limits where rules is not null and tenant_id > ${tenantId}
      union all
      select tenant_id, key_id, rules, version from tenant.key_limits
      where rules <> '[]' and (tenant_id, key_id) > (${tenantId}::uuid, ${keyId}::text)
    ) as found
    order by tenant_id, key_id limit ${limit}
  `.execute(tx);
  return rows;
}

/** What changed in the last `windowMs` milliseconds, by the indexes on `changed_at`. Few, if any. */
export async function selectRecentLimits(
  tx: SystemHandle,
  windowMs: number,
): Promise<readonly ChangedLimitsRow[]> {
  const { rows } = await sql<ChangedLimitsRow>`
    select tenant_id, '' as key_id, rules, version from tenant.limits
    where changed_at > clock_timestamp() - ${windowMs} * interval '1 millisecond'
    union all
    select tenant_id, key_id, rules, version from tenant.key_limits
    where changed_at > clock_timestamp() - ${windowMs} * interval '1 millisecond'
  `.execute(tx);
  return rows;
}

/** By primary key. */
export async function selectTenantLimits(
  tx: OperatorHandle | TenantHandle,
  tenantId: string,
): Promise<LimitsRow | undefined> {
  const { rows } =
    await sql<LimitsRow>`select ${columns} from tenant.limits where tenant_id = ${tenantId}`.execute(tx);
  return rows[0];
}

export async function hasTenant(tx: OperatorHandle, tenantId: string): Promise<boolean> {
  const { rows } = await sql`select 1 from tenant.tenants where tenant_id = ${tenantId}`.execute(tx);
  return rows.length > 0;
}

/** A tenant's row, made where there was none, locked until the transaction ends. */
export async function lockTenantLimits(tx: OperatorHandle, tenantId: string): Promise<LimitsRow> {
  await sql`insert into tenant.limits (tenant_id) values (${tenantId}) on conflict do nothing`.execute(tx);
  const { rows } = await sql<LimitsRow>`
    select ${columns} from tenant.limits where tenant_id = ${tenantId} for update
  `.execute(tx);
  return one(rows);
}

export async function updateTenantLimits(
  tx: OperatorHandle,
  tenantId: string,
  rules: string | null,
): Promise<LimitsRow> {
  const { rows } = await sql<LimitsRow>`
    update tenant.limits set rules = ${rules}, version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** By primary key; whether the key exists is told apart from whether it has limits. */
export async function selectKeyLimits(
  tx: TenantHandle,
  tenantId: string,
  keyId: string,
): Promise<{ readonly isKey: boolean; readonly row: KeyLimitsRow | undefined }> {
  const { rows: keys } = await sql`
    select 1 from tenant.api_keys where tenant_id = ${tenantId} and key_id = ${keyId}
  `.execute(tx);
  const { rows } = await sql<KeyLimitsRow>`
    select ${keyColumns} from tenant.key_limits where tenant_id = ${tenantId} and key_id = ${keyId}
  `.execute(tx);
  return { isKey: keys.length > 0, row: rows[0] };
}

/** Whether a key has limits of its own. By primary key. */
export async function hasKeyLimits(
  tx: OperatorHandle | TenantHandle,
  tenantId: string,
  keyId: string,
): Promise<boolean> {
  const { rows } = await sql`
    select 1 from tenant.key_limits where tenant_id = ${tenantId} and key_id = ${keyId} and rules <> '[]'
  `.execute(tx);
  return rows.length > 0;
}

/** A key's row, made where there was none, locked until the transaction ends. The key has to exist. */
export async function lockKeyLimits(
  tx: TenantHandle,
  tenantId: string,
  keyId: string,
): Promise<KeyLimitsRow> {
  await sql`
    insert into tenant.key_limits (tenant_id, key_id) values (${tenantId}, ${keyId}) on conflict do nothing
  `.execute(tx);
  const { rows } = await sql<KeyLimitsRow>`
    select ${keyColumns} from tenant.key_limits where tenant_id = ${tenantId} and key_id = ${keyId} for update
  `.execute(tx);
  return one(rows);
}

export async function updateKeyLimits(
  tx: TenantHandle,
  tenantId: string,
  keyId: string,
  rules: string,
): Promise<KeyLimitsRow> {
  const { rows } = await sql<KeyLimitsRow>`
    update tenant.key_limits set rules = ${rules}, version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and key_id = ${keyId}
    returning ${keyColumns}
  `.execute(tx);
  return one(rows);
}

function one<Row>(rows: readonly Row[]): Row {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns limits returned none');
  return row;
}
