import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type OperatorPermission,
  operatorPermissions,
  operatorRoles,
  type Permission,
  permissions,
  permissionTable,
  projectPermissions,
  roles,
} from '@stoa/contracts';
import { asTenantId } from './ids.ts';
import { type OperatorPrincipal, requirePermission, type TenantPrincipal } from './principal.ts';

const admin: TenantPrincipal = {
  kind: 'tenant',
  tenantId: asTenantId('018f4f5e-0000-7000-8000-000000000001'),
  keyId: '000000000001',
  role: 'admin',
  scopes: null,
  projectId: null,
  tags: {},
  standing: { refusal: null },
};
const operator: OperatorPrincipal = { kind: 'operator', keyId: '000000000002', role: 'operator' };

function holds(
  principal: TenantPrincipal | OperatorPrincipal,
  permission: Permission | OperatorPermission,
): boolean {
  try {
    requirePermission(principal, permission);
    return true;
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error && error.code === 'permission_denied');
    return false;
  }
}

test('every permission is of tenants or of the operator, and of one of them only', () => {
  const names: readonly string[] = [...permissions, ...operatorPermissions];
  assert.deepEqual([...names].sort(), Object.keys(permissionTable).sort());
});

test('a wider role holds all that a narrower one does', () => {
  for (const [wider, narrower] of [roles.slice(0, 2), roles.slice(1, 3)]) {
    for (const permission of permissions) {
      if (narrower && holds({ ...admin, role: narrower }, permission))
        assert.ok(wider && holds({ ...admin, role: wider }, permission), permission);
    }
  }
});

test('an admin holds everything of a tenant and nothing of the operator, and the operator nothing of a tenant', () => {
  for (const permission of permissions) {
    assert.ok(holds(admin, permission), permission);
    for (const role of operatorRoles) assert.ok(!holds({ ...operator, role }, permission), permission);
  }
  for (const permission of operatorPermissions) {
    assert.ok(holds(operator, permission), permission);
    for (const role of roles) assert.ok(!holds({ ...admin, role }, permission), permission);
  }
});

test('the operator who may only read changes nothing', () => {
  const readonly: OperatorPrincipal = { ...operator, role: 'operator-readonly' };
  assert.deepEqual(
    operatorPermissions.filter((permission) => holds(readonly, permission)),
    ['control:read'],
  );
});

test('a viewer holds only what reads, and nothing that tells of keys, members or the audit', () => {
  const held = permissions.filter((permission) => holds({ ...admin, role: 'viewer' }, permission));
  for (const permission of held) assert.match(permission, /:read$/);
  for (const permission of ['keys:read', 'members:read', 'audit:read', 'issuers:read'] as const)
    assert.ok(!held.includes(permission), permission);
});

test('scopes narrow a role and never widen it', () => {
  for (const role of roles) {
    for (const permission of permissions) {
      const whole = holds({ ...admin, role }, permission);
      assert.equal(holds({ ...admin, role, scopes: new Set([permission]) }, permission), whole);
      const others = new Set(permissions.filter((name) => name !== permission));
      assert.ok(!holds({ ...admin, role, scopes: others }, permission), permission);
      assert.ok(!holds({ ...admin, role, scopes: new Set() }, permission), permission);
    }
  }
});

test('who is narrowed to a project holds what the table marks so, and nothing that changes the tenant', () => {
  for (const permission of permissions) {
    const isMarked = projectPermissions.includes(permission);
    assert.equal(holds({ ...admin, projectId: 'one' }, permission), isMarked, permission);
    if (permission.endsWith(':write')) assert.ok(!isMarked, permission);
  }
});
