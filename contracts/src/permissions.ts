/** Roles inside a tenant, widest first. The operator stands outside tenants and has no role here. */
export const roles = ['admin', 'developer', 'viewer'] as const;
export type Role = (typeof roles)[number];

/**
 * The one permission table: what each role may do. A key's scopes are permissions too and only ever narrow what its
 * role allows. Endpoints name one permission each.
 */
export const permissionTable = {
  'chat:create': ['admin', 'developer'],
  'embeddings:create': ['admin', 'developer'],
  'models:read': ['admin', 'developer', 'viewer'],
  'requests:read': ['admin', 'developer', 'viewer'],
  'usage:read': ['admin', 'developer', 'viewer'],
  'events:read': ['admin', 'developer'],
  'policy:read': ['admin', 'developer', 'viewer'],
  'policy:write': ['admin'],
  'keys:read': ['admin'],
  'keys:write': ['admin'],
} as const satisfies Record<string, readonly Role[]>;

export type Permission = keyof typeof permissionTable;

export const permissions: readonly Permission[] = Object.keys(permissionTable).filter(isPermission);

export function isPermission(value: string): value is Permission {
  return Object.hasOwn(permissionTable, value);
}

/** Whether a role holds a permission, scopes apart. */
export function roleAllows(role: Role, permission: Permission): boolean {
  const allowed: readonly Role[] = permissionTable[permission];
  return allowed.includes(role);
}
