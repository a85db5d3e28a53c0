/**
 * A check that can't fail proves nothing: each way to weaken the schema is done once, in a transaction that is rolled
 * back, and the catalog's rules must say so, by the rule that is meant to.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { systemGrants } from '#db';
import { testedAdapters } from '../index.ts';
import { catalogBreaches, rules, systemGrantBreaches } from './catalog.ts';
import { openAsSuperuser, rolledBack, type SuperuserSession } from './superuser.ts';

/** The sample's schema has no leases, so its jobs hold no fence. */
function withoutFence<Grants extends object>(grants: Grants): Omit<Grants, 'platform.hold_fence'> {
  const { 'platform.hold_fence': _, ...rest }: Grants & { 'platform.hold_fence'?: unknown } = grants;
  return rest;
}

/** A schema of its own shape, so that the test breaks the rules and not today's tables. */
const sampleSchema = `
  set local role stoa_migration;
  create table tenant.samples (
    tenant_id uuid not null, id uuid not null, name text not null, shared_id uuid,
    primary key (tenant_id, id), unique (tenant_id, name));
  create table tenant.parts (
    tenant_id uuid not null, id uuid not null, sample_id uuid not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, sample_id) references tenant.samples (tenant_id, id));
  create table tenant.logs (
    tenant_id uuid not null, id uuid not null, at timestamptz not null,
    primary key (tenant_id, id, at)) partition by range (at);
  create table platform.shared (id uuid primary key);
  create table jobs.waiting (id uuid primary key);
  create function jobs.count_waiting() returns bigint language sql stable as 'select count(*) from jobs.waiting';
  create function jobs.enqueue_own() returns integer language sql security definer set search_path = pg_catalog as 'select 1';
  grant select on jobs.waiting to stoa_operator;
  grant execute on function jobs.enqueue_own() to stoa_tenant;
  create view tenant.sample_names with (security_invoker = true) as select tenant_id, name from tenant.samples;
  create materialized view tenant.sample_counts as select tenant_id, count(*) as n from tenant.samples group by tenant_id;
  create function tenant.own() returns integer language sql security definer set search_path = pg_catalog as 'select 1';
  select platform.protect_tenant_table('tenant.samples', tenant_verbs => 'select, insert');
  select platform.protect_tenant_table('tenant.parts', tenant_verbs => 'select', system_verbs => 'select');
  select platform.protect_tenant_table('tenant.logs', tenant_verbs => 'select');
  select platform.make_partitions('tenant.logs', 'month', 0);
  select platform.protect_platform_table('platform.shared', operator_verbs => 'select');
  do $$ begin execute 'alter table ' || (select inhrelid::regclass from pg_inherits where inhparent = 'tenant.logs'::regclass) || ' rename to logs_first'; end $$;
  reset role;
`;

interface Mutation {
  readonly name: string;
  readonly sql: string;
  /** Part of the name of the rule that must speak. */
  readonly rule: string;
}

const asOwner = (sql: string): string => `set local role stoa_migration; ${sql}; reset role`;

const policyExpression = `tenant_id = (select nullif(current_setting('stoa.tenant', true), '')::uuid)`;

const mutations: readonly Mutation[] = [
  {
    name: 'row security off',
    sql: 'alter table tenant.samples disable row level security',
    rule: 'enabled and forced',
  },
  {
    name: 'row security not forced',
    sql: 'alter table tenant.samples no force row level security',
    rule: 'enabled and forced',
  },
  {
    name: 'a partition without row security',
    sql: 'alter table tenant.logs_first disable row level security',
    rule: 'enabled and forced',
  },
  {
    name: 'a partition not forced',
    sql: 'alter table tenant.logs_first no force row level security',
    rule: 'enabled and forced',
  },
  {
    name: 'the tenant policy dropped',
    sql: 'drop policy stoa_tenant_rows on tenant.samples',
    rule: 'four standard policies',
  },
  {
    name: 'the operator policy dropped',
    sql: 'drop policy stoa_operator_rows on tenant.samples',
    rule: 'four standard policies',
  },
  {
    name: 'a policy of a partition dropped',
    sql: 'drop policy stoa_tenant_rows on tenant.logs_first',
    rule: 'four standard policies',
  },
  {
    name: 'the tenant policy weakened to true',
    sql: 'alter policy stoa_tenant_rows on tenant.samples using (true)',
    rule: 'four standard policies',
  },
  {
    name: 'the check weakened to true',
    sql: 'alter policy stoa_tenant_rows on tenant.samples with check (true)',
    rule: 'four standard policies',
  },
  {
    name: 'the tenant policy weakened by or',
    sql: `alter policy stoa_tenant_rows on tenant.samples using (${policyExpression} or name = 'public')`,
    rule: 'four standard policies',
  },
  {
    name: 'a null that means every row',
    sql: `alter policy stoa_tenant_rows on tenant.samples using (coalesce(tenant_id = nullif(current_setting('stoa.tenant', true), '')::uuid, true))`,
    rule: 'four standard policies',
  },
  {
    name: 'the tenant policy for everybody',
    sql: 'alter policy stoa_operator_rows on tenant.samples to public',
    rule: 'four standard policies',
  },
  {
    name: 'the operator policy also for tenants',
    sql: 'alter policy stoa_operator_rows on tenant.samples to stoa_operator, stoa_tenant',
    rule: 'four standard policies',
  },
  {
    name: 'one policy too many',
    sql: 'create policy extra on tenant.samples for select to stoa_tenant using (true)',
    rule: 'four standard policies',
  },
  {
    name: 'a policy for one verb only',
    sql: `drop policy stoa_tenant_rows on tenant.samples; create policy stoa_tenant_rows on tenant.samples for select to stoa_tenant using (${policyExpression})`,
    rule: 'four standard policies',
  },
  {
    name: 'a primary key in another order',
    sql: 'alter table tenant.parts drop constraint parts_pkey, add primary key (id, tenant_id)',
    rule: 'first in every primary key',
  },
  {
    name: 'a unique index without the tenant',
    sql: 'create unique index on tenant.samples (name)',
    rule: 'first in every primary key',
  },
  {
    name: 'a unique index on an expression first',
    sql: 'create unique index on tenant.samples (lower(name), tenant_id)',
    rule: 'first in every primary key',
  },
  {
    name: 'no primary key',
    sql: 'alter table tenant.parts drop constraint parts_pkey',
    rule: 'has a primary key',
  },
  {
    name: 'a foreign key without the tenant',
    sql: 'alter table tenant.samples add foreign key (shared_id) references platform.shared (id)',
    rule: 'foreign key of a tenant table',
  },
  {
    name: 'a foreign key in another order',
    sql: 'alter table tenant.parts add foreign key (sample_id, tenant_id) references tenant.samples (id, tenant_id)',
    rule: 'foreign key of a tenant table',
  },
  {
    name: 'a foreign key from platform to a tenant table',
    sql: 'alter table platform.shared add tenant_id uuid, add foreign key (tenant_id, id) references tenant.samples (tenant_id, id)',
    rule: 'from elsewhere into a tenant table',
  },
  {
    name: 'a tenant that may be null',
    sql: 'create table tenant.loose (tenant_id uuid, id int)',
    rule: 'tenant_id uuid not null',
  },
  {
    name: 'a tenant as text',
    sql: 'create table tenant.texts (tenant_id text primary key)',
    rule: 'tenant_id uuid not null',
  },
  {
    name: 'a table without a tenant',
    sql: 'create table tenant.lookup (id int primary key)',
    rule: 'tenant_id uuid not null',
  },
  {
    name: 'an unlogged table',
    sql: 'create unlogged table platform.fast (id int primary key)',
    rule: 'neither foreign nor unlogged',
  },
  {
    name: 'truncate granted',
    sql: 'grant truncate on tenant.samples to stoa_tenant',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'references granted',
    sql: 'grant references on tenant.samples to stoa_operator',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'trigger granted',
    sql: 'grant trigger on tenant.samples to stoa_system',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'a grant to everybody',
    sql: 'grant select on tenant.samples to public',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'a grant that can be handed on',
    sql: 'grant select on tenant.samples to stoa_operator with grant option',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'a sequence granted',
    sql: 'create sequence tenant.numbers; grant usage on sequence tenant.numbers to stoa_tenant',
    rule: 'only select, insert, update and delete',
  },
  {
    name: 'a column granted',
    sql: 'grant references (name) on tenant.samples to stoa_tenant',
    rule: 'single columns',
  },
  {
    name: 'a partition granted',
    sql: 'grant select on tenant.logs_first to stoa_tenant',
    rule: 'through their parent',
  },
  {
    name: 'a materialized view granted',
    sql: 'grant select on tenant.sample_counts to stoa_tenant',
    rule: 'no materialized view',
  },
  {
    name: 'a tenant that writes in platform',
    sql: 'grant insert on platform.shared to stoa_tenant',
    rule: 'writes nothing in the schema platform',
  },
  {
    name: 'a tenant that reads in jobs',
    sql: 'grant select on jobs.waiting to stoa_tenant',
    rule: 'a tenant reaches the schema jobs',
  },
  {
    name: 'a tenant that calls another function of jobs',
    sql: 'grant execute on function jobs.count_waiting() to stoa_tenant',
    rule: 'a tenant reaches the schema jobs',
  },
  {
    name: "a function that enqueues with its caller's rights",
    sql: 'alter function jobs.enqueue_own() security invoker',
    rule: 'a tenant reaches the schema jobs',
  },
  {
    name: 'an operator that writes in jobs',
    sql: 'grant update on jobs.waiting to stoa_operator',
    rule: 'an operator reads the schema jobs',
  },
  {
    name: "a view with its owner's rights",
    sql: 'alter view tenant.sample_names reset (security_invoker)',
    rule: 'views run with the rights',
  },
  {
    name: 'a definer function without search_path',
    sql: 'alter function tenant.own() reset search_path',
    rule: 'fix their search_path',
  },
  {
    name: 'a definer function with another search_path',
    sql: 'alter function tenant.own() set search_path = "$user", public',
    rule: 'fix their search_path',
  },
  {
    name: 'a definer function that looks in temporary tables first',
    sql: 'alter function tenant.own() set search_path = pg_temp, pg_catalog',
    rule: 'fix their search_path',
  },
  {
    name: 'a function for everybody',
    sql: 'grant execute on function tenant.own() to public',
    rule: 'no function is for everybody',
  },
  {
    name: 'usage of a schema for everybody',
    sql: 'grant usage on schema tenant to public',
    rule: 'schemas can be used',
  },
  {
    name: 'a login that may create in a schema',
    sql: 'grant create on schema tenant to stoa_operator',
    rule: 'schemas can be used',
  },
  {
    name: 'grants on what will be made',
    sql: 'alter default privileges grant select on tables to stoa_tenant',
    rule: 'default privileges',
  },
  {
    name: 'a rewrite rule',
    sql: 'create rule nothing as on delete to tenant.parts do instead nothing',
    rule: 'rewrite rule',
  },
].map((mutation) => ({ ...mutation, sql: asOwner(mutation.sql) }));

/** What takes more than the owner's rights. */
const superuserMutations: readonly Mutation[] = [
  {
    name: 'a table in public',
    sql: 'create table public.stray (id int)',
    rule: 'relations lie in the schemas',
  },
  {
    name: 'a table in a schema of its own',
    sql: 'create schema stray; create table stray.things (id int)',
    rule: 'relations lie in the schemas',
  },
  { name: 'public open again', sql: 'grant usage on schema public to public', rule: 'schemas can be used' },
  {
    name: 'a function in public',
    sql: `create function public.stray() returns int language sql as 'select 1'`,
    rule: 'functions lie in the schemas',
  },
  {
    name: 'a table with another owner',
    sql: 'alter table tenant.samples owner to stoa_operator',
    rule: 'belong to stoa_migration',
  },
  { name: 'a login that owns', sql: 'alter table platform.shared owner to stoa_system', rule: 'own nothing' },
  {
    name: 'a login that bypasses row security',
    sql: 'alter role stoa_tenant bypassrls',
    rule: 'neither bypass row security',
  },
  {
    name: 'a login that makes roles',
    sql: 'alter role stoa_operator createrole',
    rule: 'neither bypass row security',
  },
  { name: 'a login in a group', sql: 'grant stoa_operator to stoa_tenant', rule: 'members of nothing' },
  {
    name: 'a login that reads everything',
    sql: 'grant pg_read_all_data to stoa_tenant',
    rule: 'members of nothing',
  },
  {
    name: 'a database open to everybody',
    sql: `do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$`,
    rule: 'closed to everybody else',
  },
  { name: 'a schema gone', sql: 'drop schema jobs cascade', rule: 'three schemas exist' },
  {
    name: 'an event trigger',
    sql: `create function platform.seen() returns event_trigger language plpgsql as 'begin end'; create event trigger seen on ddl_command_end execute function platform.seen()`,
    rule: 'event trigger',
  },
];

for (const adapter of testedAdapters()) {
  describe(`the catalog's rules, on ${adapter}`, () => {
    let session: SuperuserSession;
    before(async () => {
      session = await openAsSuperuser(adapter, []);
    });
    after(() => session.close());

    const breachesAfter = (sql: string): Promise<string[]> =>
      rolledBack(session, async () => {
        await session.run(sampleSchema);
        if (sql !== '') await session.run(sql);
        return catalogBreaches(session);
      });

    test('the sample schema, made with the helpers that migrations use, keeps every rule', async () => {
      assert.deepEqual(await breachesAfter(''), []);
    });

    for (const { name, sql, rule } of [...mutations, ...superuserMutations]) {
      test(`${name} is found`, async () => {
        const breaches = await breachesAfter(sql);
        assert.ok(
          breaches.some((breach) => breach.split(': ')[0]?.includes(rule)),
          `expected a breach of "${rule}", found ${JSON.stringify(breaches)}`,
        );
      });
    }

    test('every rule is broken by at least one mutation', () => {
      const untried = rules.filter(
        ({ name }) => ![...mutations, ...superuserMutations].some(({ rule }) => name.includes(rule)),
      );
      assert.deepEqual(
        untried.map(({ name }) => name),
        [],
      );
    });

    test('a right of stoa_system that no job lists is found, and a listed one that it lacks', async () => {
      const breaches = await rolledBack(session, async () => {
        await session.run(
          'grant delete on platform.leases to stoa_system; revoke select on platform.migrations from stoa_system',
        );
        return systemGrantBreaches(session, {
          leases: { 'platform.leases': ['select', 'insert', 'update'] },
          schema: withoutFence(systemGrants.schema),
          partitions: {
            'platform.make_partitions': ['execute'],
            'platform.drop_partitions': ['execute'],
            'platform.make_audit_months': ['execute'],
            'platform.drop_audit_months': ['execute'],
          },
          audit: systemGrants.audit,
        });
      });
      assert.deepEqual(breaches, [
        'a job lists platform.migrations select, which stoa_system lacks',
        'stoa_system holds platform.leases delete, which no job lists',
      ]);
    });
  });
}
