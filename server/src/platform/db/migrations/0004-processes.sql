-- phase: expand
-- The processes that serve this database, and the migrations that each of them knows: a contract migration waits for those
-- that do not know it. Locks nothing: the table is new.

create table platform.processes (
  process_id uuid primary key,
  roles text[] not null,
  host text not null,
  pid integer not null,
  version text not null,
  -- Module -> the newest number that the process knows; numbers have no gaps, so it knows all below.
  known jsonb not null,
  started_at timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  -- Moved on by each heartbeat; a process that is killed moves it no more.
  alive_until timestamptz not null
);

select platform.protect_platform_table('platform.processes',
  operator_verbs => 'select', system_verbs => 'select, insert, update, delete');
