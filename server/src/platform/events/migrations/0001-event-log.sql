-- The event log: facts, written in the transaction of the change that they tell. Locks nothing: everything is new.
--
-- Order: `seq` is taken before the commit, so it is not the order of commits; a reader's cursor is (xid, seq), and it
-- reads only below pg_snapshot_xmin, where no transaction can appear any more. `keyversion` is the order within
-- (tenant, type, key): 1, 2, 3, taken under the row lock of what changed.
-- `event_id` is unique by its writer's doing, in the transaction that writes the fact: a partition's key can't hold it.

create table tenant.events (
  tenant_id uuid not null,
  event_id uuid not null,
  -- With its version: request.completed.v1.
  type text not null check (type <> ''),
  key text not null,
  keyversion bigint not null check (keyversion > 0),
  xid xid8 not null default pg_current_xact_id(),
  seq bigint generated always as identity,
  -- When the fact happened; `appended_at` is when it was written, which is what retention counts from.
  occurred_at timestamptz not null,
  appended_at timestamptz not null default transaction_timestamp(),
  causation uuid,
  traceparent text,
  -- JSON as the writer encoded it, byte for byte.
  data text not null,
  primary key (tenant_id, event_id, appended_at)
) partition by range (appended_at);

-- What a dispatcher walks: all tenants, in the order of the cursor.
create index events_by_cursor on tenant.events (xid, seq);

select platform.protect_tenant_table(
  'tenant.events',
  tenant_verbs => 'select, insert',
  operator_verbs => 'select, insert',
  system_verbs => 'select, insert, delete'
);

select platform.make_partitions('tenant.events', 'day', 7);
