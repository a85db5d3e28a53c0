import type { ApiKeyObject, ChangeKeyBody, CreateKeyBody } from '@stoa/contracts';
import type { Database, OperatorContext } from '#db';
import { appendEvents } from '#events';
import { AppError, type Clock, type Page, pageOf, requireVersion, type TenantPrincipal } from '#kernel';
import { isKeyId, keyPrefixes, makeKey } from '../key-format.ts';
import { requireWithinOwnGrant } from './grant-bound.ts';
import { keyObject, scopesFrom } from './key-object.ts';
import {
  insertKey,
  type KeyHandle,
  type KeyRow,
  type KeyValues,
  lockKey,
  selectKey,
  selectKeys,
  selectTenantState,
  updateKey,
} from './keys.sql.ts';
import { keyTold } from './told.ts';

/** Who manages keys: the operator, for any tenant, or a key of the tenant itself. */
export type KeyCaller =
  | { readonly kind: 'operator'; readonly by: OperatorContext; readonly tenantId: string }
  | { readonly kind: 'tenant'; readonly principal: TenantPrincipal; readonly requestId?: string };

export interface KeyStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Two base62 characters that every new key's id starts with. */
  readonly cell: string;
  /** Called after the commit of a change of a key, awaited before the answer goes out. */
  readonly onChanged: (changed: KeyRow) => Promise<void>;
}

type NewKey = ApiKeyObject & { readonly key: string };

/** Errors: `not_found` also for keys of other tenants; `conflict` for a deleted tenant or a revoked key. */
export interface KeyStore {
  /** `answer` makes the result, inside the transaction, of the new key and its plaintext, in `key`, shown this once. */
  create<Answer>(
    caller: KeyCaller,
    body: CreateKeyBody,
    answer: (tx: KeyHandle, made: NewKey) => Promise<Answer>,
  ): Promise<Answer>;
  list(caller: KeyCaller, page: { after: string | null; limit: number }): Promise<Page<ApiKeyObject>>;
  read(caller: KeyCaller, keyId: string): Promise<ApiKeyObject>;
  change(
    caller: KeyCaller,
    keyId: string,
    body: ChangeKeyBody,
    ifMatch: string | null,
  ): Promise<ApiKeyObject>;
  /** For good. Revoking a revoked key changes nothing. */
  revoke(caller: KeyCaller, keyId: string, ifMatch: string | null): Promise<ApiKeyObject>;
}

async function throughDoor<T>(
  db: Database,
  caller: KeyCaller,
  reason: string,
  fn: (tx: KeyHandle, tenantId: string) => Promise<T>,
): Promise<T> {
  if (caller.kind === 'tenant') {
    const { tenantId } = caller.principal;
    const { requestId } = caller;
    const context = requestId === undefined ? { tenantId } : { tenantId, requestId };
    return db.withTenant(context, (tx) => fn(tx, tenantId));
  }
  const { by, tenantId } = caller;
  return db.withOperator({ ...by, tenantId }, reason, (tx) => fn(tx, tenantId));
}

/** Runs `decide` on the locked row and writes what it answers; null leaves the row as it is. */
async function changeLocked(
  { db, onChanged }: KeyStoreDeps,
  call: { caller: KeyCaller; keyId: string; reason: string; ifMatch: string | null },
  decide: (tx: KeyHandle, row: KeyRow) => Promise<KeyValues | null>,
): Promise<ApiKeyObject> {
  const { caller, keyId, reason, ifMatch } = call;
  if (!isKeyId(keyId)) throw noSuchKey();
  const { row, isChanged } = await throughDoor(db, caller, `${reason} ${keyId}`, async (tx, tenantId) => {
    const found = await lockKey(tx, tenantId, keyId);
    if (found === undefined) throw noSuchKey();
    requireVersion(ifMatch, Number(found.version));
    const values = await decide(tx, found);
    if (values === null) return { row: found, isChanged: false };
    const changed = await updateKey(tx, tenantId, keyId, values);
    await appendEvents(tx, [keyTold(found, changed, shownCaller(caller))]);
    return { row: changed, isChanged: true };
  });
  if (isChanged) await onChanged(row);
  return keyObject(row);
}

export function createKeyStore(deps: KeyStoreDeps): KeyStore {
  const { db, clock } = deps;
  return {
    create: (caller, body, answer) => create(deps, caller, body, answer),
    list: (caller, page) => list(db, caller, page),

    async read(caller, keyId) {
      if (!isKeyId(keyId)) throw noSuchKey();
      const row = await throughDoor(db, caller, 'tenant_keys.read', (tx, tenantId) =>
        selectKey(tx, tenantId, keyId),
      );
      if (row === undefined) throw noSuchKey();
      return keyObject(row);
    },

    async change(caller, keyId, body, ifMatch) {
      const call = { caller, keyId, reason: 'tenant_keys.change', ifMatch };
      return changeLocked(deps, call, async (tx, row) => {
        if (row.revoked_at !== null)
          throw new AppError('conflict', 'The key is revoked; it cannot be changed.');
        const values = changedValues(row, body, new Date(clock.now()));
        const changesGrant =
          body.role !== undefined || body.scopes !== undefined || body.expires_at !== undefined;
        if (changesGrant) await requireGrantable(tx, caller, values);
        return values;
      });
    },

    async revoke(caller, keyId, ifMatch) {
      const call = { caller, keyId, reason: 'tenant_keys.revoke', ifMatch };
      return changeLocked(deps, call, async (_tx, row) =>
        row.revoked_at === null ? { ...storedValues(row), revokedAt: new Date(clock.now()) } : null,
      );
    },
  };
}

async function create<Answer>(
  { db, clock, cell }: KeyStoreDeps,
  caller: KeyCaller,
  body: CreateKeyBody,
  answer: (tx: KeyHandle, made: NewKey) => Promise<Answer>,
): Promise<Answer> {
  const createdAt = new Date(clock.now());
  const values = valuesOf(body, createdAt);
  const { keyId, key, hash, lastFour } = makeKey(keyPrefixes.tenant, cell);
  return throughDoor(db, caller, `tenant_keys.create ${keyId}`, async (tx, tenantId) => {
    await requireLivingTenant(tx, tenantId);
    await requireGrantable(tx, caller, values);
    const made = { tenantId, keyId, hash, lastFour, createdAt, createdBy: creatorOf(caller) };
    const row = await insertKey(tx, made, values);
    await appendEvents(tx, [keyTold(null, row, shownCaller(caller))]);
    return answer(tx, { ...keyObject(row), key });
  });
}

async function list(
  db: Database,
  caller: KeyCaller,
  page: { after: string | null; limit: number },
): Promise<Page<ApiKeyObject>> {
  const canExist = page.after === null || isKeyId(page.after);
  const rows = await throughDoor(db, caller, 'tenant_keys.list', async (tx, tenantId) => {
    if ((await selectTenantState(tx, tenantId)) === null) throw noSuchTenant();
    return canExist ? selectKeys(tx, tenantId, page) : null;
  });
  if (rows === null) {
    throw new AppError('invalid_request', 'after: must be the id of a key of the list.', {
      param: 'after',
    });
  }
  return pageOf(rows.map(keyObject), page.limit, (key) => key.id);
}

async function requireLivingTenant(tx: KeyHandle, tenantId: string): Promise<void> {
  const state = await selectTenantState(tx, tenantId);
  if (state === null) throw noSuchTenant();
  if (state === 'deleted') throw new AppError('conflict', 'The tenant is deleted; restore it first.');
}

/** The operator may grant anything; a tenant's key no more than it holds, for no longer than it lives. */
async function requireGrantable(tx: KeyHandle, caller: KeyCaller, values: KeyValues): Promise<void> {
  if (caller.kind === 'operator') return;
  const { principal } = caller;
  const own = await selectKey(tx, principal.tenantId, principal.keyId);
  requireWithinOwnGrant(principal, own?.expires_at ?? null, {
    role: values.role,
    scopes: scopesFrom(values.scopes),
    expiresAt: values.expiresAt,
  });
}

function creatorOf(caller: KeyCaller): string {
  return caller.kind === 'operator' ? `operator:${caller.by.operator}` : `key:${caller.principal.keyId}`;
}

/** Who it was, for the tenant: which of the operator's keys is in the audit entries alone. */
function shownCaller(caller: KeyCaller): string {
  return caller.kind === 'operator' ? 'operator' : `key:${caller.principal.keyId}`;
}

function futureTime(text: string | null, now: Date): Date | null {
  if (text === null) return null;
  const time = new Date(text);
  if (time > now) return time;
  throw new AppError('invalid_request', 'expires_at: must lie in the future.', { param: 'expires_at' });
}

function valuesOf(body: CreateKeyBody, now: Date): KeyValues {
  return {
    name: body.name,
    role: body.role,
    scopes: body.scopes === null ? null : [...new Set(body.scopes)],
    projectId: body.project_id,
    tags: JSON.stringify(body.tags),
    expiresAt: futureTime(body.expires_at, now),
    revokedAt: null,
  };
}

function storedValues(row: KeyRow): KeyValues {
  return {
    name: row.name,
    role: row.role,
    scopes: row.scopes,
    projectId: row.project_id,
    tags: row.tags,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  };
}

/** What a change makes of a key; what it leaves out stays. */
function changedValues(row: KeyRow, body: ChangeKeyBody, now: Date): KeyValues {
  const stored = storedValues(row);
  return {
    name: body.name ?? stored.name,
    role: body.role ?? stored.role,
    scopes: body.scopes === undefined ? stored.scopes : body.scopes && [...new Set(body.scopes)],
    projectId: body.project_id === undefined ? stored.projectId : body.project_id,
    tags: body.tags === undefined ? stored.tags : JSON.stringify(body.tags),
    expiresAt: body.expires_at === undefined ? stored.expiresAt : futureTime(body.expires_at, now),
    revokedAt: stored.revokedAt,
  };
}

/** One answer for a key that never was and for another tenant's. */
function noSuchKey(): AppError {
  return new AppError('not_found', 'There is no such key.');
}

function noSuchTenant(): AppError {
  return new AppError('not_found', 'There is no such tenant.');
}
