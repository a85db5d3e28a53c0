/** Who calls, and what the matrix says to that. */
import {
  type Endpoint,
  endUserPermissions,
  type ErrorCode,
  grantingPermissions,
  isOperatorPermission,
  isPermission,
  type OperatorRole,
  operatorRoleAllows,
  type Permission,
  permissions,
  projectPermissions,
  roleAllows,
  roles,
} from '@stoa/contracts';
import type { Row } from './rows.ts';
import type { KeyName, Stage } from './stage.ts';

export interface Caller {
  readonly name: string;
  /** The header `authorization`; none where undefined. */
  readonly authorization: string | undefined;
  /** `answered`: as the row says. `not its own`: answered, but what the ids name is not there for it. */
  readonly expected: 'answered' | 'not its own' | ErrorCode;
  /** Refused for what it would grant, which is looked at when what the ids name was found. */
  readonly isRefusedGrant?: boolean;
  /** Of the other tenant, so that what it sends is about that one wherever no id says otherwise. */
  readonly isOfOther?: boolean;
}

type Needed = Row['needs'];

const refused: Partial<Record<KeyName, ErrorCode>> = {
  revoked: 'key_revoked',
  expired: 'key_expired',
  suspended: 'tenant_suspended',
  deleted: 'invalid_api_key',
  elsewhere: 'ip_not_allowed',
  revokedToken: 'token_revoked',
  expiredToken: 'token_expired',
};
const refusedOfOperator: Partial<Record<KeyName, ErrorCode>> = {
  operatorRevoked: 'key_revoked',
  operatorExpired: 'key_expired',
};
/** Tokens of an admin's key, and what they may hold of its permissions. */
const tokens: readonly (readonly [KeyName, readonly Permission[]])[] = [
  ['token', permissions.filter((name) => !grantingPermissions.includes(name))],
  ['endUserToken', endUserPermissions],
];
const rolesInTenant = roles;
const admitted: readonly KeyName[] = [...rolesInTenant, 'project', 'token', 'endUserToken'];
const rolesOfOperator: readonly (readonly [KeyName, OperatorRole])[] = [
  ['operator', 'operator'],
  ['operatorReadonly', 'operator-readonly'],
];

/** What is no credential at all, among it what a query that is put together from text would take for true. */
export const strangers: readonly (readonly [string, string | undefined])[] = [
  ['no credential', undefined],
  ['an empty bearer', 'Bearer '],
  ['garbage', 'Bearer garbage'],
  ['another scheme', 'Basic YWRtaW46YWRtaW4='],
  ['a tautology', "Bearer ' OR '1'='1"],
  ['a tautology in a key', "Bearer stoa_sk_00' OR 1=1--_000000000000000000000000000000000000"],
  ['a word of a language', 'Bearer undefined'],
  ['a key that never was', `Bearer stoa_sk_${'0'.repeat(12)}_${'0'.repeat(36)}`],
  ['an operator key that never was', `Bearer stoa_op_${'0'.repeat(12)}_${'0'.repeat(36)}`],
  ['an unsigned token', 'Bearer eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ.'],
];

/**
 * Every caller for an operation that needs this. Of the strangers one, where a credential is needed: a test of their own has
 * them all at every operation.
 */
export function callersOf(stage: Stage, { listener }: Endpoint, row: Row): readonly Caller[] {
  const { needs } = row;
  const outside = (needs === 'anyone' ? strangers : strangers.slice(0, 1)).map(([name, authorization]) => ({
    name,
    authorization,
    expected: needs === 'anyone' ? ('answered' as const) : ('invalid_api_key' as const),
  }));
  const inside = listener === 'public' ? ofTenants(stage, row) : ofOperator(stage, needs);
  return [...outside, ...inside];
}

function bearer(name: string, key: string, expected: Caller['expected']): Caller {
  return { name, authorization: `Bearer ${key}`, expected };
}

function named(stage: Stage, name: KeyName, expected: Caller['expected']): Caller {
  return bearer(name, stage.keys[name], expected);
}

function ofTenants(stage: Stage, { needs, grants }: Row): readonly Caller[] {
  const { keys, only, allBut, other } = stage;
  const names = Object.keys(keys).filter((name): name is KeyName => Object.hasOwn(keys, name));
  if (needs === 'anyone') return names.map((name) => named(stage, name, 'answered'));
  if (!isPermission(needs)) throw new Error(`${needs} is no permission of tenants`);
  const mark = (isHeld: boolean): Caller['expected'] => (isHeld ? 'answered' : 'permission_denied');
  return names
    .map((name) => named(stage, name, refused[name] ?? 'invalid_api_key'))
    .filter(({ name }) => !admitted.some((one) => one === name))
    .concat([
      ...rolesInTenant.map((role) => named(stage, role, mark(roleAllows(role, needs)))),
      ...tokens.map(([name, held]) => named(stage, name, mark(held.includes(needs)))),
      named(stage, 'project', projectPermissions.includes(needs) ? 'not its own' : 'permission_denied'),
      {
        ...bearer(
          "an admin's key with this scope only",
          only[needs],
          grants ? 'permission_denied' : 'answered',
        ),
        ...(grants ? { isRefusedGrant: true } : {}),
      },
      bearer("an admin's key with every scope but this", allBut[needs], 'permission_denied'),
      { ...bearer("another tenant's admin", other.key, 'not its own'), isOfOther: true },
    ]);
}

function ofOperator(stage: Stage, needs: Needed): readonly Caller[] {
  const names = Object.keys(stage.keys).filter((name): name is KeyName => Object.hasOwn(stage.keys, name));
  if (needs === 'anyone') return names.map((name) => named(stage, name, 'answered'));
  if (!isOperatorPermission(needs)) throw new Error(`${needs} is no permission of the operator`);
  return names.map((name) => {
    const role = rolesOfOperator.find(([key]) => key === name)?.[1];
    if (role === undefined) return named(stage, name, refusedOfOperator[name] ?? 'invalid_api_key');
    return named(stage, name, operatorRoleAllows(role, needs) ? 'answered' : 'permission_denied');
  });
}
