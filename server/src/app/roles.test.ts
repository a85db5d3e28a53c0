import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveRoles, roleOfPath } from './roles.ts';

test('no name and all mean every role, others only themselves', () => {
  assert.deepEqual(resolveRoles([]).names, ['gateway', 'control']);
  assert.deepEqual(resolveRoles(['all']).names, ['gateway', 'control']);
  assert.deepEqual(resolveRoles(['control', 'control']).names, ['control']);
  assert.equal(resolveRoles(['gateway']).has('control'), false);
});

test('an unknown role is refused with the names of the known ones', () => {
  assert.throws(() => resolveRoles(['gateway', 'toString']), /toString.*gateway, control and all/);
});

test("a path under /v1 is its prefix's role, and the gateway's where no role has the prefix", () => {
  const line = { serves: 'tests', silenceMs: 1, runsTasks: false };
  const table = { gateway: { ...line, prefixes: [] }, fixture: { ...line, prefixes: ['fixture'] } };
  for (const path of ['/v1/fixture', '/v1/fixture/{id}']) assert.equal(roleOfPath(path, table), 'fixture');
  for (const path of ['/v1/fixtures', '/v1', '/v2/fixture', '/v1/chat/completions', '/livez']) {
    assert.equal(roleOfPath(path, table), 'gateway', path);
  }
  assert.equal(roleOfPath('/v1/models'), 'gateway');
});
