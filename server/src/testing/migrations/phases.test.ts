/** What a migration may do in its phase: the rules over every migration of Stoa, and over planted breaches. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { migrationLabel, type MigrationPhase, readMigrationFiles } from '#db';
import { migrationSets } from '../../app/migrations.ts';
import { phaseBreaches, type PhaseRule, phaseRules } from './phase-rules.ts';
import { statementsOf } from './sql-statements.ts';

/**
 * What the rules refuse and what stays: from before there were phases (these files can't change any more), or judged by a
 * person, since it can't be read.
 */
const exceptions: Readonly<Record<string, string>> = {
  'platform/db/0005-audit unreadable': 'takes rights on the tables that the same file makes',
  'platform/db/0006-audit-actors index-blocks': 'the table came with the same release',
  'platform/db/0007-audit-denied index-blocks': 'the tables came with the same release',
  'platform/events/0002-consumers index-blocks': 'before there were phases',
  'platform/jobs/0001-pg-boss unreadable': 'before there were phases; makes partitions of its own new tables',
  'platform/jobs/0002-named-jobs index-blocks': 'before there were phases',
};

test('every migration keeps to its phase, but for listed exceptions, and each of these is one', async () => {
  const files = await readMigrationFiles(migrationSets);
  const breaches = phaseBreaches(files.map((file) => ({ ...file, label: migrationLabel(file) })));
  assert.deepEqual(
    breaches
      .filter(({ label, rule }) => !(`${label} ${rule}` in exceptions))
      .map(({ label, rule, statement }) => `${label} ${rule}: ${phaseRules[rule]}; in: ${statement}`),
    [],
  );
  const found = breaches.map(({ label, rule }) => `${label} ${rule}`);
  assert.deepEqual(
    Object.keys(exceptions).filter((listed) => !found.includes(listed)),
    [],
    'listed without a breach',
  );
});

const before = `
create table tenant.things (
  tenant_id uuid not null, name text not null default '', amount int, primary key (tenant_id, name)
);
create table tenant.log (tenant_id uuid, at timestamptz) partition by range (at);
create table platform.idempotency_keys (key text);
create type platform.shape as (a int);
create sequence platform.counter;
create view platform.overview as select 1 as one;
create index things_by_amount on tenant.things (amount);
create policy own on tenant.things using (true);
create function platform.sum_of(a int, b int default 2) returns int language sql as $$ select a + b; drop table x $$;
select platform.protect_tenant_table('tenant.things', tenant_verbs => 'select, insert', system_verbs => 'select');
`;

/** Rules broken by the text as a second migration. */
function broken(text: string, phase: MigrationPhase = 'expand'): PhaseRule[] {
  const files = [
    { label: 'first', phase: 'expand', sql: before },
    { label: 'second', phase, sql: text },
  ] as const;
  const breaches = phaseBreaches(files);
  assert.ok(breaches.every(({ label }) => label === 'second'));
  return breaches.map(({ rule }) => rule);
}

const planted: Readonly<Record<PhaseRule, readonly string[]>> = {
  drop: [
    'drop table tenant.things;',
    'DROP TABLE IF EXISTS "tenant"."things" cascade',
    'alter table tenant.things drop column amount;',
    'alter table if exists only tenant.things add column more text, drop amount;',
    'drop function platform.sum_of(int, int);',
    'drop type platform.shape;',
    'drop view platform.overview;',
    'drop index tenant.things_by_amount;',
    'drop index concurrently if exists tenant.things_by_amount;',
    'drop sequence platform.counter; -- drop policy',
    'do $$ begin drop table tenant.things; end $$;',
    'do $x$ begin if true then alter table tenant.things drop column amount; end if; end $x$;',
  ],
  'drop-policy': [
    'drop policy own on tenant.things;',
    'drop policy own on tenant.things; create policy other on tenant.things using (true);',
    'drop policy own on tenant.things; create policy own on tenant.log using (true);',
  ],
  'drop-constraint': [
    'alter table tenant.things drop constraint things_check;',
    'alter table tenant.things drop constraint things_check, add constraint other check (true) not valid;',
  ],
  rename: [
    'alter table tenant.things rename to items;',
    'alter table tenant.things rename column amount to sum;',
    'alter table tenant.things rename amount to sum;',
    'alter table tenant.things rename constraint a to b;',
    'alter table tenant.things set schema platform;',
    'alter function platform.sum_of(int, int) rename to total;',
    'alter index tenant.things_by_amount rename to other;',
  ],
  type: [
    'alter table tenant.things alter column amount type bigint;',
    'alter table tenant.things alter amount set data type bigint using amount::bigint;',
    'alter type platform.shape add attribute b int;',
  ],
  'not-null': [
    'alter table tenant.things alter column amount set not null;',
    'alter table tenant.things add column more text not null;',
    'alter table tenant.things add column if not exists more numeric(38, 0) not null;',
    "alter table tenant.things add more text not null check (more <> coalesce('default', ''));",
  ],
  default: [
    'alter table tenant.things alter column name drop default;',
    'alter table tenant.things alter column name drop identity if exists;',
  ],
  constraint: [
    'alter table tenant.things add constraint positive check (amount > 0);',
    'alter table tenant.things add check (amount > 0);',
    'alter table tenant.things add constraint one unique (amount);',
    'alter table tenant.things add constraint one unique (amount) not valid;',
    'alter table tenant.things add foreign key (amount) references tenant.others (amount);',
    'alter table tenant.things add column more text unique;',
    'create unique index things_one on tenant.things (tenant_id, amount);',
    'create unique index concurrently if not exists things_one on only tenant.things (tenant_id, amount);',
  ],
  signature: [
    'create or replace function platform.sum_of(a int, b int default 2, c int default 3) returns int language sql as $$ select 1 $$;',
    'create function platform.sum_of(a bigint) returns int language sql as $$ select 1 $$;',
    'create or replace function platform.sum_of(a int, b int default 2) returns bigint language sql as $$ select 1 $$;',
  ],
  rights: [
    'revoke select on tenant.things from stoa_tenant;',
    'revoke execute on function platform.sum_of(int, int) from public;',
    "select platform.protect_tenant_table('tenant.things', tenant_verbs => 'select', system_verbs => 'select');",
    "select platform.protect_tenant_table('tenant.things', 'select, insert');",
    "select platform.grant_verbs('tenant.things', 'insert, select', null, null);",
    'create policy fewer on tenant.things as restrictive using (false);',
  ],
  rows: ['truncate tenant.things;', 'truncate table tenant.things, tenant.log;'],
  partition: ['alter table tenant.log detach partition tenant.log_p20260101;'],
  'index-blocks': [
    'create index log_by_time on tenant.log (at);',
    'create index on tenant.log (at);',
    'create index keys on platform.idempotency_keys using btree (key);',
    '\n\ncreate index log_by_time on tenant.log (at);\n-- concurrently',
  ],
  unreadable: ["do $$ begin execute format('drop table %I', 'x'); end $$;"],
  brings: [],
};

test('every rule finds each of its planted breaches, and finds it once', () => {
  for (const [rule, texts] of Object.entries(planted)) {
    for (const text of texts) assert.deepEqual(broken(text), [rule], text);
  }
  for (const text of [
    'create table tenant.more (tenant_id uuid not null);',
    'alter table tenant.things add column more text;',
    'alter table tenant.things drop column amount, add column more text;',
  ])
    assert.deepEqual(broken(text, 'contract'), ['brings'], text);
});

test('every rule has a planted breach', () => {
  const without = Object.entries(planted).filter(([rule, texts]) => rule !== 'brings' && texts.length === 0);
  assert.deepEqual(without, []);
  assert.deepEqual(Object.keys(planted).toSorted(), Object.keys(phaseRules).toSorted());
});

test('what leaves the older code alone is allowed in an expand migration', () => {
  for (const text of [
    "create table tenant.more (tenant_id uuid not null, name text unique, check (name <> '')); create unique index a on tenant.more (name);",
    'create table tenant.more (id int); alter table tenant.more rename to lots; alter table tenant.more drop column id;',
    'alter table tenant.things add column more text;',
    "alter table tenant.things add column more text not null default 'drop table'; -- drop table tenant.things",
    "/* drop table tenant.things; */ alter table tenant.things add column kind text check (kind in ('a', 'b'));",
    'alter table tenant.things add column id bigint not null generated always as identity;',
    'alter table tenant.things add constraint positive check (amount > 0) not valid;',
    'alter table tenant.things validate constraint positive;',
    'alter table tenant.things add column other text, add constraint fk foreign key (tenant_id, other) references tenant.things;',
    "alter table tenant.things drop constraint kind_check, add constraint kind_check check (kind in ('a', 'b', 'c')) not valid;",
    'alter table tenant.things alter column amount set default 1, alter column amount set not null;',
    'alter table tenant.things alter column amount drop not null;',
    'drop policy own on tenant.things; create policy own on tenant.things using (true);',
    'create index things_by_name on tenant.things (name);',
    '-- phase: expand\n-- concurrently\ncreate index log_by_time on tenant.log (at);',
    'create or replace function platform.sum_of(a int, b int\n default 2)\nreturns int language sql as $$ select a - b $$;',
    'create function platform.total(a int) returns int language sql as $$ select a; truncate tenant.things $$;',
    "select platform.protect_tenant_table('tenant.things', tenant_verbs => 'insert, select, update', system_verbs => 'select');",
    'grant select on tenant.things to stoa_operator;',
    "do $$ begin perform platform.make_partitions('tenant.log', 'day', 1); end $$;",
    "insert into tenant.things (name) values ('alter table tenant.things drop column amount; ');",
  ])
    assert.deepEqual(broken(text), [], text);
});

test('a contract migration may take everything away', () => {
  const everything = Object.values(planted).flat();
  const takenAway = everything.filter((text) => !/\badd (?:column )?(?:if not exists )?more\b/.test(text));
  for (const text of takenAway) assert.deepEqual(broken(text, 'contract'), [], text);
});

test('statements end at the semicolons outside of comments, literals and bodies', () => {
  const read = statementsOf(`select ';'; -- one; two
    select E'it\\'s;', "a;b" /* ; */ from x; do $a$ one; $$ two; $$ $a$; select $1;`);
  assert.deepEqual(
    read.map(({ text }) => text),
    [`select ';'`, `select e'it\\'s;', a;b from x`, 'do $body$', 'select $1'],
  );
  assert.deepEqual(read[2]?.bodies, [' one; $$ two; $$ ']);
});
