import {
  type Endpoint,
  grantingPermissions,
  isPermission,
  operatorPermissions,
  operatorRoleAllows,
  operatorRoles,
  permissions,
  projectPermissions,
  roleAllows,
  roles,
} from '@stoa/contracts';
import { listEndpoints } from '../endpoints.ts';
import type { Generator } from './generator.ts';

function mark(isHeld: boolean): string {
  return isHeld ? 'yes' : '';
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string[] {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`);
}

function operationRow({ id, method, path, access }: Endpoint): string[] {
  const needs = access === 'anyone' ? 'none' : `\`${access.permission}\``;
  return [`\`${method} ${path}\``, `\`${id}\``, needs, holdersOf(access)];
}

function holdersOf(access: Endpoint['access']): string {
  if (access === 'anyone') return 'anyone, without a credential';
  const { permission } = access;
  return isPermission(permission)
    ? roles.filter((role) => roleAllows(role, permission)).join(', ')
    : operatorRoles.filter((role) => operatorRoleAllows(role, permission)).join(', ');
}

/** docs/reference/permissions.md: roles and permissions, and each operation with its own. */
export const permissionsPage: Generator = {
  path: 'docs/reference/permissions.md',
  produce: async () => {
    const endpoints = listEndpoints();
    const on = (listener: Endpoint['listener']): string[][] =>
      endpoints.filter((endpoint) => endpoint.listener === listener).map(operationRow);
    const operationHead = ['operation', 'id', 'permission', 'roles'];
    const lines = [
      '# Permissions',
      '',
      '<!-- Generated from contracts/src/permissions.ts and the endpoints by `npm run generate`. -->',
      '',
      'One table says what each role may do, and each operation names one permission of it. A caller must belong to the',
      'tenant first; then its role must hold the permission, its scopes (where it has any) must name it, and where it is',
      'narrowed to a project the permission must reach no further than one. What another tenant, or another project, holds is',
      '`not_found`, with the answer of what never was. Beneath all of this the database shows a tenant its own rows only.',
      '',
      '## Roles of a tenant',
      '',
      ...table(
        ['permission', ...roles, 'within one project', 'by an access token'],
        permissions.map((name) => [
          `\`${name}\``,
          ...roles.map((role) => mark(roleAllows(role, name))),
          mark(projectPermissions.includes(name)),
          mark(!grantingPermissions.includes(name)),
        ]),
      ),
      '',
      'A principal that is narrowed to a project is refused what is not marked in its column with `permission_denied`, whatever its role:',
      "those reach over the whole tenant. What is marked shows it its project's rows only. No access token that Stoa makes holds what is not",
      'marked in the last column, since it makes credentials or grants more to somebody; a token of an outside issuer holds what its role does.',
      '',
      '## Roles of the operator',
      '',
      'The operator stands outside tenants: its keys open no operation of a tenant, and keys of tenants none of the',
      'operator. `stoa db operator-key --role operator-readonly` makes a key that may change nothing.',
      '',
      ...table(
        ['permission', ...operatorRoles],
        operatorPermissions.map((name) => [
          `\`${name}\``,
          ...operatorRoles.map((role) => mark(operatorRoleAllows(role, name))),
        ]),
      ),
      '',
      '## Operations of tenants (`STOA_LISTEN`)',
      '',
      ...table(operationHead, on('public')),
      '',
      '## Operations of the operator (`STOA_ADMIN_LISTEN`)',
      '',
      ...table(operationHead, on('admin')),
      '',
    ];
    return lines.join('\n');
  },
};
