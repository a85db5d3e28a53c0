import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstMissingGrant, statementFacts } from './statement-check.ts';

const usesOf = (text: string): Record<string, string[]> =>
  Object.fromEntries([...statementFacts(text).uses].map(([name, verbs]) => [name, [...verbs].sort()]));

test('verbs are told by what stands before a name', () => {
  assert.deepEqual(usesOf('select * from tenant.a join platform.b on true, tenant.c'), {
    'tenant.a': ['select'],
    'platform.b': ['select'],
    'tenant.c': ['select'],
  });
  assert.deepEqual(usesOf('insert into tenant.a (x) select y from tenant.b'), {
    'tenant.a': ['insert'],
    'tenant.b': ['select'],
  });
  assert.deepEqual(usesOf('INSERT INTO tenant.a AS t (x) values (1) ON CONFLICT (x) DO UPDATE SET x = 2'), {
    'tenant.a': ['insert', 'update'],
  });
  assert.deepEqual(usesOf('update only tenant.a set x = (select max(y) from tenant.a)'), {
    'tenant.a': ['select', 'update'],
  });
  assert.deepEqual(
    usesOf('with gone as (delete from tenant.a returning *) insert into tenant.b select * from gone'),
    {
      'tenant.a': ['delete'],
      'tenant.b': ['insert'],
    },
  );
  assert.deepEqual(usesOf('merge into tenant.a using tenant.b on true when matched then do nothing'), {
    'tenant.a': ['delete', 'insert', 'update'],
    'tenant.b': ['select'],
  });
  assert.deepEqual(usesOf(`select platform.make_partitions('tenant.a', 'day', 1)`), {
    'platform.make_partitions': ['execute'],
  });
});

test('quoting, case, spaces and comments hide no name', () => {
  for (const text of [
    'select 1 from "tenant"."a"',
    'select 1 from TENANT . a',
    'select 1 from /* x */ tenant.a -- y',
  ]) {
    assert.deepEqual(usesOf(text), { 'tenant.a': ['select'] }, text);
  }
});

test('names in texts and comments, and casts, are no use', () => {
  const text = `select 'from tenant.a', e'\\' from tenant.b', $x$ from tenant.c $x$, 1::platform.kind -- from tenant.d`;
  assert.deepEqual(usesOf(text), {});
});

test('a comment or a text cannot make a statement look allowed', () => {
  for (const text of [
    '/* select */ commit',
    '-- select\ncommit',
    `'select' commit`,
    'lock table tenant.a',
    'copy tenant.a to stdout',
    '',
  ]) {
    assert.notEqual(statementFacts(text).refusal, null, text);
  }
  for (const text of [
    'select 1',
    ' (select 1)',
    'with x as (select 1) select 1',
    'explain select 1',
    'rollback to savepoint a',
  ]) {
    assert.equal(statementFacts(text).refusal, null, text);
  }
});

test('a role or tenant is not changed by a function either', () => {
  assert.notEqual(statementFacts(`select set_config('stoa.tenant', $1, true)`).refusal, null);
  assert.notEqual(statementFacts(`select SET_CONFIG ( 'role', 'stoa_operator', true)`).refusal, null);
  assert.equal(
    statementFacts(`select set_config('hnsw.iterative_scan', 'strict_order', true)`).refusal,
    null,
  );
});

test('the first use that a grant lacks is named', () => {
  const facts = statementFacts('update tenant.a set x = 1 where id in (select id from tenant.b)');
  assert.equal(firstMissingGrant(facts, { 'tenant.a': ['update'], 'tenant.b': ['select'] }), null);
  assert.equal(
    firstMissingGrant(facts, { 'tenant.a': ['select'], 'tenant.b': ['select'] }),
    'update on tenant.a',
  );
  assert.equal(firstMissingGrant(facts, { 'tenant.a': ['update'] }), 'select on tenant.b');
});
