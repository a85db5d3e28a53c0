import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveRoles } from './roles.ts';

test('no name and all mean every role, others only themselves', () => {
  assert.deepEqual(resolveRoles([]).names, ['gateway', 'control']);
  assert.deepEqual(resolveRoles(['all']).names, ['gateway', 'control']);
  assert.deepEqual(resolveRoles(['control', 'control']).names, ['control']);
  assert.equal(resolveRoles(['gateway']).has('control'), false);
});

test('an unknown role is refused with the names of the known ones', () => {
  assert.throws(() => resolveRoles(['gateway', 'toString']), /toString.*gateway, control and all/);
});
