import {
  type ChangeIssuerBody,
  type CreateIssuerBody,
  issuerAlgorithms,
  type IssuerClaims,
  issuerClaims,
  type IssuerObject,
} from '@stoa/contracts';
import { type Database, isUniqueViolation } from '#db';
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
import { creatorOf, shownCaller, type TenantCaller, throughDoor } from '../caller.ts';
import { boundsOf, requireWithinOwnGrant } from '../keys/grant-bound.ts';
import type { KeyHandle } from '../keys/keys.sql.ts';
import { grantsOf } from './claim-mapping.ts';
import {
  countIssuers,
  insertIssuer,
  type IssuerRow,
  type IssuerValues,
  lockIssuer,
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
  /** The claim `iss` of our own tokens, which no tenant may claim. */
  readonly ownIssuer: () => string;
  /** Called after the commit of a change of an issuer, awaited before the answer goes out. */
  readonly onChanged: (tenantId: string) => Promise<void>;
}

/** Errors: `not_found` also for issuers of other tenants; `already_exists` for the same issuer and audience. */
export interface IssuerStore {
  create<Answer>(
    caller: TenantCaller,
    body: CreateIssuerBody,
    answer: (tx: KeyHandle, made: IssuerObject) => Promise<Answer>,
  ): Promise<Answer>;
  list(caller: TenantCaller, page: { after: string | null; limit: number }): Promise<Page<IssuerObject>>;
  read(caller: TenantCaller, issuerId: string): Promise<IssuerObject>;
  change(
    caller: TenantCaller,
    issuerId: string,
    body: ChangeIssuerBody,
    ifMatch: string | null,
  ): Promise<IssuerObject>;
  delete(caller: TenantCaller, issuerId: string, ifMatch: string | null): Promise<void>;
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
          : await throughDoor(db, caller, 'issuers.list', (tx, tenantId) =>
              selectIssuers(tx, tenantId, { after: cursor, limit }),
            );
      if (rows !== null) return pageOf(rows.map(issuerObject), limit, (issuer) => issuer.id);
      const message = 'after: must be the id of an issuer of the list.';
      throw new AppError('invalid_request', message, { param: 'after' });
    },

    async read(caller, issuerId) {
      const uuid = uuidOf(issuerId);
      const row = await throughDoor(db, caller, 'issuers.read', (tx, tenantId) =>
        selectIssuer(tx, tenantId, uuid),
      );
      if (row === undefined) throw noSuchIssuer();
      return issuerObject(row);
    },

    async change(caller, issuerId, body, ifMatch) {
      return issuerObject(
        await changeLocked(deps, { caller, issuerId, ifMatch }, async (tx, row) => {
          const values = changedValues(row, body);
          requireUsable(deps, caller, values);
          await requireGrantable(tx, caller, values);
          return values;
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
  caller: TenantCaller,
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
    deletedAt: null,
  };
  requireUsable(deps, caller, values);
  const { tenantId } = caller.principal;
  const answered = await namingTaken(() =>
    throughDoor(db, caller, 'issuers.create', async (tx) => {
      await requireGrantable(tx, caller, values);
      if ((await countIssuers(tx, tenantId)) >= issuersAtMost)
        throw new AppError('conflict', `A tenant has at most ${issuersAtMost} issuers; delete one first.`);
      const made = {
        tenantId,
        issuerId: newUuid(),
        createdBy: creatorOf(caller),
        createdAt: new Date(clock.now()),
      };
      const row = await insertIssuer(tx, made, values);
      await appendEvents(tx, [issuerTold(null, row, shownCaller(caller))]);
      await tx.audit({ action: 'issuers.create', resource: audited(row), after: issuerObject(row) });
      return answer(tx, issuerObject(row));
    }),
  );
  await onChanged(tenantId);
  return answered;
}

async function changeLocked(
  { db, onChanged }: IssuerStoreDeps,
  call: { caller: TenantCaller; issuerId: string; ifMatch: string | null },
  decide: (tx: KeyHandle, row: IssuerRow) => Promise<IssuerValues>,
): Promise<IssuerRow> {
  const { caller, issuerId, ifMatch } = call;
  const uuid = uuidOf(issuerId);
  const changed = await namingTaken(() =>
    throughDoor(db, caller, `issuers.change ${issuerId}`, async (tx, tenantId) => {
      const found = await lockIssuer(tx, tenantId, uuid);
      if (found === undefined) throw noSuchIssuer();
      requireVersion(ifMatch, Number(found.version));
      const row = await updateIssuer(tx, tenantId, uuid, await decide(tx, found));
      await appendEvents(tx, [issuerTold(found, row, shownCaller(caller))]);
      await tx.audit({
        action: row.deleted_at === null ? 'issuers.change' : 'issuers.delete',
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

/** What no shape of a field says: an address that may be called, an issuer that is not us, an audience that is one's own. */
function requireUsable(
  deps: IssuerStoreDeps,
  caller: TenantCaller,
  { issuer, audience, jwksUrl }: IssuerValues,
): void {
  if (issuer === deps.ownIssuer())
    throw new AppError('invalid_request', 'issuer: is this Stoa itself.', { param: 'issuer' });
  const { tenantId } = caller.principal;
  const named = audience.match(/ten_[0-7][0-9a-hjkmnp-tv-z]{25}/g) ?? [];
  if (named.some((id) => id !== toTypeId('ten', tenantId))) {
    const message = 'audience: names another tenant; it may hold the id of your own only.';
    throw new AppError('invalid_request', message, { param: 'audience' });
  }
  const refusal = deps.outbound.check(jwksUrl, tenantId);
  if (refusal !== null)
    throw new AppError('invalid_request', `jwks_url: ${refusal.detail}`, { param: 'jwks_url' });
}

/**
 * Whoever configures an issuer can sign its tokens, as anybody and for as long as it stands, so it may give no more than the
 * caller holds.
 */
async function requireGrantable(tx: KeyHandle, caller: TenantCaller, values: IssuerValues): Promise<void> {
  const { principal } = caller;
  if (principal.tokenId !== undefined) {
    const message = 'An issuer lasts longer than a token; configure it with a key.';
    throw new AppError('permission_denied', message);
  }
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
    created_by: row.created_by,
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
    deletedAt: null,
  };
}

async function namingTaken<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isUniqueViolation(error)) throw error;
    const message = 'Your tenant has this issuer with this audience already.';
    throw new AppError('already_exists', message, { param: 'issuer', cause: error });
  }
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
