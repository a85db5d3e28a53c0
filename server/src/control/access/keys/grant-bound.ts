import { type Permission, permissions, type Role, roleAllows } from '@stoa/contracts';
import { AppError, isAllowed, type TenantPrincipal } from '#kernel';
import { areWithin } from './allowed-ips.ts';
import { type KeyHandle, selectKey } from './keys.sql.ts';

/** What a key is able to do, and until when. */
export interface Grant {
  readonly role: Role;
  readonly scopes: readonly Permission[] | null;
  readonly expiresAt: Date | null;
  /** CIDR blocks; null for everywhere. */
  readonly allowedIps: readonly string[] | null;
}

/** Whether a key has rate limits of its own; asked in the transaction of what depends on it. */
export type HasKeyLimits = (tx: KeyHandle, tenantId: string, keyId: string) => Promise<boolean>;

/**
 * Keeps a key with rate limits of its own from making, or being shown, another secret, whose use is counted apart: any
 * number of them would be any multiple of its limits.
 * @param shown the id of a key that is there and will be shown; null for what is new
 * @throws AppError `permission_denied`
 */
export async function requireUnlimited(
  hasKeyLimits: HasKeyLimits,
  tx: KeyHandle,
  { tenantId, keyId }: TenantPrincipal,
  shown: string | null,
): Promise<void> {
  if (shown === keyId || !(await hasKeyLimits(tx, tenantId, keyId))) return;
  const message =
    'A key that has rate limits of its own makes no other, and nobody who signs in; use a key without.';
  throw new AppError('permission_denied', message);
}

/** When the caller's key expires and where it may be used, which its principal does not say. */
export async function boundsOf(
  tx: KeyHandle,
  { tenantId, keyId }: TenantPrincipal,
): Promise<Pick<Grant, 'expiresAt' | 'allowedIps'>> {
  const own = await selectKey(tx, tenantId, keyId);
  return { expiresAt: own?.expires_at ?? null, allowedIps: own?.allowed_ips ?? null };
}

/**
 * Holds a key to granting no more than it has itself: every permission of the new grant must be its own, the new grant
 * must not outlive it, and must not be good anywhere where it is not. Otherwise a key with narrow scopes and `keys:write`
 * would be worth an admin's. A token that names no member grants nothing: what it made would be nobody's, and outlive
 * whoever it was for. A member's is bounded by the member, whose keys end with him.
 * @param own what of the granting key is not in its principal: when it expires and where it may be used
 * @throws AppError `permission_denied`
 */
export function requireWithinOwnGrant(
  principal: TenantPrincipal,
  own: Pick<Grant, 'expiresAt' | 'allowedIps'>,
  grant: Grant,
): void {
  if (principal.tokenId !== undefined && principal.memberId === undefined) {
    const message =
      'A token that names no member grants nothing that outlives it; use a key, or a token of a member.';
    throw new AppError('permission_denied', message);
  }
  const excess = permissions.find(
    (permission) =>
      roleAllows(grant.role, permission) &&
      (grant.scopes === null || grant.scopes.includes(permission)) &&
      !isAllowed(principal, permission),
  );
  if (excess !== undefined) {
    throw new AppError(
      'permission_denied',
      `A key may not grant more than it holds, and this one lacks ${excess}. Narrow the new key's scopes.`,
      { param: 'scopes', details: { permission: excess } },
    );
  }
  const { expiresAt: ownExpiry, allowedIps: ownIps } = own;
  if (ownExpiry !== null && (grant.expiresAt === null || grant.expiresAt > ownExpiry)) {
    throw new AppError(
      'permission_denied',
      `A key may not grant a longer life than its own, which ends at ${ownExpiry.toISOString()}.`,
      { param: 'expires_at' },
    );
  }
  if (ownIps !== null && (grant.allowedIps === null || !areWithin(grant.allowedIps, ownIps))) {
    throw new AppError(
      'permission_denied',
      `A key may not grant use from where it may not be used itself: only from ${ownIps.join(', ')}.`,
      { param: 'allowed_ips' },
    );
  }
}

/** What a key may, where. */
export interface KeyGrant extends Grant {
  /** Null for the whole tenant. */
  readonly projectId: string | null;
}

/** Whether a key may do more by the second than by the first, longer, in another project or from elsewhere. */
export function widens(before: KeyGrant, after: KeyGrant): boolean {
  const holds = ({ role, scopes }: Grant, permission: Permission): boolean =>
    roleAllows(role, permission) && (scopes === null || scopes.includes(permission));
  return (
    permissions.some((permission) => holds(after, permission) && !holds(before, permission)) ||
    (before.projectId !== null && after.projectId !== before.projectId) ||
    (before.expiresAt !== null && (after.expiresAt === null || after.expiresAt > before.expiresAt)) ||
    (before.allowedIps !== null &&
      (after.allowedIps === null || !areWithin(after.allowedIps, before.allowedIps)))
  );
}
