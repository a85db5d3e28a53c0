import {
  isOperatorPermission,
  type OperatorPermission,
  operatorPermissions,
  type OperatorRole,
  operatorRoleAllows,
  type Permission,
  permissions,
  projectPermissions,
  type Role,
  roleAllows,
} from '@stoa/contracts';
import { AppError } from './error.ts';
import type { TenantId } from './ids.ts';

/**
 * Whether a key or tenant still stands. One object per cached key, shared by all requests made with it: access sets
 * `refusal` when the key is revoked or the tenant suspended, and long answers look at it while they run.
 */
export interface Standing {
  refusal: AppError | null;
}

/**
 * A caller inside a tenant: an API key, an access token that was made with one, or the token of an outside issuer that the
 * tenant trusts.
 */
export interface TenantPrincipal {
  readonly kind: 'tenant';
  readonly tenantId: TenantId;
  /** The key's 12 characters; for a token of an outside issuer the issuer's id, `isr_...`. */
  readonly keyId: string;
  readonly role: Role;
  /** Permissions that narrow the role; null means all of the role's. */
  readonly scopes: ReadonlySet<Permission> | null;
  readonly projectId: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly standing: Standing;
  /** UUID text of the member whose key or token it is, where it is a member's. */
  readonly memberId?: string | undefined;
  /** The claim `jti` (`unnamed` where it has none), where the caller came with a token instead of the key itself. */
  readonly tokenId?: string | undefined;
  /** The end user that a token is fixed to: its requests count as that one's and can name no other. */
  readonly endUser?: string | undefined;
}

/** The operator, outside every tenant. */
export interface OperatorPrincipal {
  readonly kind: 'operator';
  readonly keyId: string;
  readonly role: OperatorRole;
}

export type Principal = TenantPrincipal | OperatorPrincipal;

/**
 * Whether a tenant's principal holds a permission: its role allows it, its scopes, if any, name it, and where it is
 * narrowed to a project, the permission reaches no further than one.
 */
export function isAllowed(principal: TenantPrincipal, permission: Permission): boolean {
  return (
    roleAllows(principal.role, permission) &&
    (principal.scopes === null || principal.scopes.has(permission)) &&
    (principal.projectId === null || projectPermissions.includes(permission))
  );
}

/** The missing permission is in the details, for the audit. */
function refusalOf(permission: string): AppError {
  const message = `This key may not do this; it needs the permission ${permission}.`;
  return new AppError('permission_denied', message, { details: { permission } });
}

function projectRefusalOf(permission: string): AppError {
  const message = `This key is narrowed to a project, and ${permission} reaches over the whole tenant; use a key without one.`;
  return new AppError('permission_denied', message, { details: { permission } });
}

/** Made once and thrown many times: the stack of each would cost a hundred times the decision. */
const refusals: ReadonlyMap<string, AppError> = new Map(
  [...permissions, ...operatorPermissions].map((name) => [name, refusalOf(name)]),
);
const projectRefusals: ReadonlyMap<string, AppError> = new Map(
  permissions.map((name) => [name, projectRefusalOf(name)]),
);

/**
 * The one decision of who may do what; in memory, below a microsecond. A tenant's principal holds nothing of the
 * operator's, and the operator nothing of a tenant's.
 * @throws AppError `permission_denied` where the principal lacks the permission
 */
export function requirePermission(principal: Principal, permission: Permission | OperatorPermission): void {
  const ofOperator = isOperatorPermission(permission);
  if (principal.kind === 'tenant' && !ofOperator && isAllowed(principal, permission)) return;
  if (principal.kind === 'operator' && ofOperator && operatorRoleAllows(principal.role, permission)) return;
  const isProjectAtFault =
    principal.kind === 'tenant' && !ofOperator && isAllowed({ ...principal, projectId: null }, permission);
  throw (isProjectAtFault ? projectRefusals : refusals).get(permission) ?? refusalOf(permission);
}
