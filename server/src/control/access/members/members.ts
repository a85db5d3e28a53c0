import type { ChangeMemberBody, CreateMemberBody, MemberObject } from '@stoa/contracts';
import type { Database } from '#db';
import { appendEvents } from '#events';
import {
  AppError,
  type Clock,
  fromTypeId,
  newUuid,
  type Page,
  pageOf,
  requireVersion,
  toTypeId,
} from '#kernel';
import {
  actOf,
  creatorOf,
  type KeyCaller,
  requireLivingTenant,
  requireTenant,
  shownCaller,
  throughDoor,
} from '../caller.ts';
import { boundsOf, type HasKeyLimits, requireUnlimited, requireWithinOwnGrant } from '../keys/grant-bound.ts';
import type { KeyHandle } from '../keys/keys.sql.ts';
import { namingTaken } from '../taken.ts';
import { type MemberRoles, projectsFrom } from './member-role.ts';
import {
  insertMember,
  lockMember,
  type MemberRow,
  type MemberValues,
  selectMember,
  selectMembers,
  touchMemberKeys,
  updateMember,
} from './members.sql.ts';
import { memberKeyTold, memberTold } from './told.ts';

export interface MemberStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly hasKeyLimits: HasKeyLimits;
  /** Called after the commit of a change of a member, with its keys; awaited before the answer goes out. */
  readonly onChanged: (changed: {
    readonly tenantId: string;
    readonly keys: readonly { readonly keyId: string; readonly version: number }[];
  }) => Promise<void>;
}

/** Errors: `not_found` also for members of other tenants; `conflict` for a deleted tenant or a removed member. */
export interface MemberStore {
  create<Answer>(
    caller: KeyCaller,
    body: CreateMemberBody,
    answer: (tx: KeyHandle, made: MemberObject) => Promise<Answer>,
  ): Promise<Answer>;
  list(caller: KeyCaller, page: { after: string | null; limit: number }): Promise<Page<MemberObject>>;
  read(caller: KeyCaller, memberId: string): Promise<MemberObject>;
  change(
    caller: KeyCaller,
    memberId: string,
    body: ChangeMemberBody,
    ifMatch: string | null,
  ): Promise<MemberObject>;
  /** For good. Removing a removed member changes nothing. */
  remove(caller: KeyCaller, memberId: string, ifMatch: string | null): Promise<MemberObject>;
}

export function createMemberStore(deps: MemberStoreDeps): MemberStore {
  const { db, clock } = deps;
  return {
    create: (caller, body, answer) => create(deps, caller, body, answer),

    async list(caller, { after, limit }) {
      const cursor = after === null ? null : fromTypeId('mem', after);
      const rows = await throughDoor(db, caller, 'tenant_members.list', async (tx, tenantId) => {
        await requireTenant(tx, tenantId);
        return after !== null && cursor === null
          ? null
          : selectMembers(tx, tenantId, { after: cursor, limit });
      });
      if (rows !== null) return pageOf(rows.map(memberObject), limit, (member) => member.id);
      const message = 'after: must be the id of a member of the list.';
      throw new AppError('invalid_request', message, { param: 'after' });
    },

    async read(caller, memberId) {
      const uuid = uuidOf(memberId);
      const row = await throughDoor(db, caller, 'tenant_members.read', (tx, tenantId) =>
        selectMember(tx, tenantId, uuid),
      );
      if (row === undefined) throw noSuchMember();
      return memberObject(row);
    },

    async change(caller, memberId, body, ifMatch) {
      const call = { caller, memberId, action: 'members.change', ifMatch };
      return changeLocked(deps, call, (row, own) => {
        if (row.removed_at !== null)
          throw new AppError('conflict', 'The member was removed and cannot be changed.');
        const values = changedValues(row, body);
        // Another external_id gives what the member may to somebody else, whom an issuer knows by it.
        const isOther = values.externalId !== row.external_id;
        if (isOther) requireGrantable(caller, own, storedValues(row));
        if (isOther || body.role !== undefined || body.projects !== undefined)
          requireGrantable(caller, own, values);
        return values;
      });
    },

    async remove(caller, memberId, ifMatch) {
      const call = { caller, memberId, action: 'members.remove', ifMatch };
      return changeLocked(deps, call, (row) =>
        row.removed_at === null ? { ...storedValues(row), removedAt: new Date(clock.now()) } : null,
      );
    },
  };
}

async function create<Answer>(
  { db, clock, hasKeyLimits }: MemberStoreDeps,
  caller: KeyCaller,
  body: CreateMemberBody,
  answer: (tx: KeyHandle, made: MemberObject) => Promise<Answer>,
): Promise<Answer> {
  const values: MemberValues = {
    name: body.name,
    email: body.email,
    externalId: body.external_id,
    role: body.role,
    projects: JSON.stringify(body.projects),
    removedAt: null,
  };
  const memberId = newUuid();
  const reason = `tenant_members.create ${toTypeId('mem', memberId)}`;
  return namingTaken(taken, () =>
    throughDoor(db, caller, reason, async (tx, tenantId) => {
      await requireLivingTenant(tx, tenantId);
      requireGrantable(caller, await ownBounds(tx, caller), values);
      await requireSignInAllowed(hasKeyLimits, tx, caller, values);
      const made = { tenantId, memberId, createdBy: creatorOf(caller), createdAt: new Date(clock.now()) };
      const row = await insertMember(tx, made, values);
      await appendEvents(tx, [memberTold(null, row, shownCaller(caller))]);
      await tx.audit({
        action: actOf(caller, 'members.create'),
        resource: audited(row),
        after: memberObject(row),
      });
      return answer(tx, memberObject(row));
    }),
  );
}

/** Runs `decide` on the locked row and writes what it answers; null leaves the row as it is. */
async function changeLocked(
  { db, onChanged, hasKeyLimits }: MemberStoreDeps,
  call: { caller: KeyCaller; memberId: string; action: string; ifMatch: string | null },
  decide: (row: MemberRow, own: Bounds) => MemberValues | null,
): Promise<MemberObject> {
  const { caller, memberId, action, ifMatch } = call;
  const uuid = uuidOf(memberId);
  const { row, keys } = await namingTaken(taken, () =>
    throughDoor(db, caller, `tenant_${action} ${memberId}`, async (tx, tenantId) => {
      const found = await lockMember(tx, tenantId, uuid);
      if (found === undefined) throw noSuchMember();
      requireVersion(ifMatch, Number(found.version));
      const values = decide(found, await ownBounds(tx, caller));
      if (values === null) return { row: found, keys: null };
      if (!isSameAccess(found, values)) await requireSignInAllowed(hasKeyLimits, tx, caller, values);
      const changed = await updateMember(tx, tenantId, uuid, values);
      const touched = isSameGrant(found, changed) ? [] : await touchMemberKeys(tx, tenantId, uuid);
      const by = shownCaller(caller);
      await appendEvents(tx, [
        memberTold(found, changed, by),
        ...touched.map((key) => memberKeyTold(key, by)),
      ]);
      await tx.audit({
        action: actOf(caller, action),
        resource: audited(changed),
        before: memberObject(found),
        after: memberObject(changed),
      });
      return { row: changed, keys: touched };
    }),
  );
  if (keys !== null) {
    const changedKeys = keys.map(({ key_id: keyId, version }) => ({ keyId, version: Number(version) }));
    await onChanged({ tenantId: row.tenant_id, keys: changedKeys });
  }
  return memberObject(row);
}

function isSameGrant(before: MemberRow, after: MemberRow): boolean {
  return (
    before.role === after.role && before.projects === after.projects && before.removed_at === after.removed_at
  );
}

/** Whether who may sign in as the member, and what he may then, stays. */
function isSameAccess(before: MemberRow, after: MemberValues): boolean {
  return (
    before.external_id === after.externalId &&
    before.role === after.role &&
    before.projects === after.projects
  );
}

type Bounds = Awaited<ReturnType<typeof boundsOf>>;

/** A member expires by nothing and may be anywhere; only keys are bound in that. */
const unbounded: Bounds = { expiresAt: null, allowedIps: null };

/** When the caller's own key ends and where it may be used. */
async function ownBounds(tx: KeyHandle, caller: KeyCaller): Promise<Bounds> {
  return caller.kind === 'operator' ? unbounded : boundsOf(tx, caller.principal);
}

/**
 * A tenant's key may make no member who may do more than the key. One with an `external_id` may sign in by an outside issuer
 * for as long as he is a member and from anywhere, so a key that ends, or is bound to networks, makes none; without one he has
 * only the keys that somebody makes for him, each bound for itself. The operator may grant anything.
 */
function requireGrantable(caller: KeyCaller, own: Bounds, values: MemberValues): void {
  const { role, projects, externalId } = values;
  const named = projectsFrom(projects);
  if (role === null && named.length === 0) {
    const message = 'A member needs a role in the tenant or in at least one project.';
    throw new AppError('invalid_request', message, { param: 'role' });
  }
  if (caller.kind === 'operator') return;
  const granted = [...(role === null ? [] : [role]), ...named.map((each) => each.role)];
  for (const each of new Set(granted))
    requireWithinOwnGrant(caller.principal, externalId === null ? unbounded : own, {
      role: each,
      scopes: null,
      ...unbounded,
    });
}

/** One who signs in by an issuer has tokens, whose use is counted apart from the key that made him. */
async function requireSignInAllowed(
  hasKeyLimits: HasKeyLimits,
  tx: KeyHandle,
  caller: KeyCaller,
  { externalId }: MemberValues,
): Promise<void> {
  if (caller.kind === 'operator' || externalId === null) return;
  await requireUnlimited(hasKeyLimits, tx, caller.principal, null);
}

/** A member as the wire shows it. */
function memberObject(row: MemberRow): MemberObject {
  return {
    id: toTypeId('mem', row.member_id),
    object: 'member',
    name: row.name,
    email: row.email,
    external_id: row.external_id,
    ...rolesOf(row),
    created_by: row.created_by.startsWith('key:') ? row.created_by : 'operator',
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
    removed_at: row.removed_at?.toISOString() ?? null,
  };
}

function audited(row: MemberRow) {
  return { type: 'member', id: toTypeId('mem', row.member_id) };
}

function rolesOf(row: MemberRow): MemberRoles & { projects: ReturnType<typeof projectsFrom> } {
  return { role: row.role, projects: projectsFrom(row.projects) };
}

function storedValues(row: MemberRow): MemberValues {
  return {
    name: row.name,
    email: row.email,
    externalId: row.external_id,
    role: row.role,
    projects: row.projects,
    removedAt: row.removed_at,
  };
}

function changedValues(row: MemberRow, body: ChangeMemberBody): MemberValues {
  const stored = storedValues(row);
  return {
    name: body.name ?? stored.name,
    email: body.email === undefined ? stored.email : body.email,
    externalId: body.external_id === undefined ? stored.externalId : body.external_id,
    role: body.role === undefined ? stored.role : body.role,
    projects: body.projects === undefined ? stored.projects : JSON.stringify(body.projects),
    removedAt: stored.removedAt,
  };
}

const taken = { param: 'external_id', message: 'Another member of the tenant has this external_id.' };

function uuidOf(memberId: string): string {
  const uuid = fromTypeId('mem', memberId);
  if (uuid === null) throw noSuchMember();
  return uuid;
}

/** One answer for a member that never was and for another tenant's. */
function noSuchMember(): AppError {
  return new AppError('not_found', 'There is no such member.');
}
