import { sql } from 'kysely';
import type { OperatorHandle } from '#db';

export interface OperatorKeyRow {
  readonly key_id: string;
  readonly last_four: string;
  readonly name: string;
  readonly created_by: string;
  readonly created_at: Date;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
}

const columns = sql`key_id, last_four, name, created_by, created_at, expires_at, revoked_at, last_used_at`;

/** By primary key. */
export async function insertOperatorKey(
  tx: OperatorHandle,
  key: {
    keyId: string;
    hash: Uint8Array;
    lastFour: string;
    name: string;
    createdBy: string;
    createdAt: Date;
    expiresAt: Date | null;
  },
): Promise<OperatorKeyRow> {
  const { rows } = await sql<OperatorKeyRow>`
    insert into platform.operator_keys (key_id, hash, last_four, name, created_by, created_at, expires_at)
    values (${key.keyId}, ${key.hash}, ${key.lastFour}, ${key.name}, ${key.createdBy}, ${key.createdAt}, ${key.expiresAt})
    returning ${columns}
  `.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new Error('an insert that returns a key returned none');
  return row;
}

/** All of them, newest first: they are few. */
export async function selectOperatorKeys(tx: OperatorHandle): Promise<readonly OperatorKeyRow[]> {
  const { rows } = await sql<OperatorKeyRow>`
    select ${columns} from platform.operator_keys order by created_at desc, key_id desc
  `.execute(tx);
  return rows;
}

/** By primary key. The new version, or null where there is no such key; a revoked one stays as it is. */
export async function revokeOperatorKey(
  tx: OperatorHandle,
  keyId: string,
  revokedAt: Date,
): Promise<bigint | null> {
  const { rows } = await sql<{ version: bigint }>`
    update platform.operator_keys
    set revoked_at = coalesce(revoked_at, ${revokedAt}), version = version + 1, changed_at = clock_timestamp()
    where key_id = ${keyId}
    returning version
  `.execute(tx);
  return rows[0]?.version ?? null;
}
