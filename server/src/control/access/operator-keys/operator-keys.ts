import type { CreateOperatorKeyBody, OperatorKeyObject, RotateKeyBody } from '@stoa/contracts';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import { AppError, type Clock, type Page, pageOf, requireVersion } from '#kernel';
import { isKeyId, keyPrefixes, makeKey, makeKeyOfId } from '../key-format.ts';
import {
  insertOperatorKey,
  lockOperatorKey,
  type OperatorKeyRow,
  replaceOperatorSecret,
  revokeOperatorKeyRow,
  selectOperatorKey,
  selectOperatorKeys,
} from './operator-keys.sql.ts';

export type NewOperatorKey = OperatorKeyObject & { readonly key: string };

export interface OperatorKeyStore {
  /**
   * A new key; `answer` runs in its transaction, and what it returns is returned. `key` is the plaintext, shown this once.
   * @throws AppError `invalid_request` where it would expire before now; `permission_denied` where it would outlive the key
   *   that makes it
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
   * Gives a key a new secret under its id; `answer` as of `create`. The present one is accepted beside it for the overlap, one
   * that was before that no more. A key that has expired comes back by a new end, with its new secret alone.
   * @throws AppError `not_found`, `version_conflict`, `invalid_request`; `conflict` for a key that is revoked, or has expired
   *   and gets no new end; `permission_denied` where it would outlive the key that asks
   */
  rotate<Answer>(
    by: OperatorContext,
    keyId: string,
    body: RotateKeyBody,
    ifMatch: string | null,
    answer: (tx: OperatorHandle, rotated: NewOperatorKey) => Promise<Answer>,
  ): Promise<Answer>;
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
  const { db, clock } = deps;
  return {
    create: (by, body, answer) => create(deps, by, body, answer),
    rotate: (by, keyId, body, ifMatch, answer) => rotate(deps, { by, keyId, ifMatch }, body, answer),

    async list(by, page) {
      const rows = await db.withOperator(by, 'operator_keys.list', async (tx) =>
        page.after === null || isKeyId(page.after) ? selectOperatorKeys(tx, page) : null,
      );
      if (rows === null) {
        throw new AppError('invalid_request', 'after: must be the id of a key of the list.', {
          param: 'after',
        });
      }
      const now = new Date(clock.now());
      return pageOf(
        rows.map((row) => operatorKeyObject(row, now)),
        page.limit,
        (key) => key.id,
      );
    },

    async read(by, keyId) {
      if (!isKeyId(keyId)) throw noSuchOperatorKey();
      const row = await db.withOperator(by, 'operator_keys.read', (tx) => selectOperatorKey(tx, keyId));
      if (row === undefined) throw noSuchOperatorKey();
      return operatorKeyObject(row, new Date(clock.now()));
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
  const expiresAt = futureTime(body.expires_at, createdAt);
  const { keyId, key, hash, lastFour } = makeKey(keyPrefixes.operator, cell);
  return db.withOperator(by, `operator_keys.create ${keyId}`, async (tx) => {
    const { name, role } = body;
    await requireWithinOwnLife(tx, by, expiresAt);
    const made = { keyId, hash, lastFour, name, role, createdBy: by.operator, createdAt, expiresAt };
    const row = await insertOperatorKey(tx, made);
    const shown = operatorKeyObject(row, createdAt);
    await tx.audit({ action: 'operator_keys.create', resource: audited(keyId), after: shown });
    return answer(tx, { ...shown, key });
  });
}

async function rotate<Answer>(
  { db, clock, onChanged }: OperatorKeyStoreDeps,
  call: { readonly by: OperatorContext; readonly keyId: string; readonly ifMatch: string | null },
  body: RotateKeyBody,
  answer: (tx: OperatorHandle, rotated: NewOperatorKey) => Promise<Answer>,
): Promise<Answer> {
  const { by, keyId, ifMatch } = call;
  if (!isKeyId(keyId)) throw noSuchOperatorKey();
  const now = new Date(clock.now());
  const { key, hash, lastFour } = makeKeyOfId(keyPrefixes.operator, keyId);
  const done = await db.withOperator(by, `operator_keys.rotate ${keyId}`, async (tx) => {
    const found = await lockOperatorKey(tx, keyId);
    if (found === undefined) throw noSuchOperatorKey();
    requireVersion(ifMatch, Number(found.version));
    if (found.revoked_at !== null)
      throw new AppError('conflict', 'The key is revoked; make a new one in its place.');
    const isExpired = found.expires_at !== null && found.expires_at <= now;
    if (isExpired && body.expires_at === undefined)
      throw new AppError('conflict', 'The key has expired; send an expires_at, or make a new one.');
    const expiresAt = body.expires_at === undefined ? found.expires_at : futureTime(body.expires_at, now);
    await requireWithinOwnLife(tx, by, expiresAt);
    const previousUntil = new Date(now.getTime() + (isExpired ? 0 : body.overlap_seconds * 1000));
    const secret = { hash, lastFour, rotatedAt: now, previousUntil };
    const row = await replaceOperatorSecret(tx, keyId, secret, expiresAt);
    const shown = operatorKeyObject(row, now);
    await tx.audit({
      action: 'operator_keys.rotate',
      resource: audited(keyId),
      before: operatorKeyObject(found, now),
      after: shown,
    });
    return { version: Number(row.version), answer: await answer(tx, { ...shown, key }) };
  });
  await onChanged(keyId, done.version);
  return done.answer;
}

function futureTime(text: string | null, now: Date): Date | null {
  const time = text === null ? null : new Date(text);
  if (time === null || time > now) return time;
  throw new AppError('invalid_request', 'expires_at: must lie in the future.', { param: 'expires_at' });
}

/** A key that ends makes, and is shown, none that lasts longer; `stoa db operator-key` makes one by the database. */
async function requireWithinOwnLife(
  tx: OperatorHandle,
  { operator }: OperatorContext,
  expiresAt: Date | null,
): Promise<void> {
  const ownExpiry = isKeyId(operator) ? ((await selectOperatorKey(tx, operator))?.expires_at ?? null) : null;
  if (ownExpiry === null || (expiresAt !== null && expiresAt <= ownExpiry)) return;
  throw new AppError(
    'permission_denied',
    `A key may not grant a longer life than its own, which ends at ${ownExpiry.toISOString()}.`,
    { param: 'expires_at' },
  );
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
  const now = new Date(clock.now());
  const { row, isChanged } = await db.withOperator(by, `operator_keys.revoke ${keyId}`, async (tx) => {
    const found = await lockOperatorKey(tx, keyId);
    if (found === undefined) throw noSuchOperatorKey();
    requireVersion(ifMatch, Number(found.version));
    if (found.revoked_at !== null) return { row: found, isChanged: false };
    const row = await revokeOperatorKeyRow(tx, keyId, now);
    await tx.audit({
      action: 'operator_keys.revoke',
      resource: audited(keyId),
      before: operatorKeyObject(found, now),
      after: operatorKeyObject(row, now),
    });
    return { row, isChanged: true };
  });
  if (isChanged) await onChanged(keyId, Number(row.version));
  return operatorKeyObject(row, now);
}

function audited(keyId: string) {
  return { type: 'operator_key', id: keyId };
}

function noSuchOperatorKey(): AppError {
  return new AppError('not_found', 'There is no such operator key.');
}

function operatorKeyObject(row: OperatorKeyRow, now: Date): OperatorKeyObject {
  const { previous_until: until } = row;
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
    rotated_at: time(row.rotated_at),
    previous_secret_expires_at: time(until !== null && until > now ? until : null),
  };
}
