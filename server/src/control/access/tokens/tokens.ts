import {
  type accessToken,
  endUserPermissions,
  grantingPermissions,
  type Permission,
  permissions,
  type RevokeTokensBody,
  type tokenRevocation,
} from '@stoa/contracts';
import type { Database } from '#db';
import {
  AppError,
  type Clock,
  fromTypeId,
  isAllowed,
  newUuid,
  requirePermission,
  type TenantPrincipal,
  toTypeId,
  uuidTimeMs,
} from '#kernel';
import type { z } from 'zod';
import { shownCaller, type TenantCaller, throughDoor } from '../caller.ts';
import type { KeyHandle } from '../keys/keys.sql.ts';
import { signToken } from './own-token.ts';
import {
  countOtherCutoffs,
  countRevokedTokens,
  type CutoffKind,
  upsertCutoff,
  upsertRevokedToken,
} from './revocations.sql.ts';
import type { SigningKeys } from './signing-keys.ts';

export type AccessToken = z.output<typeof accessToken>;
export type TokenRevocation = z.output<typeof tokenRevocation>;

export interface TokenStoreDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly signingKeys: Pick<SigningKeys, 'current'>;
  /** The claims `iss` and `aud`. */
  readonly issuer: () => string;
  /** When a key expires, Unix milliseconds; Infinity where it does not. */
  readonly keyExpiry: (keyId: string) => number;
  /** Called after the commit of a revocation, awaited before the answer goes out. */
  readonly onRevoked: (tenantId: string) => Promise<void>;
}

export interface NewTokenRequest {
  readonly scopes?: readonly Permission[] | undefined;
  readonly end_user?: string | undefined;
  readonly expires_in: number;
}

const forEndUsers: readonly Permission[] = endUserPermissions;

/** The longest life of any token that Stoa accepts, and an hour for clocks; from then on a revocation says nothing. */
const rememberedMs = 25 * 60 * 60 * 1000;
const revokedTokensAtMost = 10_000;
/** Of each kind. */
const cutoffsAtMost = 10_000;

/**
 * Changes a key for a token.
 * @throws AppError `permission_denied` for a caller that came with a token itself, and for scopes that are not its own
 */
export async function createAccessToken(
  { clock, signingKeys, issuer, keyExpiry }: TokenStoreDeps,
  principal: TenantPrincipal,
  request: NewTokenRequest,
): Promise<AccessToken> {
  const { keyId, tenantId, role, memberId } = principal;
  if (principal.tokenId !== undefined)
    throw new AppError('permission_denied', 'An access token cannot be changed for another; use a key.');
  const endUser = request.end_user ?? null;
  const scopes = scopesOf(principal, request.scopes, endUser !== null);
  const signing = await signingKeys.current();
  const tokenUuid = newUuid();
  const tokenId = toTypeId('tok', tokenUuid);
  const issuedAtS = Math.floor(clock.now() / 1000);
  const expiresAtS = Math.min(issuedAtS + request.expires_in, Math.floor(keyExpiry(keyId) / 1000));
  const token = signToken(
    {
      tenantId,
      keyId,
      role,
      scopes,
      endUser,
      tokenId,
      issuedAtMs: uuidTimeMs(tokenUuid),
      issuedAtS,
      expiresAtS,
      memberId: memberId ?? null,
      issuer: issuer(),
    },
    signing,
  );
  return {
    id: tokenId,
    object: 'access_token',
    token,
    token_type: 'Bearer',
    expires_in: Math.max(1, expiresAtS - issuedAtS),
    expires_at: new Date(expiresAtS * 1000).toISOString(),
    role,
    scopes,
    project_id: principal.projectId,
    end_user: endUser,
  };
}

/**
 * Revokes what the body names, for good; may be called again.
 * @throws AppError `permission_denied` for tokens of others without `keys:write`; `conflict` beyond 10,000 single tokens,
 * keys, members or end users
 */
export async function revokeAccessTokens(
  { db, clock, onRevoked }: TokenStoreDeps,
  caller: TenantCaller,
  body: RevokeTokensBody,
): Promise<TokenRevocation> {
  const { principal } = caller;
  const { tenantId } = principal;
  const target = targetOf(body);
  const { kind, subject, shown } = target;
  // Whoever can make tokens ends those that he may know of; those of others are for whoever manages keys.
  const isOwn = kind === 'token' || kind === 'end_user' || subject === principal.keyId;
  if (!isOwn) requirePermission(principal, 'keys:write');
  const now = new Date(clock.now());
  const row = { tenantId, revokedBy: shownCaller(caller), expiresAt: new Date(now.getTime() + rememberedMs) };
  const notBefore = await throughDoor(db, caller, `tokens.revoke ${kind}`, async (tx) => {
    const cut = kind === 'token' ? null : await cutOff(tx, { ...row, kind, subject, notBefore: now });
    if (kind === 'token') await revokeOne(tx, { ...row, tokenId: subject });
    const id = shown ?? toTypeId('ten', tenantId);
    await tx.audit({ action: 'tokens.revoke', resource: { type: kind, id }, after: { not_before: cut } });
    return cut;
  });
  await onRevoked(tenantId);
  const time = notBefore?.toISOString() ?? null;
  return { object: 'token_revocation', revoked: kind, id: shown, not_before: time };
}

async function revokeOne(tx: KeyHandle, row: Parameters<typeof upsertRevokedToken>[1]): Promise<void> {
  if ((await countRevokedTokens(tx, row.tenantId)) >= revokedTokensAtMost) {
    const message = 'Too many single tokens are revoked; revoke by key_id, member_id, end_user or all.';
    throw new AppError('conflict', message);
  }
  await upsertRevokedToken(tx, row);
}

/** One for the tenant is always taken: it makes room for the others. */
async function cutOff(tx: KeyHandle, row: Parameters<typeof upsertCutoff>[1]): Promise<Date> {
  if (row.kind !== 'tenant' && (await countOtherCutoffs(tx, row)) >= cutoffsAtMost) {
    const message = `Tokens of too many of that kind (${row.kind}) are revoked; revoke by all instead.`;
    throw new AppError('conflict', message);
  }
  return upsertCutoff(tx, row);
}

interface Target {
  readonly kind: CutoffKind | 'token';
  /** As stored. */
  readonly subject: string;
  /** As the caller wrote it; null for the tenant. */
  readonly shown: string | null;
}

function targetOf(body: RevokeTokensBody): Target {
  const { token_id: tokenId, key_id: keyId, member_id: memberId, end_user: endUser } = body;
  if (tokenId !== undefined) return { kind: 'token', subject: tokenId, shown: tokenId };
  if (keyId !== undefined) return { kind: 'key', subject: keyId, shown: keyId };
  if (endUser !== undefined) return { kind: 'end_user', subject: endUser, shown: endUser };
  if (memberId !== undefined)
    return { kind: 'member', subject: fromTypeId('mem', memberId) ?? memberId, shown: memberId };
  return { kind: 'tenant', subject: '', shown: null };
}

/** What the token holds: what was asked for, each of it the caller's own, or all that it can hold of it. */
function scopesOf(
  principal: TenantPrincipal,
  asked: readonly Permission[] | undefined,
  isForEndUser: boolean,
): Permission[] {
  const canHold = (permission: Permission): boolean =>
    isForEndUser ? forEndUsers.includes(permission) : !grantingPermissions.includes(permission);
  if (asked === undefined) {
    const all = permissions.filter((permission) => canHold(permission) && isAllowed(principal, permission));
    if (all.length > 0) return all;
    throw new AppError('permission_denied', 'This key holds nothing that such a token could hold.');
  }
  const excess = asked.find((permission) => !canHold(permission) || !isAllowed(principal, permission));
  if (excess === undefined) return [...new Set(asked)];
  const why = canHold(excess)
    ? `A token may not hold more than its key, and this one lacks ${excess}.`
    : `A token${isForEndUser ? ' for an end user' : ''} cannot hold ${excess}.`;
  throw new AppError('permission_denied', why, { param: 'scopes', details: { permission: excess } });
}
