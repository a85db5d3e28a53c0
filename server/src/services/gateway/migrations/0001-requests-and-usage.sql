-- The gateway's two records of a request: the explanation (`tenant.requests`, 90 days) and the usage that invoices are
-- computed from (`tenant.usage_records`, 13 months). Locks nothing: everything is new.
--
-- Both are partitioned by month on the request's id: a UUIDv7 sorts by its time, so a month is a range of ids, the
-- primary key (tenant_id, request_id) is unique over all partitions, and a second shipment of a record changes nothing.
-- There is no default partition: a row beyond the partitions fails aloud, and its writer makes the month or rejects it.

-- The smallest id of a millisecond.
create function platform.uuid_floor(moment timestamptz) returns uuid
language sql immutable parallel safe
set search_path = pg_catalog
as $$
  select rpad(lpad(to_hex(floor(extract(epoch from moment) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;

-- When a UUIDv7 was made. No search_path of its own, so that it is inlined; it names nothing that isn't qualified.
create function platform.uuid_time(id uuid) returns timestamptz
language sql immutable parallel safe
as $$
  select pg_catalog.to_timestamp(
    ('x' || pg_catalog.translate(pg_catalog.left(id::pg_catalog.text, 13), '-', ''))::pg_catalog.bit(48)::pg_catalog.int8
    / 1000.0::pg_catalog.float8)
$$;

grant execute on function platform.uuid_floor(timestamptz) to stoa_tenant, stoa_operator;
grant execute on function platform.uuid_time(uuid) to stoa_tenant, stoa_operator, stoa_system;

create table tenant.requests (
  tenant_id uuid not null,
  request_id uuid not null,
  key_id text not null,
  project_id text,
  end_user text,
  requested_model text not null,
  -- What answered, or was tried last; null where nothing was called.
  target text,
  outcome text not null,
  -- The whole record as JSON, byte for byte as the gateway encoded it.
  record text not null,
  primary key (tenant_id, request_id)
) partition by range (request_id);

-- Newest first within one filter. The primary key serves the list without one, and by time.
create index requests_by_key on tenant.requests (tenant_id, key_id, request_id);
create index requests_by_target on tenant.requests (tenant_id, target, request_id);
create index requests_by_project on tenant.requests (tenant_id, project_id, request_id) where project_id is not null;
create index requests_by_end_user on tenant.requests (tenant_id, end_user, request_id) where end_user is not null;
create index requests_by_fault on tenant.requests (tenant_id, outcome, request_id) where outcome <> 'completed';

select platform.protect_tenant_table(
  'tenant.requests',
  tenant_verbs => 'select',
  operator_verbs => 'select',
  system_verbs => 'select, insert, delete'
);

create table tenant.usage_records (
  tenant_id uuid not null,
  request_id uuid not null,
  -- In UTC, of the request's id, so that a day is a range of ids, too.
  day date not null,
  key_id text not null,
  project_id text,
  end_user text,
  tags jsonb not null,
  endpoint text not null,
  requested_model text not null,
  target text,
  outcome text not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  cached_input_tokens bigint not null,
  cache_write_tokens bigint not null,
  reasoning_tokens bigint not null,
  input_audio_tokens bigint not null,
  output_audio_tokens bigint not null,
  -- True where the provider sent no usage.
  is_estimated boolean not null,
  is_priced boolean not null,
  -- Femto-dollars (1e-15 USD); null where there is no price, which is not 0.
  cost_femto numeric(38, 0),
  charge_femto numeric(38, 0),
  price_version text,
  price_hash text,
  price_tier text,
  price_unit text,
  completed_at timestamptz not null,
  primary key (tenant_id, request_id)
) partition by range (request_id);

select platform.protect_tenant_table(
  'tenant.usage_records',
  tenant_verbs => 'select',
  operator_verbs => 'select',
  system_verbs => 'select, insert, delete'
);

-- Makes the monthly partitions of a table of the schema tenant that is partitioned by its request_id, for `months`
-- months from the one of `moment`, in UTC, named parent_mYYYYMM. Those that exist are left alone. Answers how many it
-- made. Only months from 14 before the present one to 3 after it: an id beyond that comes from a clock that is wrong.
-- The lock shuts out others who make partitions, and nobody else.
create function platform.make_month_partitions(parent regclass, moment timestamptz, months integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
as $$
declare
  parent_name text;
  partition_name text;
  lower_bound timestamptz;
  upper_bound timestamptz;
  made integer := 0;
begin
  select relname into parent_name
  from pg_class join pg_namespace on pg_namespace.oid = relnamespace
  where pg_class.oid = parent and relkind = 'p' and nspname = 'tenant'
    and pg_get_partkeydef(pg_class.oid) = 'RANGE (request_id)';
  if parent_name is null then
    raise exception '% is not partitioned by request_id', parent;
  end if;
  if months not between 1 and 18
    or moment < date_trunc('month', now()) - interval '14 months'
    or moment + (months - 1) * interval '1 month' >= date_trunc('month', now()) + interval '4 months' then
    raise exception 'no partition is made for % months from %', months, moment using errcode = 'datetime_field_overflow';
  end if;
  execute format('lock table %s in share update exclusive mode', parent);
  for step in 0..months - 1 loop
    lower_bound := date_trunc('month', moment) + step * interval '1 month';
    upper_bound := lower_bound + interval '1 month';
    partition_name := format('%s_m%s', parent_name, to_char(lower_bound, 'YYYYMM'));
    continue when to_regclass(format('tenant.%I', partition_name)) is not null;
    execute format('create table tenant.%I (like %s including all)', partition_name, parent);
    perform platform.protect_rows(format('tenant.%I', partition_name)::regclass);
    execute format('alter table %s attach partition tenant.%I for values from (%L) to (%L)',
      parent, partition_name, platform.uuid_floor(lower_bound), platform.uuid_floor(upper_bound));
    perform platform.protect_partition(format('tenant.%I', partition_name)::regclass);
    made := made + 1;
  end loop;
  return made;
end
$$;

-- Drops the partitions that `make_month_partitions` made and that end at or before `before`, which lies at least 28 days
-- back. Answers how many. Dropping waits at most 2 s for the parent's lock; the next run tries again.
create function platform.drop_month_partitions(parent regclass, before timestamptz) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
set lock_timeout = '2s'
as $$
declare
  child_name text;
  dropped integer := 0;
begin
  if before > now() - interval '28 days' then
    raise exception 'partitions of the last 28 days are not dropped';
  end if;
  for child_name in
    select c.relname
    from pg_inherits
    join pg_class c on c.oid = inhrelid
    join pg_class p on p.oid = inhparent
    join pg_namespace n on n.oid = p.relnamespace
    where inhparent = parent and n.nspname = 'tenant' and c.relname ~ '_m[0-9]{6}$'
    order by c.relname
  loop
    continue when to_timestamp(right(child_name, 6), 'YYYYMM') + interval '1 month' > before;
    execute format('drop table tenant.%I', child_name);
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

grant execute on function platform.make_month_partitions(regclass, timestamptz, integer) to stoa_system;
grant execute on function platform.drop_month_partitions(regclass, timestamptz) to stoa_system;

select platform.make_month_partitions('tenant.requests', now(), 3);
select platform.make_month_partitions('tenant.usage_records', now(), 3);
