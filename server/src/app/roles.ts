import { AppError } from '#kernel';

/** What there is to know of a role beside its name. */
export interface RoleRow {
  /** For people. */
  readonly serves: string;
  /** Its part of `/v1`, each the first word of a path: the gateway sends `/v1/<word>` and all below it there. */
  readonly prefixes: readonly string[];
  /** The longest silence that the gateway bears with it, in milliseconds. */
  readonly silenceMs: number;
  readonly runsTasks: boolean;
}

export type RoleTable = Readonly<Record<string, RoleRow>>;

/**
 * What a process runs. A role is a set of routes and of background tasks; adding one is a line here. Every module is
 * built in every role, because control is a library that all need; the role decides what it serves. What no prefix names
 * of `/v1` is the gateway's.
 */
export const roleTable = {
  gateway: { serves: 'tenants: /v1', prefixes: [], silenceMs: 60_000, runsTasks: false },
  control: { serves: 'the operator: /control/v1', prefixes: [], silenceMs: 60_000, runsTasks: true },
} as const satisfies RoleTable;

export type RoleName = keyof typeof roleTable;

export interface RoleSet<Name extends string = RoleName> {
  readonly names: readonly Name[];
  has(role: Name): boolean;
}

/** `all` (or no name) is every role. Unknown names are refused with the list of known ones. */
export function resolveRoles(names: readonly string[]): RoleSet {
  const known = Object.keys(roleTable).filter(isRoleName);
  const wanted =
    names.length === 0 || names.includes('all') ? known : names.map((name) => checkRole(name, known));
  const unique = known.filter((role) => wanted.includes(role));
  return { names: unique, has: (role) => unique.includes(role) };
}

/** The role that a public path belongs to: the one whose prefix is its first word after `/v1`, else the gateway. */
export function roleOfPath(path: string): RoleName;
export function roleOfPath(path: string, table: RoleTable): string;
export function roleOfPath(path: string, table: RoleTable = roleTable): string {
  const [, version, word] = path.split('/');
  if (version !== 'v1' || word === undefined) return 'gateway';
  const found = Object.entries(table).find(([, { prefixes }]) => prefixes.includes(word));
  return found?.[0] ?? 'gateway';
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
