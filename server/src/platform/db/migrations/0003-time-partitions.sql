-- Partitions by time, made and dropped for their owners. Locks nothing: functions only.

-- Makes the partitions of `parent` (partitioned by range of one timestamptz or date column) for the present day or month
-- and the `ahead` ones after it, in UTC, named parent_pYYYYMMDD. Those that exist are left alone. Answers how many it
-- made. The parent is locked against its own kind only (SHARE UPDATE EXCLUSIVE): reads and writes go on.
create function platform.make_partitions(parent regclass, unit text, ahead integer) returns integer
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
as $$
declare
  parent_schema text;
  parent_name text;
  partition_name text;
  lower_bound timestamptz;
  upper_bound timestamptz;
  made integer := 0;
begin
  if unit not in ('day', 'month') or ahead not between 0 and 400 then
    raise exception 'unit is day or month, ahead is 0 to 400';
  end if;
  select nspname, relname into parent_schema, parent_name
  from pg_class join pg_namespace on pg_namespace.oid = relnamespace
  where pg_class.oid = parent and relkind = 'p' and nspname in ('tenant', 'platform');
  if parent_name is null then
    raise exception '% is not a partitioned table of Stoa', parent;
  end if;
  for step in 0..ahead loop
    lower_bound := date_trunc(unit, now()) + step * ('1 ' || unit)::interval;
    upper_bound := lower_bound + ('1 ' || unit)::interval;
    partition_name := format('%s_p%s', parent_name, to_char(lower_bound, 'YYYYMMDD'));
    continue when to_regclass(format('%I.%I', parent_schema, partition_name)) is not null;
    execute format('create table %I.%I (like %s including all excluding identity)', parent_schema, partition_name, parent);
    execute format('alter table %s attach partition %I.%I for values from (%L) to (%L)',
      parent, parent_schema, partition_name, lower_bound, upper_bound);
    if parent_schema = 'tenant' then
      perform platform.protect_partition(format('%I.%I', parent_schema, partition_name)::regclass);
    end if;
    made := made + 1;
  end loop;
  return made;
end
$$;

-- Drops the partitions of `parent` that `make_partitions` made and that end at or before `before`. Answers how many.
-- Dropping waits at most 2 s for the parent's lock, so that nobody queues behind it for longer; the next run tries again.
create function platform.drop_partitions(parent regclass, before timestamptz) returns integer
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

grant execute on function platform.make_partitions(regclass, text, integer) to stoa_system;
grant execute on function platform.drop_partitions(regclass, timestamptz) to stoa_system;
