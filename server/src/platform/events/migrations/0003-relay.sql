-- compatible-with-older-code
-- How far the relay to NATS is in the log. `fence` is that of the lease of whoever may move it: a relay that slept
-- longer than its lease meets a later one here and writes nothing. Locks nothing: the table is new.
create table platform.event_relays (
  -- The stream's name: a deployment that changes streams begins the new one anew.
  name text not null primary key,
  xid xid8 not null default '0',
  seq bigint not null default 0,
  fence bigint not null,
  moved_at timestamptz not null default clock_timestamp()
);

select platform.protect_platform_table('platform.event_relays',
  operator_verbs => 'select', system_verbs => 'select, insert, update');

-- Which log this is. A stream is marked with it, so that two databases never mix their events in one.
create table platform.event_log_identity (
  is_this boolean not null primary key default true check (is_this),
  log_id uuid not null default gen_random_uuid()
);
insert into platform.event_log_identity default values;

select platform.protect_platform_table('platform.event_log_identity',
  operator_verbs => 'select', system_verbs => 'select');
