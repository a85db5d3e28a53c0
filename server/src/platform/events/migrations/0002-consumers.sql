-- compatible-with-older-code
-- What consumers of the event log stand on: what each has handled, how far it is in each key, and what waits, is tried
-- again or has failed for good. Locks: the index on tenant.events holds writers of a day's partition back while it is
-- built there (some seconds for a million events that are no requests); all else is new.

-- One row for each event that had its effect on a consumer (or was discarded for it), written in the transaction of the
-- effect: this is what makes it happen once. Kept for longer than the log keeps its events.
create table tenant.event_inbox (
  tenant_id uuid not null,
  consumer text not null check (consumer <> ''),
  event_id uuid not null,
  outcome text not null check (outcome in ('handled', 'discarded')),
  handled_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, consumer, event_id)
);
create index event_inbox_by_time on tenant.event_inbox using brin (handled_at);

-- The keyversion up to which a consumer has handled a key. Types that are told once a key have no rows here.
create table tenant.event_positions (
  tenant_id uuid not null,
  consumer text not null,
  type text not null,
  key text not null,
  keyversion bigint not null check (keyversion > 0),
  moved_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, consumer, type, key)
);
create index event_positions_by_time on tenant.event_positions using brin (moved_at);

-- Events that did not go through at once, each with all that is needed to hand it over again:
-- held       waits for an earlier event of its key (one that failed, or one that has not arrived yet)
-- retrying   failed, or is about to be handed over; due at next_attempt_at
-- dead       failed for good; a person redrives or discards it
-- parked     dead after three redrives; only a forced redrive moves it
create table tenant.event_deliveries (
  tenant_id uuid not null,
  consumer text not null,
  event_id uuid not null,
  -- Made by time, so lists are in the order of arrival.
  delivery_id uuid not null,
  state text not null check (state in ('held', 'retrying', 'dead', 'parked')),
  type text not null,
  key text not null,
  keyversion bigint not null,
  occurred_at timestamptz not null,
  causation uuid,
  traceparent text,
  data text not null,
  xid xid8 not null,
  seq bigint not null,
  -- Handed over for a replay: the inbox and the position don't hold it back.
  is_replay boolean not null default false,
  -- Since it came or was last redriven; `redrives` counts those.
  attempts integer not null default 0,
  total_attempts integer not null default 0,
  redrives integer not null default 0,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  next_attempt_at timestamptz,
  -- Who tries it now. A lease that ran out is an attempt whose process died.
  lease_token uuid,
  leased_until timestamptz,
  error_code text,
  -- For operators, bounded; what a tenant may read of it is in public_message.
  error_message text,
  error_stack text,
  public_message text,
  primary key (tenant_id, consumer, event_id)
);
create index event_deliveries_by_key on tenant.event_deliveries (tenant_id, consumer, key);
create index event_deliveries_by_id on tenant.event_deliveries (delivery_id);
create index event_deliveries_due on tenant.event_deliveries (next_attempt_at) where next_attempt_at is not null;
create index event_deliveries_by_state on tenant.event_deliveries (consumer, state, first_seen_at);

-- A tenant's events from a point in time on, handed to one consumer again.
create table tenant.event_replays (
  tenant_id uuid not null,
  replay_id uuid not null,
  consumer text not null,
  from_time timestamptz not null,
  state text not null check (state in ('running', 'done')),
  -- How far it is, and where it ends: the head of the log when it was asked for.
  xid xid8 not null default '0',
  seq bigint not null default 0,
  until_xid xid8 not null,
  handed bigint not null default 0,
  failed bigint not null default 0,
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  lease_token uuid,
  leased_until timestamptz,
  primary key (tenant_id, replay_id)
);
create index event_replays_running on tenant.event_replays (created_at) where state = 'running';

select platform.protect_tenant_table('tenant.event_inbox',
  tenant_verbs => 'select, insert, delete', operator_verbs => 'select, insert, delete',
  system_verbs => 'select, insert, delete');
select platform.protect_tenant_table('tenant.event_positions',
  tenant_verbs => 'select, insert, update', operator_verbs => 'select, insert, update',
  system_verbs => 'select, insert, update, delete');
select platform.protect_tenant_table('tenant.event_deliveries',
  tenant_verbs => 'select, update, delete', operator_verbs => 'select, update, delete',
  system_verbs => 'select, insert, update, delete');
select platform.protect_tenant_table('tenant.event_replays',
  tenant_verbs => 'select, update', operator_verbs => 'select, insert', system_verbs => 'select, update, delete');

-- Where a consumer is in the log, by partition, and which process feeds it. `fence` grows with each new holder.
create table platform.event_places (
  consumer text not null,
  partition smallint not null check (partition between 0 and 63),
  xid xid8 not null default '0',
  seq bigint not null default 0,
  holder uuid,
  fence bigint not null default 0,
  leased_until timestamptz not null default '-infinity',
  primary key (consumer, partition)
);

-- The processes that feed a consumer, so that they share its partitions evenly.
create table platform.event_feeders (
  consumer text not null,
  holder uuid not null,
  alive_until timestamptz not null,
  primary key (consumer, holder)
);

select platform.protect_platform_table('platform.event_places',
  operator_verbs => 'select', system_verbs => 'select, insert, update');
select platform.protect_platform_table('platform.event_feeders',
  operator_verbs => 'select', system_verbs => 'select, insert, update, delete');

-- Whether an earlier version of a key lies in the log. Requests have one event each and are left out: they are nearly
-- all of the log, and would make every append pay.
create index events_by_key on tenant.events (tenant_id, type, key, keyversion)
  where type <> 'request.completed.v1';
