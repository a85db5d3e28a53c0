-- As if the log had come from another server, whose transaction ids are this much greater.
create function tenant.test_move_log(by numeric) returns void
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
  update tenant.events set xid = (xid::text::numeric + by)::text::xid8;
  update platform.event_places set xid = (xid::text::numeric + by)::text::xid8 where xid > '0';
  update platform.event_relays set xid = (xid::text::numeric + by)::text::xid8 where xid > '0';
  update tenant.event_replays set xid = (xid::text::numeric + by)::text::xid8,
    until_xid = (until_xid::text::numeric + by)::text::xid8;
end
$$;
-- As if the server that the log was made on were another one.
create function tenant.test_name_server(name text) returns void
language sql security definer
set search_path = pg_catalog
as $$ update platform.event_log_identity set server = name $$;
grant execute on function tenant.test_move_log(numeric) to stoa_operator;
grant execute on function tenant.test_name_server(text) to stoa_operator;
-- As if all events of the log had been written so many days earlier, on one day.
create function tenant.test_age_log(days integer) returns void
language plpgsql security definer
set search_path = pg_catalog
set timezone = 'UTC'
as $$
declare
  day timestamptz := date_trunc('day', now()) - make_interval(days => days);
  name text := 'events_p' || to_char(day, 'YYYYMMDD');
begin
  if to_regclass('tenant.' || name) is null then
    execute format('create table tenant.%I (like tenant.events including all excluding identity)', name);
    execute format('alter table tenant.events attach partition tenant.%I for values from (%L) to (%L)',
      name, day, day + interval '1 day');
    perform platform.protect_partition(format('tenant.%I', name)::regclass);
  end if;
  update tenant.events set appended_at = day + interval '12 hours';
end
$$;
grant execute on function tenant.test_age_log(integer) to stoa_operator;
