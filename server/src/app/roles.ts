import { AppError } from '#kernel';

/**
 * What a process runs. A role is a set of routes and of background tasks; adding one is a line here. Every module is
 * built in every role, because control is a library that all need; the role decides what it serves.
 */
export const roleTable = {
  gateway: { serves: 'tenants: /v1', runsTasks: false },
  control: { serves: 'the operator: /control/v1', runsTasks: true },
} as const;

export type RoleName = keyof typeof roleTable;

export interface RoleSet {
  readonly names: readonly RoleName[];
  has(role: RoleName): boolean;
}

/** `all` (or no name) is every role. Unknown names are refused with the list of known ones. */
export function resolveRoles(names: readonly string[]): RoleSet {
  const known = Object.keys(roleTable).filter(isRoleName);
  const wanted =
    names.length === 0 || names.includes('all') ? known : names.map((name) => checkRole(name, known));
  const unique = known.filter((role) => wanted.includes(role));
  return { names: unique, has: (role) => unique.includes(role) };
}

function checkRole(name: string, known: readonly RoleName[]): RoleName {
  if (isRoleName(name)) return name;
  throw new AppError(
    'invalid_configuration',
    `There is no role named ${name}; the roles are ${known.join(', ')} and all.`,
  );
}

function isRoleName(name: string): name is RoleName {
  return Object.hasOwn(roleTable, name);
}
