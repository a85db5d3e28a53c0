import type { OperatorRole } from '@stoa/contracts';
import { sql } from 'kysely';
import type { OperatorHandle } from '#db';
import type { NewSecret } from '../keys/keys.sql.ts';

export interface OperatorKeyRow {
  readonly key_id: string;
  readonly last_four: string;
  readonly name: string;
  readonly role: OperatorRole;
  readonly created_by: string;
  readonly version: bigint;
  readonly created_at: Date;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
  readonly rotated_at: Date | null;
  readonly previous_until: Date | null;
}

const columns = sql`key_id, last_four, name, role, created_by, version, created_at, expires_at, revoked_at,
  last_used_at, rotated_at, previous_until`;

export async function insertOperatorKey(
  tx: OperatorHandle,
  key: {
    keyId: string;
    hash: Uint8Array;
    lastFour: string;
    name: string;
    role: OperatorRole;
    createdBy: string;
    createdAt: Date;
    expiresAt: Date | null;
  },
): Promise<OperatorKeyRow> {
  const { rows } = await sql<OperatorKeyRow>`
    insert into platform.operator_keys (key_id, hash, last_four, name, role, created_by, created_at, expires_at)
    values (${key.keyId}, ${key.hash}, ${key.lastFour}, ${key.name}, ${key.role}, ${key.createdBy}, ${key.createdAt},
            ${key.expiresAt})
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** By primary key. */
export async function selectOperatorKey(
  tx: OperatorHandle,
  keyId: string,
): Promise<OperatorKeyRow | undefined> {
  const { rows } = await sql<OperatorKeyRow>`
    select ${columns} from platform.operator_keys where key_id = ${keyId}
  `.execute(tx);
  return rows[0];
}

/** By primary key, held until the end of the transaction. */
export async function lockOperatorKey(
  tx: OperatorHandle,
  keyId: string,
): Promise<OperatorKeyRow | undefined> {
  const { rows } = await sql<OperatorKeyRow>`
    select ${columns} from platform.operator_keys where key_id = ${keyId} for update
  `.execute(tx);
  return rows[0];
}

/**
 * A page and one more, newest first; null where `after` is no operator key. Sorts the table: the operator's keys are few.
 */
export async function selectOperatorKeys(
  tx: OperatorHandle,
  page: { after: string | null; limit: number },
): Promise<readonly OperatorKeyRow[] | null> {
  if (page.after === null) {
    const { rows } = await sql<OperatorKeyRow>`
      select ${columns} from platform.operator_keys order by created_at desc, key_id desc limit ${page.limit + 1}
    `.execute(tx);
    return rows;
  }
  if ((await selectOperatorKey(tx, page.after)) === undefined) return null;
  const { rows } = await sql<OperatorKeyRow>`
    select ${columns} from platform.operator_keys
    where (created_at, key_id) < (
      select cursor.created_at, cursor.key_id from platform.operator_keys cursor where cursor.key_id = ${page.after}
    )
    order by created_at desc, key_id desc limit ${page.limit + 1}
  `.execute(tx);
  return rows;
}

/** By primary key, of a row that the transaction holds. */
export async function revokeOperatorKeyRow(
  tx: OperatorHandle,
  keyId: string,
  revokedAt: Date,
): Promise<OperatorKeyRow> {
  const { rows } = await sql<OperatorKeyRow>`
    update platform.operator_keys
    set revoked_at = ${revokedAt}, version = version + 1, changed_at = clock_timestamp()
    where key_id = ${keyId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

/** Gives a key that the transaction holds another secret; the one before the one that was is no more. By primary key. */
export async function replaceOperatorSecret(
  tx: OperatorHandle,
  keyId: string,
  { hash, lastFour, rotatedAt, previousUntil }: NewSecret,
  expiresAt: Date | null,
): Promise<OperatorKeyRow> {
  const { rows } = await sql<OperatorKeyRow>`
    update platform.operator_keys
    set previous_hash = hash, previous_until = ${previousUntil}, hash = ${hash}, last_four = ${lastFour},
        rotated_at = ${rotatedAt}, expires_at = ${expiresAt}, version = version + 1, changed_at = clock_timestamp()
    where key_id = ${keyId}
    returning ${columns}
  `.execute(tx);
  return one(rows);
}

function one(rows: readonly OperatorKeyRow[]): OperatorKeyRow {
  const [row] = rows;
  if (row === undefined) throw new Error('a statement that returns a key returned none');
  return row;
}
