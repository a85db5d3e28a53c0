import type { Database, OperatorContext } from '#db';
import { AppError, type Clock } from '#kernel';
import { isKeyId, keyPrefixes, makeKey } from '../key-format.ts';
import {
  insertOperatorKey,
  type OperatorKeyRow,
  revokeOperatorKey,
  selectOperatorKeys,
} from './operator-keys.sql.ts';

/** An operator's key without its plaintext. Times are RFC 3339, UTC. */
export interface OperatorKey {
  readonly id: string;
  readonly name: string;
  readonly lastFour: string;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
  readonly revokedAt: string | null;
  readonly lastUsedAt: string | null;
}

export interface OperatorKeyStore {
  /** Makes a key for the operator; `key` is its plaintext, shown this once. `by` is `system:set-up` for the first. */
  createOperatorKey(
    by: OperatorContext,
    options: { readonly name: string; readonly expiresAt?: Date },
  ): Promise<OperatorKey & { readonly key: string }>;
  /** All of them, newest first, the revoked among them. */
  listOperatorKeys(by: OperatorContext): Promise<readonly OperatorKey[]>;
  /** For good; effective within one second. Throws `not_found`. May be called twice. */
  revokeOperatorKey(by: OperatorContext, keyId: string): Promise<void>;
}

export interface OperatorKeyStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly cell: string;
  /** Called after the commit of a change of a key, awaited before the answer goes out. */
  readonly onChanged: (keyId: string, version: number) => Promise<void>;
}

export function createOperatorKeyStore({
  db,
  clock,
  cell,
  onChanged,
}: OperatorKeyStoreDeps): OperatorKeyStore {
  return {
    async createOperatorKey(by, { name, expiresAt }) {
      const { keyId, key, hash, lastFour } = makeKey(keyPrefixes.operator, cell);
      const createdAt = new Date(clock.now());
      const row = await db.withOperator(by, `operator_keys.create ${keyId}`, (tx) =>
        insertOperatorKey(tx, {
          keyId,
          hash,
          lastFour,
          name,
          createdBy: by.operator,
          createdAt,
          expiresAt: expiresAt ?? null,
        }),
      );
      return { ...toOperatorKey(row), key };
    },

    async listOperatorKeys(by) {
      const rows = await db.withOperator(by, 'operator_keys.list', selectOperatorKeys);
      return rows.map(toOperatorKey);
    },

    async revokeOperatorKey(by, keyId) {
      if (!isKeyId(keyId)) throw noSuchOperatorKey();
      const revokedAt = new Date(clock.now());
      const version = await db.withOperator(by, `operator_keys.revoke ${keyId}`, (tx) =>
        revokeOperatorKey(tx, keyId, revokedAt),
      );
      if (version === null) throw noSuchOperatorKey();
      await onChanged(keyId, Number(version));
    },
  };
}

function noSuchOperatorKey(): AppError {
  return new AppError('not_found', 'There is no such operator key.');
}

function toOperatorKey(row: OperatorKeyRow): OperatorKey {
  const time = (value: Date | null): string | null => value?.toISOString() ?? null;
  return {
    id: row.key_id,
    name: row.name,
    lastFour: row.last_four,
    createdBy: row.created_by,
    createdAt: row.created_at.toISOString(),
    expiresAt: time(row.expires_at),
    revokedAt: time(row.revoked_at),
    lastUsedAt: time(row.last_used_at),
  };
}
