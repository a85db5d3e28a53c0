import {
  type ChangeIssuerBody,
  type CreateIssuerBody,
  issuerAlgorithms,
  type IssuerClaims,
  issuerClaims,
  type IssuerObject,
} from '@stoa/contracts';
import type { Database } from '#db';
import { appendEvents } from '#events';
import type { GuardedClient } from '#http';
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
import { grantsOf } from './claim-mapping.ts';
import {
  countIssuers,
  insertIssuer,
  type IssuerRow,
  type IssuerValues,
  lockIssuer,
  lockSettled,
  selectIssuer,
  selectIssuers,
  updateIssuer,
} from './issuers.sql.ts';
import { issuerTold } from './told.ts';

export interface IssuerStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** For JWKS URLs, which tenants give. */
  readonly outbound: Pick<GuardedClient, 'check'>;
  readonly hasKeyLimits: HasKeyLimits;
  /** The claim `iss` of our own tokens, which no tenant may claim. */
  readonly ownIssuer: () => string;
  /** Called after the commit of a change of an issuer, awaited before the answer goes out. */
  readonly onChanged: (tenantId: string) => Promise<void>;
}

/**
 * Whose the tokens of an issuer and audience are is certain by the audience: a tenant sets only such as hold its own id,
 * which nobody else may name. For any other the operator's word is needed, given by making the issuer or by naming its
 * audience in a change, and only while no other tenant has it. So nobody takes, blocks or learns of what is another's.
 *
 * Errors: `not_found` also for issuers of other tenants; `already_exists` for the same issuer and audience.
 */
export interface IssuerStore {
  create<Answer>(
    caller: KeyCaller,
    body: CreateIssuerBody,
    answer: (tx: KeyHandle, made: IssuerObject) => Promise<Answer>,
  ): Promise<Answer>;
  list(caller: KeyCaller, page: { after: string | null; limit: number }): Promise<Page<IssuerObject>>;
  read(caller: KeyCaller, issuerId: string): Promise<IssuerObject>;
  change(
    caller: KeyCaller,
    issuerId: string,
    body: ChangeIssuerBody,
    ifMatch: string | null,
  ): Promise<IssuerObject>;
  delete(caller: KeyCaller, issuerId: string, ifMatch: string | null): Promise<void>;
}

const issuersAtMost = 20;

export function createIssuerStore(deps: IssuerStoreDeps): IssuerStore {
  const { db, clock } = deps;
  return {
    create: (caller, body, answer) => create(deps, caller, body, answer),

    async list(caller, { after, limit }) {
      const cursor = after === null ? null : fromTypeId('isr', after);
      const rows =
        after !== null && cursor === null
          ? null
          : await throughDoor(db, caller, 'tenant_issuers.list', async (tx, tenantId) => {
              await requireTenant(tx, tenantId);
              return selectIssuers(tx, tenantId, { after: cursor, limit });
            });
      if (rows !== null) return pageOf(rows.map(issuerObject), limit, (issuer) => issuer.id);
      const message = 'after: must be the id of an issuer of the list.';
      throw new AppError('invalid_request', message, { param: 'after' });
    },

    async read(caller, issuerId) {
      const uuid = uuidOf(issuerId);
      const row = await throughDoor(db, caller, 'tenant_issuers.read', (tx, tenantId) =>
        selectIssuer(tx, tenantId, uuid),
      );
      if (row === undefined) throw noSuchIssuer();
      return issuerObject(row);
    },

    async change(caller, issuerId, body, ifMatch) {
      return issuerObject(
        await changeLocked(deps, { caller, issuerId, ifMatch }, async (tx, row) => {
          const values = changedValues(row, body);
          requireUsable(deps, row.tenant_id, values);
          const isNamed = body.issuer !== undefined || body.audience !== undefined;
          const isSettled = await settle(tx, caller, values, { row, isNamed });
          await requireGrantable(deps, tx, caller, values);
          return { ...values, isSettled };
        }),
      );
    },

    async delete(caller, issuerId, ifMatch) {
      await changeLocked(deps, { caller, issuerId, ifMatch }, async (_tx, row) => ({
        ...storedValues(row),
        deletedAt: new Date(clock.now()),
      }));
    },
  };
}

async function create<Answer>(
  deps: IssuerStoreDeps,
  caller: KeyCaller,
  body: CreateIssuerBody,
  answer: (tx: KeyHandle, made: IssuerObject) => Promise<Answer>,
): Promise<Answer> {
  const { db, clock, onChanged } = deps;
  const values: IssuerValues = {
    name: body.name,
    issuer: body.issuer,
    jwksUrl: body.jwks_url,
    audience: body.audience,
    algorithms: body.algorithms,
    tokenTypes: body.token_types,
    maximumLifetimeS: body.maximum_lifetime_s,
    claims: JSON.stringify(body.claims),
    enabled: body.enabled,
    isSettled: false,
    deletedAt: null,
  };
  const { tenantId, answered } = await namingTaken(taken, () =>
    throughDoor(db, caller, 'tenant_issuers.create', async (tx, tenantId) => {
      await requireLivingTenant(tx, tenantId);
      requireUsable(deps, tenantId, values);
      const isSettled = await settle(tx, caller, values, { row: null, isNamed: true });
      await requireGrantable(deps, tx, caller, values);
      if ((await countIssuers(tx, tenantId)) >= issuersAtMost)
        throw new AppError('conflict', `A tenant has at most ${issuersAtMost} issuers; delete one first.`);
      const made = {
        tenantId,
        issuerId: newUuid(),
        createdBy: creatorOf(caller),
        createdAt: new Date(clock.now()),
      };
      const row = await insertIssuer(tx, made, { ...values, isSettled });
      await appendEvents(tx, [issuerTold(null, row, shownCaller(caller))]);
      const shown = issuerObject(row);
      await tx.audit({ action: actOf(caller, 'issuers.create'), resource: audited(row), after: shown });
      return { tenantId, answered: await answer(tx, shown) };
    }),
  );
  await onChanged(tenantId);
  return answered;
}

async function changeLocked(
  { db, onChanged }: IssuerStoreDeps,
  call: { caller: KeyCaller; issuerId: string; ifMatch: string | null },
  decide: (tx: KeyHandle, row: IssuerRow) => Promise<IssuerValues>,
): Promise<IssuerRow> {
  const { caller, issuerId, ifMatch } = call;
  const uuid = uuidOf(issuerId);
  const changed = await namingTaken(taken, () =>
    throughDoor(db, caller, `tenant_issuers.change ${issuerId}`, async (tx, tenantId) => {
      const found = await lockIssuer(tx, tenantId, uuid);
      if (found === undefined) throw noSuchIssuer();
      requireVersion(ifMatch, Number(found.version));
      const row = await updateIssuer(tx, tenantId, uuid, await decide(tx, found));
      await appendEvents(tx, [issuerTold(found, row, shownCaller(caller))]);
      await tx.audit({
        action: actOf(caller, row.deleted_at === null ? 'issuers.change' : 'issuers.delete'),
        resource: audited(row),
        before: issuerObject(found),
        ...(row.deleted_at === null ? { after: issuerObject(row) } : {}),
      });
      return row;
    }),
  );
  await onChanged(changed.tenant_id);
  return changed;
}

const taken = { param: 'issuer', message: 'The tenant has this issuer with this audience already.' };

/** What no shape of a field says: an address that may be called, an issuer that is not us, an audience of nobody else. */
function requireUsable(
  deps: IssuerStoreDeps,
  tenantId: string,
  { issuer, audience, jwksUrl }: IssuerValues,
): void {
  if (issuer === deps.ownIssuer())
    throw new AppError('invalid_request', 'issuer: is this Stoa itself.', { param: 'issuer' });
  const named = audience.match(/ten_[0-7][0-9a-hjkmnp-tv-z]{25}/g) ?? [];
  if (named.some((id) => id !== toTypeId('ten', tenantId))) {
    const message = "audience: names another tenant; it may hold the tenant's own id only.";
    throw new AppError('invalid_request', message, { param: 'audience' });
  }
  const refusal = deps.outbound.check(jwksUrl, tenantId);
  if (refusal !== null)
    throw new AppError('invalid_request', `jwks_url: ${refusal.detail}`, { param: 'jwks_url' });
}

/** Whether tokens of an audience can be of this tenant only, because they say so themselves. */
export function namesTenant(audience: string, tenantId: string): boolean {
  return audience.includes(toTypeId('ten', tenantId));
}

/**
 * Whether the operator's word holds for these values, which are new (`row` null) or change a row.
 * @param isNamed whether the caller named issuer or audience
 * @throws AppError `invalid_request` where a tenant needs that word and has it not; `already_exists`, to the operator alone,
 *   where another tenant has it
 */
async function settle(
  tx: KeyHandle,
  caller: KeyCaller,
  { issuer, audience }: IssuerValues,
  { row, isNamed }: { readonly row: IssuerRow | null; readonly isNamed: boolean },
): Promise<boolean> {
  const tenantId = caller.kind === 'operator' ? caller.tenantId : caller.principal.tenantId;
  if (namesTenant(audience, tenantId)) return false;
  const isSame = row !== null && row.issuer === issuer && row.audience === audience;
  if (isSame && (caller.kind === 'tenant' || !isNamed || row.settled_by_operator))
    return row.settled_by_operator;
  if (caller.kind === 'tenant') {
    const id = toTypeId('ten', tenantId);
    const message = `audience: must hold your tenant's id, such as stoa:${id}; any other audience the operator has to set.`;
    throw new AppError('invalid_request', message, { param: 'audience' });
  }
  const other = await lockSettled(tx, { tenantId, issuer, audience });
  if (other === undefined) return true;
  const named = `${toTypeId('ten', other.tenant_id)}, issuer ${toTypeId('isr', other.issuer_id)}`;
  const message = `This audience of the issuer is another tenant's (${named}); delete or change that one first.`;
  throw new AppError('already_exists', message, { param: 'audience' });
}

/**
 * Whoever configures an issuer can sign its tokens, as anybody and for as long as it stands, so a tenant's key may give no
 * more than it holds; and one that ends, by itself or with its member, or is bound to networks or by limits, nothing: the
 * operator can.
 */
async function requireGrantable(
  { hasKeyLimits }: IssuerStoreDeps,
  tx: KeyHandle,
  caller: KeyCaller,
  values: IssuerValues,
): Promise<void> {
  if (caller.kind === 'operator') return;
  const { principal } = caller;
  if (principal.tokenId !== undefined) {
    const message = 'An issuer lasts longer than a token; configure it with a key.';
    throw new AppError('permission_denied', message);
  }
  if (principal.memberId !== undefined) {
    const message =
      "A member's key ends with the member, and an issuer does not; use a key that is no member's.";
    throw new AppError('permission_denied', message);
  }
  await requireUnlimited(hasKeyLimits, tx, principal, null);
  const bounds = await boundsOf(tx, principal);
  for (const grant of grantsOf(claimsFrom(values.claims)))
    requireWithinOwnGrant(principal, bounds, { ...grant, expiresAt: null, allowedIps: null });
}

/** An issuer as the wire shows it. */
function issuerObject(row: IssuerRow): IssuerObject {
  return {
    id: toTypeId('isr', row.issuer_id),
    object: 'issuer',
    name: row.name,
    issuer: row.issuer,
    jwks_url: row.jwks_url,
    audience: row.audience,
    algorithms: issuerAlgorithms.filter((name) => row.algorithms.includes(name)),
    token_types: [...row.token_types],
    maximum_lifetime_s: row.maximum_lifetime_s,
    claims: claimsFrom(row.claims),
    enabled: row.enabled,
    settled_by_operator: row.settled_by_operator,
    created_by: row.created_by.startsWith('key:') ? row.created_by : 'operator',
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
  };
}

function audited(row: IssuerRow) {
  return { type: 'issuer', id: toTypeId('isr', row.issuer_id) };
}

/** A stored mapping; throws where this version can't read it, since a mapping that is half understood grants too much. */
export function claimsFrom(stored: string): IssuerClaims {
  return issuerClaims.parse(JSON.parse(stored));
}

function storedValues(row: IssuerRow): IssuerValues {
  return {
    name: row.name,
    issuer: row.issuer,
    jwksUrl: row.jwks_url,
    audience: row.audience,
    algorithms: row.algorithms,
    tokenTypes: row.token_types,
    maximumLifetimeS: row.maximum_lifetime_s,
    claims: row.claims,
    enabled: row.enabled,
    isSettled: row.settled_by_operator,
    deletedAt: row.deleted_at,
  };
}

function changedValues(row: IssuerRow, body: ChangeIssuerBody): IssuerValues {
  const stored = storedValues(row);
  return {
    name: body.name ?? stored.name,
    issuer: body.issuer ?? stored.issuer,
    jwksUrl: body.jwks_url ?? stored.jwksUrl,
    audience: body.audience ?? stored.audience,
    algorithms: body.algorithms ?? stored.algorithms,
    tokenTypes: body.token_types ?? stored.tokenTypes,
    maximumLifetimeS: body.maximum_lifetime_s ?? stored.maximumLifetimeS,
    claims: body.claims === undefined ? stored.claims : JSON.stringify(body.claims),
    enabled: body.enabled ?? stored.enabled,
    isSettled: stored.isSettled,
    deletedAt: null,
  };
}

function uuidOf(issuerId: string): string {
  const uuid = fromTypeId('isr', issuerId);
  if (uuid === null) throw noSuchIssuer();
  return uuid;
}

/** One answer for an issuer that never was and for another tenant's. */
function noSuchIssuer(): AppError {
  return new AppError('not_found', 'There is no such issuer.');
}
