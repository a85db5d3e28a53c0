import { type Permission, permissions, type Role, roleAllows } from '@stoa/contracts';
import { AppError, isAllowed, type TenantPrincipal } from '#kernel';

/** What a key is able to do, and until when. */
export interface Grant {
  readonly role: Role;
  readonly scopes: readonly Permission[] | null;
  readonly expiresAt: Date | null;
}

/**
 * Holds a key to granting no more than it has itself: every permission of the new grant must be its own, and the new
 * grant must not outlive it. Otherwise a key with narrow scopes and `keys:write` would be worth an admin's.
 * @param ownExpiry when the granting key itself expires
 * @throws AppError `permission_denied`
 */
export function requireWithinOwnGrant(
  principal: TenantPrincipal,
  ownExpiry: Date | null,
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
  if (ownExpiry !== null && (grant.expiresAt === null || grant.expiresAt > ownExpiry)) {
    throw new AppError(
      'permission_denied',
      `A key may not grant a longer life than its own, which ends at ${ownExpiry.toISOString()}.`,
      { param: 'expires_at' },
    );
  }
}
