-- The three schemas, what remembers migrations, and the functions that every other migration protects its tables with.
-- Locks nothing: everything is new.

create schema tenant;
create schema platform;
create schema jobs;

grant usage on schema tenant to stoa_tenant, stoa_operator, stoa_system;
grant usage on schema platform to stoa_tenant, stoa_operator, stoa_system;

-- A function is for those it is granted to; without this, everybody may execute every new one.
alter default privileges revoke execute on functions from public;

create table platform.migrations (
  module text not null,
  number integer not null check (number > 0),
  name text not null,
  checksum text not null,
  is_compatible boolean not null,
  applied_at timestamptz not null default now(),
  primary key (module, number)
);

-- A list of verbs as a migration passes it ('select, insert'), or null where the role gets nothing. Refuses TRUNCATE,
-- REFERENCES, TRIGGER and ALL: they reach past row security.
create function platform.checked_verbs(verbs text) returns text
language plpgsql immutable
set search_path = pg_catalog
as $$
declare
  verb text;
begin
  if verbs is null or btrim(verbs) = '' then
    return null;
  end if;
  foreach verb in array string_to_array(lower(verbs), ',') loop
    if btrim(verb) not in ('select', 'insert', 'update', 'delete') then
      raise exception 'only select, insert, update and delete can be granted, not "%"', btrim(verb);
    end if;
  end loop;
  return lower(verbs);
end
$$;

create function platform.grant_verbs(target regclass, tenant_verbs text, operator_verbs text, system_verbs text)
returns void
language plpgsql
set search_path = pg_catalog
as $$
declare
  role_name text;
  verbs text;
begin
  for role_name, verbs in
    values ('stoa_tenant', platform.checked_verbs(tenant_verbs)),
           ('stoa_operator', platform.checked_verbs(operator_verbs)),
           ('stoa_system', platform.checked_verbs(system_verbs))
  loop
    execute format('revoke all on table %s from %I', target, role_name);
    if verbs is not null then
      execute format('grant %s on table %s to %I', verbs, target, role_name);
    end if;
  end loop;
end
$$;

-- Row security, enabled and forced, with the four standard policies. For a table of the schema tenant or a partition of
-- one; may be called again.
create function platform.protect_rows(target regclass) returns void
language plpgsql
set search_path = pg_catalog
as $$
declare
  own_rows constant text :=
    'tenant_id = (select nullif(current_setting(''stoa.tenant'', true), '''')::uuid)';
  role_name text;
begin
  execute format('alter table %s enable row level security', target);
  execute format('alter table %s force row level security', target);
  foreach role_name in array array['stoa_tenant', 'stoa_operator', 'stoa_system', 'stoa_migration'] loop
    execute format('drop policy if exists %I on %s', role_name || '_rows', target);
  end loop;
  execute format('create policy stoa_tenant_rows on %s to stoa_tenant using (%s) with check (%s)', target, own_rows, own_rows);
  foreach role_name in array array['stoa_operator', 'stoa_system', 'stoa_migration'] loop
    execute format('create policy %I on %s to %I using (true) with check (true)', role_name || '_rows', target, role_name);
  end loop;
end
$$;

-- What every migration calls for each table that it creates in the schema tenant, partitioned parents included.
create function platform.protect_tenant_table(
  target regclass,
  tenant_verbs text default null,
  operator_verbs text default null,
  system_verbs text default null
) returns void
language plpgsql
set search_path = pg_catalog
as $$
begin
  if not exists (
    select from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = target and nspname = 'tenant' and relkind in ('r', 'p')
  ) then
    raise exception '% is not a table of the schema tenant', target;
  end if;
  perform platform.protect_rows(target);
  perform platform.grant_verbs(target, tenant_verbs, operator_verbs, system_verbs);
end
$$;

-- For each partition. No grants: rows are reached through the parent, whose grants and policies hold there; the
-- partition's own policies hold for whoever should get at it directly.
create function platform.protect_partition(target regclass) returns void
language plpgsql
set search_path = pg_catalog
as $$
begin
  if not exists (select from pg_class where oid = target and relispartition) then
    raise exception '% is not a partition', target;
  end if;
  perform platform.protect_rows(target);
  perform platform.grant_verbs(target, null, null, null);
end
$$;

-- What every migration calls for each table that it creates in the schema platform.
create function platform.protect_platform_table(
  target regclass,
  tenant_verbs text default null,
  operator_verbs text default null,
  system_verbs text default null
) returns void
language plpgsql
set search_path = pg_catalog
as $$
begin
  if not exists (
    select from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where pg_class.oid = target and nspname = 'platform' and relkind in ('r', 'p')
  ) then
    raise exception '% is not a table of the schema platform', target;
  end if;
  perform platform.grant_verbs(target, tenant_verbs, operator_verbs, system_verbs);
end
$$;

select platform.protect_platform_table('platform.migrations', system_verbs => 'select');
