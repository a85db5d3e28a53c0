import { type Permission, type Role, roleAllows } from '@stoa/contracts';
import { AppError } from './error.ts';
import type { TenantId } from './ids.ts';

/**
 * Whether a key or tenant still stands. One object per cached key, shared by all requests made with it: access sets
 * `refusal` when the key is revoked or the tenant suspended, and long answers look at it while they run.
 */
export interface Standing {
  refusal: AppError | null;
}

/** A caller inside a tenant: an API key for now. */
export interface TenantPrincipal {
  readonly kind: 'tenant';
  readonly tenantId: TenantId;
  readonly keyId: string;
  readonly role: Role;
  /** Permissions that narrow the role; null means all of the role's. */
  readonly scopes: ReadonlySet<Permission> | null;
  readonly projectId: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly standing: Standing;
}

/** The operator, outside every tenant. */
export interface OperatorPrincipal {
  readonly kind: 'operator';
  readonly keyId: string;
}

export type Principal = TenantPrincipal | OperatorPrincipal;

/** Whether a tenant's principal holds a permission: its role allows it and its scopes, if any, name it. */
export function isAllowed(principal: TenantPrincipal, permission: Permission): boolean {
  return (
    roleAllows(principal.role, permission) && (principal.scopes === null || principal.scopes.has(permission))
  );
}

/** Throws `permission_denied` where the principal lacks the permission. */
export function requirePermission(principal: TenantPrincipal, permission: Permission): void {
  if (isAllowed(principal, permission)) return;
  throw new AppError('permission_denied', `This key may not do this; it needs the permission ${permission}.`);
}
