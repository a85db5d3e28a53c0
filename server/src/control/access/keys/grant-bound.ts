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
 * would be worth an admin's.
 * @param own what of the granting key is not in its principal: when it expires and where it may be used
 * @throws AppError `permission_denied`
 */
export function requireWithinOwnGrant(
  principal: TenantPrincipal,
  own: Pick<Grant, 'expiresAt' | 'allowedIps'>,
  grant: Grant,
): void {
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
      { param: 'scopes' },
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
