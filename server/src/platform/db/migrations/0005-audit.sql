-- phase: expand
-- The audit with before and after, by month, append-only for every login. Locks `platform.audit_entries` against writers
-- while its rows are copied: milliseconds for each thousand.
--
-- Two tables, so that a tenant's row security decides what it sees and no column has to be hidden from it: what concerns
-- a tenant lies in `tenant.audit_entries`; what an operator did lies, with who it was, why and from where, in
-- `platform.operator_audit_entries`, and where it concerned a tenant also, without that, in the tenant's (`is_copy`).
--
-- Nobody may change an entry, not even the owner: its own rights are revoked, too, on each partition. What is past its
-- retention goes by `drop_audit_months`, which drops whole months and never one of the last three.

-- A UUIDv7 by the database's clock, to a quarter of a microsecond, so that entries of all processes sort by one clock.
create function platform.audit_id() returns uuid
language plpgsql volatile
set search_path = pg_catalog
as $$
declare
  microseconds constant bigint := floor(extract(epoch from clock_timestamp()) * 1000000)::bigint;
begin
  return overlay(
    replace(gen_random_uuid()::text, '-', '')
    placing lpad(to_hex(microseconds / 1000), 12, '0') || '7'
      || lpad(to_hex((microseconds % 1000) * 4096 / 1000), 3, '0')
    from 1 for 16)::uuid;
end
$$;

grant execute on function platform.audit_id() to stoa_tenant, stoa_operator, stoa_system;

create table tenant.audit_entries (
  -- No foreign key: the entry outlives the tenant.
  tenant_id uuid not null,
  entry_id uuid not null default platform.audit_id(),
  occurred_at timestamptz not null default clock_timestamp(),
  -- key, member, token, operator, system.
  actor_type text not null check (actor_type <> ''),
  -- Null for an operator: which one it was is no business of the tenant.
  actor_id text,
  actor_role text,
  action text not null check (action <> ''),
  resource_type text,
  resource_id text,
  outcome text not null default 'succeeded' check (outcome in ('succeeded', 'denied')),
  -- How many acts the entry stands for; more than one only where it is of denied acts.
  times integer not null default 1 check (times > 0),
  -- JSON as it was encoded, without secrets; null where there was nothing before, or is nothing after.
  before text,
  after text,
  client_address text,
  user_agent text,
  request_id text,
  -- True where `platform.operator_audit_entries` holds the whole entry under the same id.
  is_copy boolean not null default false,
  primary key (tenant_id, entry_id, occurred_at)
) partition by range (occurred_at);

-- Newest first within one filter; the primary key serves the list without one. Operators by no more than uuid, text and
-- timestamptz compare, which are leakproof, so that row security leaves the indexes usable.
create index audit_entries_by_actor on tenant.audit_entries (tenant_id, actor_id, entry_id);
create index audit_entries_by_action on tenant.audit_entries (tenant_id, action, entry_id);
create index audit_entries_by_resource on tenant.audit_entries (tenant_id, resource_type, resource_id, entry_id);
create index audit_entries_denied on tenant.audit_entries (tenant_id, outcome, entry_id) where outcome <> 'succeeded';
-- The operator's list over all tenants.
create index audit_entries_by_age on tenant.audit_entries (entry_id) where not is_copy;

select platform.protect_tenant_table(
  'tenant.audit_entries',
  tenant_verbs => 'select, insert',
  operator_verbs => 'select, insert',
  system_verbs => 'select, insert'
);

create table platform.operator_audit_entries (
  entry_id uuid not null default platform.audit_id(),
  occurred_at timestamptz not null default clock_timestamp(),
  -- The tenant acted upon, where there is one.
  tenant_id uuid,
  -- operator, system.
  actor_type text not null check (actor_type <> ''),
  -- An operator key's id, or `system:` and what ran by itself.
  actor_id text not null check (actor_id <> ''),
  actor_role text,
  action text not null check (action <> ''),
  resource_type text,
  resource_id text,
  outcome text not null default 'succeeded' check (outcome in ('succeeded', 'denied')),
  times integer not null default 1 check (times > 0),
  before text,
  after text,
  client_address text,
  user_agent text,
  request_id text,
  reason text not null check (reason <> ''),
  primary key (entry_id, occurred_at)
) partition by range (occurred_at);

create index operator_audit_entries_by_tenant on platform.operator_audit_entries (tenant_id, entry_id);
create index operator_audit_entries_by_actor on platform.operator_audit_entries (actor_id, entry_id);
create index operator_audit_entries_by_action on platform.operator_audit_entries (action, entry_id);
create index operator_audit_entries_by_resource on platform.operator_audit_entries (resource_type, resource_id, entry_id);

select platform.protect_platform_table(
  'platform.operator_audit_entries',
  operator_verbs => 'select, insert',
  system_verbs => 'select, insert'
);

-- Makes the months of both tables from the one of `moment` to the third after the present one, in UTC, named
-- <table>_pYYYYMM01. Those that exist are left alone. Answers how many it made. Two at once wait for each other; readers
-- and writers wait for nobody.
create function platform.make_audit_months(moment timestamptz default now()) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
as $$
declare
  parent regclass;
  parent_name text;
  parent_schema text;
  partition regclass;
  partition_name text;
  lower_bound timestamptz;
  last_bound constant timestamptz := date_trunc('month', now()) + interval '3 months';
  made integer := 0;
begin
  if moment < now() - interval '11 years' then
    raise exception 'no month is made so long ago';
  end if;
  perform pg_advisory_xact_lock(hashtext('platform.make_audit_months'));
  foreach parent in array array['tenant.audit_entries', 'platform.operator_audit_entries']::regclass[] loop
    select nspname, relname into parent_schema, parent_name
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace where pg_class.oid = parent;
    lower_bound := date_trunc('month', moment);
    while lower_bound <= last_bound loop
      partition_name := format('%s_p%s', parent_name, to_char(lower_bound, 'YYYYMMDD'));
      if to_regclass(format('%I.%I', parent_schema, partition_name)) is null then
        execute format('create table %I.%I (like %s including all)', parent_schema, partition_name, parent);
        partition := format('%I.%I', parent_schema, partition_name)::regclass;
        if parent_schema = 'tenant' then
          perform platform.protect_rows(partition);
        end if;
        execute format('alter table %s attach partition %s for values from (%L) to (%L)',
          parent, partition, lower_bound, lower_bound + interval '1 month');
        if parent_schema = 'tenant' then
          perform platform.protect_partition(partition);
        end if;
        execute format('revoke update, delete, truncate on table %s from %I', partition, current_user);
        made := made + 1;
      end if;
      lower_bound := lower_bound + interval '1 month';
    end loop;
  end loop;
  return made;
end
$$;

-- Drops the months of both tables that ended `months` months ago or earlier. Answers how many. Never one of the last
-- three months. Dropping waits at most 2 s for the parent's lock; the next run tries again.
create function platform.drop_audit_months(months integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
set lock_timeout = '2s'
as $$
declare
  child record;
  dropped integer := 0;
begin
  if months is null or months not between 3 and 1200 then
    raise exception 'the audit is kept for 3 to 1200 months';
  end if;
  for child in
    select c.oid::regclass as name, to_timestamp(right(c.relname, 8), 'YYYYMMDD') as lower_bound
    from pg_inherits join pg_class c on c.oid = inhrelid
    where inhparent in ('tenant.audit_entries'::regclass, 'platform.operator_audit_entries'::regclass)
      and c.relname ~ '_p[0-9]{8}$'
    order by c.relname
  loop
    continue when child.lower_bound + interval '1 month' > now() - months * interval '1 month';
    execute format('drop table %s', child.name);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

grant execute on function platform.make_audit_months(timestamptz) to stoa_system;
grant execute on function platform.drop_audit_months(integer) to stoa_system;

-- The audit's months go by their own function only: this one as in 0003, but for the refusal.
create or replace function platform.drop_partitions(parent regclass, before timestamptz) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
set lock_timeout = '2s'
as $$
declare
  child regclass;
  upper_text text;
  dropped integer := 0;
begin
  if parent in ('tenant.audit_entries'::regclass, 'platform.operator_audit_entries'::regclass) then
    raise exception 'the months of the audit are dropped by platform.drop_audit_months';
  end if;
  for child, upper_text in
    select c.oid::regclass, substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \('([^']+)'\)$re$)
    from pg_inherits
    join pg_class c on c.oid = inhrelid
    join pg_class p on p.oid = inhparent
    join pg_namespace n on n.oid = p.relnamespace
    where inhparent = parent and n.nspname in ('tenant', 'platform') and c.relname ~ '_p[0-9]{8}$'
  loop
    if upper_text is not null and upper_text::timestamptz <= before then
      execute format('drop table %s', child);
      dropped := dropped + 1;
    end if;
  end loop;
  return dropped;
end
$$;

select platform.make_audit_months(
  greatest(least((select min(occurred_at) from platform.audit_entries), now()), now() - interval '10 years'));

-- What the older table holds, and what processes of the older version write there until they are gone. Ids keep its
-- order: the time, then the old id.
create function platform.copy_audit_entry(entry platform.audit_entries) returns void
language sql volatile
set search_path = pg_catalog
as $$
  with copied as (
    insert into platform.operator_audit_entries
      (entry_id, occurred_at, tenant_id, actor_type, actor_id, action, request_id, reason)
    select
      (lpad(to_hex(floor(extract(epoch from entry.occurred_at) * 1000)::bigint), 12, '0')
        || '70008' || lpad(to_hex(entry.entry_id), 15, '0'))::uuid,
      entry.occurred_at, entry.tenant_id,
      case when entry.operator like 'system:%' then 'system' else 'operator' end, entry.operator,
      coalesce(nullif(split_part(entry.reason, ' ', 1), ''), 'act'), entry.request_id, entry.reason
    returning *
  )
  insert into tenant.audit_entries
    (tenant_id, entry_id, occurred_at, actor_type, actor_id, action, request_id, is_copy)
  select tenant_id, entry_id, occurred_at, actor_type, case when actor_type = 'system' then actor_id end, action,
    request_id, true
  from copied where tenant_id is not null
$$;

grant execute on function platform.copy_audit_entry(platform.audit_entries) to stoa_operator;

select platform.copy_audit_entry(entry) from platform.audit_entries entry
where entry.occurred_at >= now() - interval '10 years' order by entry.entry_id;

create function platform.on_old_audit_entry() returns trigger
language plpgsql
set search_path = pg_catalog
as $$
begin
  perform platform.copy_audit_entry(new);
  return null;
end
$$;

create trigger old_audit_entry after insert on platform.audit_entries
  for each row execute function platform.on_old_audit_entry();

do $$
declare
  parent text;
begin
  foreach parent in array array['tenant.audit_entries', 'platform.operator_audit_entries', 'platform.audit_entries'] loop
    execute format('revoke update, delete, truncate on table %s from %I', parent, current_user);
  end loop;
end
$$;
