import type {
  ApiKeyObject,
  ChangeKeyBody,
  CreateKeyBody,
  KeyListQuery,
  RotateKeyBody,
} from '@stoa/contracts';
import type { Database } from '#db';
import { appendEvents } from '#events';
import { AppError, type Clock, fromTypeId, type Page, pageOf, requireVersion, toTypeId } from '#kernel';
import {
  actOf,
  creatorOf,
  type KeyCaller,
  noSuchKey,
  requireLivingTenant,
  requireTenant,
  shownCaller,
  throughDoor,
} from '../caller.ts';
import { memberRoleIn, projectsFrom } from '../members/member-role.ts';
import { selectMember } from '../members/members.sql.ts';
import { isKeyId, keyPrefixes, makeKey, makeKeyOfId } from '../key-format.ts';
import { readAllowedIps } from './allowed-ips.ts';
import {
  boundsOf,
  type HasKeyLimits,
  requireUnlimited,
  type KeyGrant,
  requireWithinOwnGrant,
  widens,
} from './grant-bound.ts';
import { keyObject, scopesFrom } from './key-object.ts';
import { beyondPolicy, requireLifetime } from './key-policy.ts';
import {
  insertKey,
  type KeyFilter,
  type KeyHandle,
  type KeyRow,
  type KeyValues,
  lockKey,
  replaceSecret,
  selectKey,
  selectKeys,
  updateKey,
} from './keys.sql.ts';
import { keyTold } from './told.ts';

export interface KeyStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Two base62 characters that every new key's id starts with. */
  readonly cell: string;
  readonly hasKeyLimits: HasKeyLimits;
  /** Called after the commit of a change of a key, awaited before the answer goes out. */
  readonly onChanged: (changed: KeyRow) => Promise<void>;
}

type NewKey = ApiKeyObject & { readonly key: string };

/**
 * Errors: `not_found` also for keys of other tenants; `conflict` for a deleted tenant or a revoked key;
 * `key_lifetime_exceeded` where an end is set that the tenant's key policy does not allow.
 */
export interface KeyStore {
  /** `answer` makes the result, inside the transaction, of the new key and its plaintext, in `key`, shown this once. */
  create<Answer>(
    caller: KeyCaller,
    body: CreateKeyBody,
    answer: (tx: KeyHandle, made: NewKey) => Promise<Answer>,
  ): Promise<Answer>;
  list(caller: KeyCaller, query: KeyListQuery): Promise<Page<ApiKeyObject>>;
  read(caller: KeyCaller, keyId: string): Promise<ApiKeyObject>;
  change(
    caller: KeyCaller,
    keyId: string,
    body: ChangeKeyBody,
    ifMatch: string | null,
  ): Promise<ApiKeyObject>;
  /**
   * Gives a key a new secret under its id. The present one is accepted beside it for the overlap, one that was before that
   * no more, so that at most two are accepted. A key that has expired comes back by a new end, with its new secret alone.
   * A tenant's caller must hold all that the key grants, since it is shown the key; a member's must be its member's.
   */
  rotate<Answer>(
    caller: KeyCaller,
    keyId: string,
    body: RotateKeyBody,
    ifMatch: string | null,
    answer: (tx: KeyHandle, rotated: NewKey) => Promise<Answer>,
  ): Promise<Answer>;
  /** For good. Revoking a revoked key changes nothing. */
  revoke(caller: KeyCaller, keyId: string, ifMatch: string | null): Promise<ApiKeyObject>;
}

/** Runs `decide` on the locked row and writes what it answers; null leaves the row as it is. */
async function changeLocked(
  { db, clock, onChanged }: KeyStoreDeps,
  call: { caller: KeyCaller; keyId: string; verb: 'change' | 'revoke'; ifMatch: string | null },
  decide: (tx: KeyHandle, row: KeyRow) => Promise<KeyValues | null>,
): Promise<ApiKeyObject> {
  const { caller, keyId, verb, ifMatch } = call;
  if (!isKeyId(keyId)) throw noSuchKey();
  const { row, isChanged } = await throughDoor(
    db,
    caller,
    `tenant_keys.${verb} ${keyId}`,
    async (tx, tenantId) => {
      const found = await lockKey(tx, tenantId, keyId);
      if (found === undefined) throw noSuchKey();
      requireVersion(ifMatch, Number(found.version));
      const values = await decide(tx, found);
      if (values === null) return { row: found, isChanged: false };
      const changed = await updateKey(tx, tenantId, keyId, values);
      await appendEvents(tx, [keyTold(found, changed, shownCaller(caller))]);
      const now = clock.now();
      await tx.audit({
        action: actOf(caller, `keys.${verb}`),
        resource: audited(keyId),
        before: keyObject(found, now),
        after: keyObject(changed, now),
      });
      return { row: changed, isChanged: true };
    },
  );
  if (isChanged) await onChanged(row);
  return keyObject(row, clock.now());
}

export function createKeyStore(deps: KeyStoreDeps): KeyStore {
  const { db, clock } = deps;
  return {
    create: (caller, body, answer) => create(deps, caller, body, answer),
    rotate: (caller, keyId, body, ifMatch, answer) => rotate(deps, { caller, keyId, ifMatch }, body, answer),
    list: (caller, query) => list(deps, caller, query),

    async read(caller, keyId) {
      if (!isKeyId(keyId)) throw noSuchKey();
      const row = await throughDoor(db, caller, 'tenant_keys.read', (tx, tenantId) =>
        selectKey(tx, tenantId, keyId),
      );
      if (row === undefined) throw noSuchKey();
      return keyObject(row, clock.now());
    },

    async change(caller, keyId, body, ifMatch) {
      const call = { caller, keyId, verb: 'change' as const, ifMatch };
      return changeLocked(deps, call, async (tx, row) => {
        if (row.revoked_at !== null)
          throw new AppError('conflict', 'The key is revoked; it cannot be changed.');
        const values = changedValues(row, body, new Date(clock.now()));
        const { role, scopes, project_id: projectId, expires_at: expiresAt, allowed_ips: allowedIps } = body;
        if ([role, scopes, projectId, expiresAt, allowedIps].some((value) => value !== undefined))
          await requireGrantable(tx, caller, values);
        if (widens(grantIn(storedValues(row)), grantIn(values))) requireOwnMembers(caller, row.member_id);
        if (expiresAt !== undefined)
          await requireLifetime(tx, row.tenant_id, row.rotated_at ?? row.created_at, values.expiresAt);
        return values;
      });
    },

    async revoke(caller, keyId, ifMatch) {
      const call = { caller, keyId, verb: 'revoke' as const, ifMatch };
      return changeLocked(deps, call, async (_tx, row) =>
        row.revoked_at === null ? { ...storedValues(row), revokedAt: new Date(clock.now()) } : null,
      );
    },
  };
}

async function create<Answer>(
  { db, clock, cell, hasKeyLimits }: KeyStoreDeps,
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
    if (caller.kind === 'tenant') await requireUnlimited(hasKeyLimits, tx, caller.principal, null);
    await requireLifetime(tx, tenantId, createdAt, values.expiresAt);
    const memberId = await requireHolder(tx, tenantId, { ...body, member_id: holderFor(caller, body) });
    const made = { tenantId, keyId, hash, lastFour, createdAt, createdBy: creatorOf(caller), memberId };
    const row = await insertKey(tx, made, values);
    await appendEvents(tx, [keyTold(null, row, shownCaller(caller))]);
    const shown = keyObject(row, clock.now());
    await tx.audit({ action: actOf(caller, 'keys.create'), resource: audited(keyId), after: shown });
    return answer(tx, { ...shown, key });
  });
}

function audited(keyId: string) {
  return { type: 'api_key', id: keyId };
}

async function rotate<Answer>(
  { db, clock, onChanged, hasKeyLimits }: KeyStoreDeps,
  call: { caller: KeyCaller; keyId: string; ifMatch: string | null },
  body: RotateKeyBody,
  answer: (tx: KeyHandle, rotated: NewKey) => Promise<Answer>,
): Promise<Answer> {
  const { caller, keyId, ifMatch } = call;
  if (!isKeyId(keyId)) throw noSuchKey();
  const now = new Date(clock.now());
  const { key, hash, lastFour } = makeKeyOfId(keyPrefixes.tenant, keyId);
  const done = await throughDoor(db, caller, `tenant_keys.rotate ${keyId}`, async (tx, tenantId) => {
    await requireLivingTenant(tx, tenantId);
    const found = await lockKey(tx, tenantId, keyId);
    if (found === undefined) throw noSuchKey();
    requireVersion(ifMatch, Number(found.version));
    if (found.revoked_at !== null)
      throw new AppError('conflict', 'The key is revoked; make a new one in its place.');
    const isExpired = found.expires_at !== null && found.expires_at <= now;
    if (isExpired && body.expires_at === undefined)
      throw new AppError(
        'conflict',
        'The key has expired; send an expires_at, or make a new one in its place.',
      );
    const expiresAt = body.expires_at === undefined ? found.expires_at : futureTime(body.expires_at, now);
    await requireGrantable(tx, caller, { ...storedValues(found), expiresAt });
    requireOwnMembers(caller, found.member_id);
    if (caller.kind === 'tenant') await requireUnlimited(hasKeyLimits, tx, caller.principal, keyId);
    await requireLifetime(tx, tenantId, now, expiresAt);
    const overlapMs = isExpired ? 0 : body.overlap_seconds * 1000;
    const secret = { hash, lastFour, rotatedAt: now, previousUntil: new Date(now.getTime() + overlapMs) };
    const rotated = await replaceSecret(tx, tenantId, keyId, secret, expiresAt);
    await appendEvents(tx, [keyTold(found, rotated, shownCaller(caller))]);
    const shown = keyObject(rotated, now.getTime());
    await tx.audit({
      action: actOf(caller, 'keys.rotate'),
      resource: audited(keyId),
      before: keyObject(found, now.getTime()),
      after: shown,
    });
    return { rotated, answer: await answer(tx, { ...shown, key }) };
  });
  await onChanged(done.rotated);
  return done.answer;
}

async function list(
  { db, clock }: KeyStoreDeps,
  caller: KeyCaller,
  query: KeyListQuery,
): Promise<Page<ApiKeyObject>> {
  const { after = null, limit } = query;
  const canExist = after === null || isKeyId(after);
  const now = new Date(clock.now());
  const rows = await throughDoor(db, caller, 'tenant_keys.list', async (tx, tenantId) => {
    await requireTenant(tx, tenantId);
    if (!canExist) return null;
    const filter = await filterOf(tx, tenantId, query, now);
    return filter === 'none' ? [] : selectKeys(tx, tenantId, { after, limit, filter });
  });
  if (rows === null) {
    throw new AppError('invalid_request', 'after: must be the id of a key of the list.', {
      param: 'after',
    });
  }
  return pageOf(
    rows.map((row) => keyObject(row, now.getTime())),
    limit,
    (key) => key.id,
  );
}

const dayMs = 24 * 60 * 60 * 1000;

/** What a list is asked to show: null for all keys, `none` where no key can be meant. */
async function filterOf(
  tx: KeyHandle,
  tenantId: string,
  query: KeyListQuery,
  now: Date,
): Promise<KeyFilter | null | 'none'> {
  const { unused_days: unusedDays, beyond_policy: beyond } = query;
  if (unusedDays !== undefined && beyond === 'true') {
    throw new AppError(
      'invalid_request',
      'unused_days: send it without beyond_policy; one filter at a time.',
      {
        param: 'unused_days',
      },
    );
  }
  if (unusedDays !== undefined)
    return { kind: 'unused', since: new Date(now.getTime() - unusedDays * dayMs), now };
  return beyond === 'true' ? ((await beyondPolicy(tx, tenantId, now)) ?? 'none') : null;
}

/**
 * What a member makes is the member's too, so that it ends when the member is removed.
 * @throws AppError `permission_denied` where a member's caller asks for a key of another's
 */
function holderFor(caller: KeyCaller, { member_id: asked }: CreateKeyBody): string | null {
  if (caller.kind === 'operator' || caller.principal.memberId === undefined) return asked;
  const own = toTypeId('mem', caller.principal.memberId);
  if (asked === null || asked === own) return own;
  throw new AppError(
    'permission_denied',
    "A member's key or token makes keys of that member only; leave member_id out, or use a key that is no member's.",
    { param: 'member_id' },
  );
}

/**
 * A member's caller is shown, and widens, keys of that member only: any other would outlast the member, or act as another.
 * @throws AppError `permission_denied`
 */
function requireOwnMembers(caller: KeyCaller, holder: string | null): void {
  if (caller.kind === 'operator') return;
  const { memberId } = caller.principal;
  if (memberId === undefined || memberId === holder) return;
  const message =
    "A member's key or token rotates or widens keys of that member only; use a key that is no member's.";
  throw new AppError('permission_denied', message);
}

/** The member whose key it is to be, UUID text; it must be there and have a role where the key works. */
async function requireHolder(
  tx: KeyHandle,
  tenantId: string,
  body: Pick<CreateKeyBody, 'member_id' | 'project_id'>,
): Promise<string | null> {
  if (body.member_id === null) return null;
  const uuid = fromTypeId('mem', body.member_id);
  const member = uuid === null ? undefined : await selectMember(tx, tenantId, uuid);
  if (member === undefined || member.removed_at !== null)
    throw new AppError('invalid_request', 'member_id: there is no such member.', { param: 'member_id' });
  const roles = { role: member.role, projects: projectsFrom(member.projects) };
  if (memberRoleIn(roles, body.project_id) !== null) return member.member_id;
  throw new AppError(
    'invalid_request',
    'member_id: the member has no role where the key works; give the key a project of the member.',
    { param: 'member_id' },
  );
}

/** The operator may grant anything; a tenant's key no more than it holds, for no longer than it lives, from nowhere else. */
async function requireGrantable(tx: KeyHandle, caller: KeyCaller, values: KeyValues): Promise<void> {
  if (caller.kind === 'operator') return;
  const { principal } = caller;
  requireWithinOwnGrant(principal, await boundsOf(tx, principal), grantIn(values));
}

function grantIn({ role, scopes, projectId, expiresAt, allowedIps }: KeyValues): KeyGrant {
  return { role, scopes: scopesFrom(scopes), projectId, expiresAt, allowedIps };
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
    allowedIps: readAllowedIps(body.allowed_ips),
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
    allowedIps: row.allowed_ips,
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
    allowedIps: body.allowed_ips === undefined ? stored.allowedIps : readAllowedIps(body.allowed_ips),
    expiresAt: body.expires_at === undefined ? stored.expiresAt : futureTime(body.expires_at, now),
    revokedAt: stored.revokedAt,
  };
}
