/**
 * The rules of tenancy, read from the catalog of a migrated schema. Each rule is one query that answers a row
 * (`breach`) for every object that breaks it; together they answer whether a mistake in a migration could let one
 * tenant near another's rows. The mutation test breaks each of them once and demands to be told.
 */

import { type JobGrants, systemGrants, type Verb } from '#db';
import type { SuperuserSession } from './superuser.ts';

export interface Rule {
  readonly name: string;
  /** Selects one text column `breach`. */
  readonly sql: string;
}

const ourSchemas = `('tenant', 'platform', 'jobs')`;
const systemSchemas = `('pg_catalog', 'information_schema', 'pg_toast')`;
const logins = `('stoa_tenant', 'stoa_operator', 'stoa_system')`;
const isForeign = `n.nspname not in ${systemSchemas} and n.nspname !~ '^pg_(temp|toast_temp)_'`;

const tenantTables = `
  select n.nspname || '.' || c.relname as name, c.*
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'tenant' and c.relkind in ('r', 'p')`;

/** As both PostgreSQL 15 and PGlite print the policy's expression. */
const ownRows = `(tenant_id = ( SELECT (NULLIF(current_setting('stoa.tenant'::text, true), ''::text))::uuid AS "nullif"))`;

const tableRules: readonly Rule[] = [
  {
    name: 'relations lie in the schemas tenant, platform and jobs',
    sql: `select n.nspname || '.' || c.relname as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not in ${ourSchemas} and ${isForeign}`,
  },
  {
    name: 'tenant tables are plain or partitioned tables, neither foreign nor unlogged nor temporary',
    sql: `select n.nspname || '.' || c.relname as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ${ourSchemas} and (c.relkind = 'f' or (c.relkind in ('r', 'p') and c.relpersistence <> 'p'))`,
  },
  {
    name: 'every tenant table has tenant_id uuid not null',
    sql: `select t.name as breach from (${tenantTables}) t
      where not exists (
        select from pg_attribute a
        where a.attrelid = t.oid and a.attname = 'tenant_id' and a.atttypid = 'uuid'::regtype and a.attnotnull)`,
  },
  {
    name: 'every tenant table has a primary key',
    sql: `select t.name as breach from (${tenantTables}) t
      where not exists (select from pg_index i where i.indrelid = t.oid and i.indisprimary)`,
  },
  {
    name: 'tenant_id is first in every primary key, unique index and exclusion constraint',
    sql: `select t.name || ': ' || i.indexrelid::regclass as breach
      from (${tenantTables}) t join pg_index i on i.indrelid = t.oid
      left join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]
      where (i.indisunique or i.indisexclusion) and a.attname is distinct from 'tenant_id'`,
  },
  {
    name: 'tenant_id is first in every foreign key of a tenant table, on both sides',
    sql: `select t.name || ': ' || k.conname as breach
      from (${tenantTables}) t join pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
      left join pg_attribute own on own.attrelid = k.conrelid and own.attnum = k.conkey[1]
      left join pg_attribute other on other.attrelid = k.confrelid and other.attnum = k.confkey[1]
      where own.attname is distinct from 'tenant_id' or other.attname is distinct from 'tenant_id'`,
  },
  {
    name: 'no foreign key leads from elsewhere into a tenant table',
    sql: `select k.conrelid::regclass || ': ' || k.conname as breach
      from pg_constraint k join (${tenantTables}) t on t.oid = k.confrelid
      join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
      where k.contype = 'f' and n.nspname <> 'tenant'`,
  },
  {
    name: 'row security is enabled and forced on every tenant table and partition',
    sql: `select t.name as breach from (${tenantTables}) t where not (t.relrowsecurity and t.relforcerowsecurity)`,
  },
  {
    name: 'every tenant table has exactly the four standard policies',
    sql: `with wanted (role_name, expression) as (
        values ('stoa_tenant', $expression$${ownRows}$expression$),
               ('stoa_operator', 'true'), ('stoa_system', 'true'), ('stoa_migration', 'true')),
      found as (
        select p.polrelid, p.polname, p.polpermissive, p.polcmd, p.polroles,
               pg_get_expr(p.polqual, p.polrelid) as using_expression,
               pg_get_expr(p.polwithcheck, p.polrelid) as check_expression
        from pg_policy p),
      standard as (
        select f.polrelid, f.polname from found f join wanted w on f.polname = w.role_name || '_rows'
        where f.polpermissive and f.polcmd = '*'
          and f.polroles = array[(select oid from pg_roles where rolname = w.role_name)]
          and f.using_expression = w.expression and f.check_expression = w.expression)
      select t.name || ' lacks ' || w.role_name || '_rows' as breach
      from (${tenantTables}) t cross join wanted w
      where not exists (select from standard s where s.polrelid = t.oid and s.polname = w.role_name || '_rows')
      union all
      select t.name || ' has ' || f.polname as breach
      from (${tenantTables}) t join found f on f.polrelid = t.oid
      where not exists (select from standard s where s.polrelid = f.polrelid and s.polname = f.polname)`,
  },
  {
    name: 'no rewrite rule changes what a statement on a table does',
    sql: `select c.oid::regclass || ': ' || r.rulename as breach
      from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
      where ${isForeign} and not (r.rulename = '_RETURN' and c.relkind in ('v', 'm'))`,
  },
  {
    name: 'views run with the rights of whoever asks',
    sql: `select c.oid::regclass::text as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'v' and ${isForeign}
        and not coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on', 'security_invoker=1'], false)`,
  },
];

const grantRules: readonly Rule[] = [
  {
    name: 'only the three logins hold rights on relations, and only select, insert, update and delete',
    sql: `select c.oid::regclass || ': ' || g.privilege_type || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g left join pg_roles r on r.oid = g.grantee
      where ${isForeign} and g.grantee <> c.relowner
        and (coalesce(r.rolname, '') not in ${logins} or g.is_grantable
             or g.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))`,
  },
  {
    name: 'no rights are granted on single columns beyond those verbs',
    sql: `select c.oid::regclass || '.' || a.attname || ': ' || g.privilege_type as breach
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(a.attacl) g left join pg_roles r on r.oid = g.grantee
      where ${isForeign}
        and (coalesce(r.rolname, '') not in ${logins} or g.privilege_type not in ('SELECT', 'INSERT', 'UPDATE'))`,
  },
  {
    name: 'partitions are reached through their parent only',
    sql: `select c.oid::regclass || ': ' || g.privilege_type || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g left join pg_roles r on r.oid = g.grantee
      where c.relispartition and c.relkind in ('r', 'p') and ${isForeign} and g.grantee <> c.relowner
        and n.nspname <> 'jobs'`,
  },
  {
    // pg-boss writes to its partition by name; no tenant has rights there at all, so row security has nothing to hold.
    name: 'a tenant reaches the schema jobs through the function that enqueues, and nothing else',
    sql: `select c.oid::regclass || ': ' || g.privilege_type as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g join pg_roles r on r.oid = g.grantee
      where n.nspname = 'jobs' and r.rolname = 'stoa_tenant'
      union all
      select p.oid::regprocedure || ': ' || g.privilege_type
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      cross join lateral aclexplode(p.proacl) g join pg_roles r on r.oid = g.grantee
      where n.nspname = 'jobs' and r.rolname = 'stoa_tenant' and not (p.proname = 'enqueue_own' and p.prosecdef)`,
  },
  {
    name: 'an operator reads the schema jobs and writes nothing there',
    sql: `select c.oid::regclass || ': ' || g.privilege_type as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g join pg_roles r on r.oid = g.grantee
      where n.nspname = 'jobs' and r.rolname = 'stoa_operator' and g.privilege_type <> 'SELECT'`,
  },
  {
    name: 'no materialized view is granted to anybody',
    sql: `select c.oid::regclass || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g left join pg_roles r on r.oid = g.grantee
      where c.relkind = 'm' and ${isForeign} and g.grantee <> c.relowner`,
  },
  {
    name: 'a tenant writes nothing in the schema platform',
    sql: `select c.oid::regclass || ': ' || g.privilege_type as breach
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      cross join lateral aclexplode(c.relacl) g join pg_roles r on r.oid = g.grantee
      where n.nspname in ('platform', 'jobs') and r.rolname = 'stoa_tenant' and g.privilege_type <> 'SELECT'`,
  },
  {
    name: 'schemas can be used by the three logins and created in by their owner only',
    sql: `select n.nspname || ': ' || g.privilege_type || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_namespace n
      cross join lateral aclexplode(n.nspacl) g left join pg_roles r on r.oid = g.grantee
      where ${isForeign} and g.grantee <> n.nspowner
        and (g.privilege_type <> 'USAGE' or coalesce(r.rolname, '') not in ${logins} or n.nspname not in ${ourSchemas})`,
  },
  {
    name: 'the database itself is closed to everybody else',
    sql: `select g.privilege_type || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_database d
      cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g
      left join pg_roles r on r.oid = g.grantee
      where d.datname = current_database() and g.grantee <> d.datdba
        and not (g.privilege_type = 'CONNECT' and r.rolname in ('stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration'))
        and not (g.privilege_type = 'CREATE' and r.rolname = 'stoa_migration')`,
  },
  {
    name: 'default privileges give nothing on new objects to anybody',
    sql: `select d.defaclobjtype::text || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_default_acl d cross join lateral aclexplode(d.defaclacl) g
      left join pg_roles r on r.oid = g.grantee where g.grantee <> d.defaclrole`,
  },
];

const ownerRules: readonly Rule[] = [
  {
    name: 'schemas, relations, functions and types belong to stoa_migration',
    sql: `with owned (name, owner) as (
        select nspname::text, nspowner from pg_namespace where nspname in ${ourSchemas}
        union all
        select c.oid::regclass::text, c.relowner from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ${ourSchemas}
        union all
        select p.oid::regprocedure::text, p.proowner from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in ${ourSchemas}
        union all
        select t.oid::regtype::text, t.typowner from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where n.nspname in ${ourSchemas})
      select name as breach from owned where owner is distinct from (select oid from pg_roles where rolname = 'stoa_migration')`,
  },
  {
    name: 'the three schemas exist',
    sql: `select wanted as breach from unnest(array['tenant', 'platform', 'jobs']) wanted
      where not exists (select from pg_namespace where nspname = wanted)`,
  },
  {
    name: 'the logins can neither bypass row security nor make roles, databases or replicas',
    sql: `select rolname as breach from pg_roles
      where rolname in ('stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration')
        and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)
      union all
      select wanted from unnest(array['stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration']) wanted
      where not exists (select from pg_roles where rolname = wanted)`,
  },
  {
    name: 'the logins are members of nothing',
    sql: `select member.rolname || ' in ' || role.rolname as breach
      from pg_auth_members m join pg_roles member on member.oid = m.member join pg_roles role on role.oid = m.roleid
      where member.rolname in ('stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration')`,
  },
  {
    name: 'the three serving logins own nothing',
    sql: `select r.rolname || ' owns ' || pg_describe_object(s.classid, s.objid, s.objsubid) as breach
      from pg_shdepend s join pg_roles r on r.oid = s.refobjid
      where s.refclassid = 'pg_authid'::regclass and s.deptype = 'o' and r.rolname in ${logins}
        and s.dbid in (0, (select oid from pg_database where datname = current_database()))`,
  },
];

const functionRules: readonly Rule[] = [
  {
    name: 'functions lie in the schemas tenant, platform and jobs',
    sql: `select p.oid::regprocedure::text as breach from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname not in ${ourSchemas} and ${isForeign}`,
  },
  {
    name: 'functions that run as their owner fix their search_path to pg_catalog',
    sql: `select p.oid::regprocedure::text as breach from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.prosecdef and ${isForeign}
        and not exists (
          select from unnest(p.proconfig) setting where setting ~ '^search_path=pg_catalog(, *(pg_temp|tenant|platform|jobs))*$')`,
  },
  {
    name: 'no function is for everybody, and none can be handed on',
    sql: `select p.oid::regprocedure || ' to ' || coalesce(r.rolname, 'public') as breach
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g
      left join pg_roles r on r.oid = g.grantee
      where ${isForeign} and g.grantee <> p.proowner and (coalesce(r.rolname, '') not in ${logins} or g.is_grantable)`,
  },
  {
    name: "no event trigger runs in anybody else's statement",
    sql: `select evtname as breach from pg_event_trigger`,
  },
];

export const rules: readonly Rule[] = [...tableRules, ...grantRules, ...ownerRules, ...functionRules];

const systemGrantSql = `
  select n.nspname || '.' || c.relname || ' ' || lower(g.privilege_type) as held
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  cross join lateral aclexplode(c.relacl) g join pg_roles r on r.oid = g.grantee
  where r.rolname = 'stoa_system' and n.nspname in ${ourSchemas}
  union
  select n.nspname || '.' || p.proname || ' execute'
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  cross join lateral aclexplode(p.proacl) g join pg_roles r on r.oid = g.grantee
  where r.rolname = 'stoa_system' and n.nspname in ${ourSchemas}`;

function listed(jobs: Readonly<Record<string, JobGrants>>): ReadonlySet<string> {
  const names = new Set<string>();
  for (const grants of Object.values(jobs)) {
    for (const [name, verbs] of Object.entries<readonly Verb[]>(grants)) {
      for (const verb of verbs) names.add(`${name} ${verb}`);
    }
  }
  return names;
}

/** Where the rights of stoa_system and the union over the jobs of `grants.ts` differ, in both directions. */
export async function systemGrantBreaches(
  session: SuperuserSession,
  jobs: Readonly<Record<string, JobGrants>> = systemGrants,
): Promise<string[]> {
  const held = new Set((await session.run(systemGrantSql)).map((row) => String(row['held'])));
  const wanted = listed(jobs);
  return [
    ...[...held]
      .filter((grant) => !wanted.has(grant))
      .map((grant) => `stoa_system holds ${grant}, which no job lists`),
    ...[...wanted]
      .filter((grant) => !held.has(grant))
      .map((grant) => `a job lists ${grant}, which stoa_system lacks`),
  ].sort();
}

/** Every breach of every rule, as `rule: object`; empty where the schema keeps them all. */
export async function catalogBreaches(session: SuperuserSession): Promise<string[]> {
  const breaches: string[] = [];
  for (const rule of rules) {
    const rows = await session.run(rule.sql);
    breaches.push(...rows.map((row) => `${rule.name}: ${String(row['breach'])}`));
  }
  return breaches;
}
