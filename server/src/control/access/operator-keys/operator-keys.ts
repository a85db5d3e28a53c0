import type { CreateOperatorKeyBody, OperatorKeyObject } from '@stoa/contracts';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import { AppError, type Clock, type Page, pageOf, requireVersion } from '#kernel';
import { isKeyId, keyPrefixes, makeKey } from '../key-format.ts';
import {
  insertOperatorKey,
  lockOperatorKey,
  type OperatorKeyRow,
  revokeOperatorKeyRow,
  selectOperatorKey,
  selectOperatorKeys,
} from './operator-keys.sql.ts';

export type NewOperatorKey = OperatorKeyObject & { readonly key: string };

export interface OperatorKeyStore {
  /**
   * A new key; `answer` runs in its transaction, and what it returns is returned. `key` is the plaintext, shown this once.
   * @throws AppError `invalid_request` where it would expire before now
   */
  create<Answer>(
    by: OperatorContext,
    body: CreateOperatorKeyBody,
    answer: (tx: OperatorHandle, made: NewOperatorKey) => Promise<Answer>,
  ): Promise<Answer>;
  /** Newest first, the revoked among them. */
  list(
    by: OperatorContext,
    page: { readonly after: string | null; readonly limit: number },
  ): Promise<Page<OperatorKeyObject>>;
  read(by: OperatorContext, keyId: string): Promise<OperatorKeyObject>;
  /**
   * For good; effective within one second. May be called twice.
   * @throws AppError `not_found`, `version_conflict`, or `conflict` where a key would revoke itself
   */
  revoke(by: OperatorContext, keyId: string, ifMatch: string | null): Promise<OperatorKeyObject>;
}

export interface OperatorKeyStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly cell: string;
  /** Called after the commit of a change of a key, awaited before the answer goes out. */
  readonly onChanged: (keyId: string, version: number) => Promise<void>;
}

export function createOperatorKeyStore(deps: OperatorKeyStoreDeps): OperatorKeyStore {
  const { db } = deps;
  return {
    create: (by, body, answer) => create(deps, by, body, answer),

    async list(by, page) {
      const rows = await db.withOperator(by, 'operator_keys.list', async (tx) =>
        page.after === null || isKeyId(page.after) ? selectOperatorKeys(tx, page) : null,
      );
      if (rows === null) {
        throw new AppError('invalid_request', 'after: must be the id of a key of the list.', {
          param: 'after',
        });
      }
      return pageOf(rows.map(operatorKeyObject), page.limit, (key) => key.id);
    },

    async read(by, keyId) {
      if (!isKeyId(keyId)) throw noSuchOperatorKey();
      const row = await db.withOperator(by, 'operator_keys.read', (tx) => selectOperatorKey(tx, keyId));
      if (row === undefined) throw noSuchOperatorKey();
      return operatorKeyObject(row);
    },

    revoke: (by, keyId, ifMatch) => revoke(deps, by, keyId, ifMatch),
  };
}

async function create<Answer>(
  { db, clock, cell }: OperatorKeyStoreDeps,
  by: OperatorContext,
  body: CreateOperatorKeyBody,
  answer: (tx: OperatorHandle, made: NewOperatorKey) => Promise<Answer>,
): Promise<Answer> {
  const createdAt = new Date(clock.now());
  const expiresAt = body.expires_at === null ? null : new Date(body.expires_at);
  if (expiresAt !== null && expiresAt <= createdAt) {
    throw new AppError('invalid_request', 'expires_at: must lie in the future.', { param: 'expires_at' });
  }
  const { keyId, key, hash, lastFour } = makeKey(keyPrefixes.operator, cell);
  return db.withOperator(by, `operator_keys.create ${keyId}`, async (tx) => {
    const { name, role } = body;
    const made = { keyId, hash, lastFour, name, role, createdBy: by.operator, createdAt, expiresAt };
    const row = await insertOperatorKey(tx, made);
    const shown = operatorKeyObject(row);
    await tx.audit({ action: 'operator_keys.create', resource: audited(keyId), after: shown });
    return answer(tx, { ...shown, key });
  });
}

async function revoke(
  { db, clock, onChanged }: OperatorKeyStoreDeps,
  by: OperatorContext,
  keyId: string,
  ifMatch: string | null,
): Promise<OperatorKeyObject> {
  if (!isKeyId(keyId)) throw noSuchOperatorKey();
  // So that nobody locks the operator out by one call: the last key that works can't be the one that is revoked.
  if (by.operator === keyId)
    throw new AppError('conflict', 'A key cannot revoke itself: make another one and revoke this one by it.');
  const { row, isChanged } = await db.withOperator(by, `operator_keys.revoke ${keyId}`, async (tx) => {
    const found = await lockOperatorKey(tx, keyId);
    if (found === undefined) throw noSuchOperatorKey();
    requireVersion(ifMatch, Number(found.version));
    if (found.revoked_at !== null) return { row: found, isChanged: false };
    const row = await revokeOperatorKeyRow(tx, keyId, new Date(clock.now()));
    await tx.audit({
      action: 'operator_keys.revoke',
      resource: audited(keyId),
      before: operatorKeyObject(found),
      after: operatorKeyObject(row),
    });
    return { row, isChanged: true };
  });
  if (isChanged) await onChanged(keyId, Number(row.version));
  return operatorKeyObject(row);
}

function audited(keyId: string) {
  return { type: 'operator_key', id: keyId };
}

function noSuchOperatorKey(): AppError {
  return new AppError('not_found', 'There is no such operator key.');
}

function operatorKeyObject(row: OperatorKeyRow): OperatorKeyObject {
  const time = (value: Date | null): string | null => value?.toISOString() ?? null;
  return {
    id: row.key_id,
    object: 'operator_key',
    name: row.name,
    role: row.role,
    last_four: row.last_four,
    created_by: row.created_by,
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    expires_at: time(row.expires_at),
    revoked_at: time(row.revoked_at),
    last_used_at: time(row.last_used_at),
  };
}
