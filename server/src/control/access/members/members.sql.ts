import type { Role } from '@stoa/contracts';
import { sql } from 'kysely';
import type { SystemHandle } from '#db';
import type { KeyHandle } from '../keys/keys.sql.ts';

export interface MemberRow {
  readonly tenant_id: string;
  readonly member_id: string;
  readonly name: string;
  readonly email: string | null;
  readonly external_id: string | null;
  readonly role: Role | null;
  /** JSON text. */
  readonly projects: string;
  readonly created_by: string;
  readonly version: bigint;
  readonly created_at: Date;
  readonly changed_at: Date;
  readonly removed_at: Date | null;
}

export interface MemberValues {
  readonly name: string;
  readonly email: string | null;
  readonly externalId: string | null;
  readonly role: Role | null;
  readonly projects: string;
  readonly removedAt: Date | null;
}

const columns = sql`tenant_id, member_id, name, email, external_id, role, projects, created_by, version, created_at,
  changed_at, removed_at`;

/** By primary key. A unique violation where another member has the external id. */
export async function insertMember(
  tx: KeyHandle,
  made: { tenantId: string; memberId: string; createdBy: string; createdAt: Date },
  values: MemberValues,
): Promise<MemberRow> {
  const { rows } = await sql<MemberRow>`
    insert into tenant.members
      (tenant_id, member_id, name, email, external_id, role, projects, created_by, created_at)
    values
      (${made.tenantId}, ${made.memberId}, ${values.name}, ${values.email}, ${values.externalId}, ${values.role},
       ${values.projects}, ${made.createdBy}, ${made.createdAt})
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/**
 * A page of a tenant's members and one more, newest first; null where `after` is no member of the tenant.
 * By members_by_age, backwards.
 */
export async function selectMembers(
  tx: KeyHandle,
  tenantId: string,
  page: { after: string | null; limit: number },
): Promise<readonly MemberRow[] | null> {
  const cursor = page.after === null ? null : await selectMember(tx, tenantId, page.after);
  if (cursor === undefined) return null;
  const beyond =
    cursor === null
      ? sql`true`
      : sql`(created_at, member_id) < (${cursor.created_at}, ${cursor.member_id}::uuid)`;
  const { rows } = await sql<MemberRow>`
    select ${columns} from tenant.members where tenant_id = ${tenantId} and ${beyond}
    order by created_at desc, member_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

/** By primary key. */
export async function selectMember(
  tx: KeyHandle,
  tenantId: string,
  memberId: string,
): Promise<MemberRow | undefined> {
  const { rows } = await sql<MemberRow>`
    select ${columns} from tenant.members where tenant_id = ${tenantId} and member_id = ${memberId}
  `.execute(tx);
  return rows[0];
}

/** Reads a member and keeps others from changing it until the transaction ends. By primary key. */
export async function lockMember(
  tx: KeyHandle,
  tenantId: string,
  memberId: string,
): Promise<MemberRow | undefined> {
  const { rows } = await sql<MemberRow>`
    select ${columns} from tenant.members where tenant_id = ${tenantId} and member_id = ${memberId} for update
  `.execute(tx);
  return rows[0];
}

/** Writes what may change of a member; the caller holds its lock. By primary key. */
export async function updateMember(
  tx: KeyHandle,
  tenantId: string,
  memberId: string,
  values: MemberValues,
): Promise<MemberRow> {
  const { rows } = await sql<MemberRow>`
    update tenant.members
    set name = ${values.name}, email = ${values.email}, external_id = ${values.externalId}, role = ${values.role},
        projects = ${values.projects}, removed_at = ${values.removedAt},
        version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and member_id = ${memberId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

export interface TouchedKeyRow {
  readonly tenant_id: string;
  readonly key_id: string;
  readonly name: string;
  readonly version: bigint;
  readonly changed_at: Date;
  readonly revoked_at: Date | null;
}

/**
 * Moves the version of a member's keys that are not revoked, since what they may do changes with the member: so every
 * process hears of it as of any change of a key. By api_keys_by_member.
 */
export async function touchMemberKeys(
  tx: KeyHandle,
  tenantId: string,
  memberId: string,
): Promise<readonly TouchedKeyRow[]> {
  const { rows } = await sql<TouchedKeyRow>`
    update tenant.api_keys set version = version + 1, changed_at = clock_timestamp()
    where tenant_id = ${tenantId} and member_id = ${memberId} and revoked_at is null
    returning tenant_id, key_id, name, version, changed_at, revoked_at
  `.execute(tx);
  return rows;
}

/** The living member that an outside issuer's tokens name so. By members_by_external_id. */
export async function selectMemberByExternalId(
  tx: SystemHandle,
  tenantId: string,
  externalId: string,
): Promise<MemberRow | undefined> {
  const { rows } = await sql<MemberRow>`
    select ${columns} from tenant.members
    where tenant_id = ${tenantId} and external_id = ${externalId} and removed_at is null
  `.execute(tx);
  return rows[0];
}

function one(rows: readonly MemberRow[]): MemberRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a member returned none');
  return row;
}
