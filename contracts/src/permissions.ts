/** Roles inside a tenant, widest first. */
export const roles = ['admin', 'developer', 'viewer'] as const;
export type Role = (typeof roles)[number];

/** Roles of the operator, who stands outside tenants, widest first. They hold nothing of a tenant's, and no tenant theirs. */
export const operatorRoles = ['operator', 'operator-readonly'] as const;
export type OperatorRole = (typeof operatorRoles)[number];

/**
 * The one permission table: what each role may do. A key's scopes are permissions too and only ever narrow what its
 * role allows. Endpoints name one permission each. A row is of a tenant's roles or of the operator's, never of both.
 */
export const permissionTable = {
  'chat:create': ['admin', 'developer'],
  'embeddings:create': ['admin', 'developer'],
  'models:read': ['admin', 'developer', 'viewer'],
  'requests:read': ['admin', 'developer', 'viewer'],
  'usage:read': ['admin', 'developer', 'viewer'],
  'events:read': ['admin', 'developer'],
  'webhooks:read': ['admin', 'developer'],
  'webhooks:write': ['admin'],
  'audit:read': ['admin'],
  'policy:read': ['admin', 'developer', 'viewer'],
  'policy:write': ['admin'],
  'keys:read': ['admin'],
  'keys:write': ['admin'],
  'members:read': ['admin'],
  'members:write': ['admin'],
  'tokens:create': ['admin', 'developer'],
  'tokens:revoke': ['admin', 'developer'],
  'issuers:read': ['admin'],
  'issuers:write': ['admin'],
  'control:read': ['operator', 'operator-readonly'],
  'control:write': ['operator'],
} as const satisfies Record<string, readonly Role[] | readonly OperatorRole[]>;

type Table = typeof permissionTable;
type PermissionOf<Holder> = {
  [Name in keyof Table]: Table[Name][number] extends Holder ? Name : never;
}[keyof Table];

/** What a tenant's roles and scopes are made of. */
export type Permission = PermissionOf<Role>;
/** What the operator's roles are made of. */
export type OperatorPermission = PermissionOf<OperatorRole>;

/**
 * What whoever is narrowed to a project may still do: these touch the project's own rows, or none at all. Every other
 * permission reaches over the whole tenant, so a principal of a project is refused it whatever its role; a permission
 * that is new is refused until it is named here.
 */
export const projectPermissions: readonly Permission[] = [
  'chat:create',
  'embeddings:create',
  'models:read',
  'requests:read',
  'usage:read',
  'policy:read',
  'tokens:create',
];

/**
 * What no access token of ours can hold, so that a token that leaks is worth its ten minutes and no more: whatever makes new
 * credentials, grants more to somebody, or leaves something behind that goes on after the token: a webhook that is sent what
 * happens from then on, a policy that lets keys live longer.
 */
export const grantingPermissions: readonly Permission[] = [
  'keys:write',
  'members:write',
  'issuers:write',
  'tokens:create',
  'webhooks:write',
  'policy:write',
];

const table: Readonly<Record<string, readonly string[]>> = permissionTable;

function namesHeldBy(holders: readonly string[]): readonly string[] {
  return Object.keys(table).filter(
    (name) => table[name]?.some((holder) => holders.includes(holder)) === true,
  );
}

const tenantNames = namesHeldBy(roles);
const operatorNames = namesHeldBy(operatorRoles);

/** Whether a text names a permission of tenants. */
export function isPermission(value: string): value is Permission {
  return tenantNames.includes(value);
}

/** Whether a text names a permission of the operator. */
export function isOperatorPermission(value: string): value is OperatorPermission {
  return operatorNames.includes(value);
}

/** The permissions of tenants, which are also what scopes may name. */
export const permissions: readonly Permission[] = tenantNames.filter(isPermission);
export const operatorPermissions: readonly OperatorPermission[] = operatorNames.filter(isOperatorPermission);

/** Whether a role inside a tenant holds a permission, scopes and projects apart. */
export function roleAllows(role: Role, permission: Permission): boolean {
  const allowed: readonly Role[] = permissionTable[permission];
  return allowed.includes(role);
}

/** Whether a role of the operator holds a permission. */
export function operatorRoleAllows(role: OperatorRole, permission: OperatorPermission): boolean {
  const allowed: readonly OperatorRole[] = permissionTable[permission];
  return allowed.includes(role);
}
