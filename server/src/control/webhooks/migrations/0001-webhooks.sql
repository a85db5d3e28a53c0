-- Outgoing webhooks: where a tenant wants its events sent, and what was sent. Locks nothing: everything is new.

create table tenant.webhook_endpoints (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  endpoint_id uuid not null,
  url text not null check (url <> ''),
  description text not null default '',
  event_types text[] not null check (cardinality(event_types) > 0),
  -- Why nothing is sent; null while it is enabled.
  disabled_reason text check (disabled_reason in ('tenant', 'gone', 'failing')),
  signature text not null check (signature in ('v1', 'v1a')),
  -- Sealed: `whsec_...` of v1, `whsk_...` of v1a.
  secret text not null,
  public_key text check ((public_key is not null) = (signature = 'v1a')),
  previous_secret text,
  previous_until timestamptz,
  -- Since when every attempt has failed; the length of the last one. Writing them is no change.
  failing_since timestamptz,
  last_duration_ms double precision,
  -- The round of deliveries that is under way (due in the past) or planned: one job for each endpoint, named by its
  -- token. Jobs with another token have been overtaken and do nothing.
  round_at timestamptz,
  round_token uuid,
  created_by text not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  -- By the database's clock, since the pollers of other processes compare it with the database's clock.
  changed_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, endpoint_id),
  check ((previous_secret is null) = (previous_until is null)),
  check ((round_at is null) = (round_token is null))
);

create index webhook_endpoints_by_age on tenant.webhook_endpoints (tenant_id, created_at, endpoint_id);
create index webhook_endpoints_by_change on tenant.webhook_endpoints (changed_at);
-- For the upkeep, which looks for rounds whose job was lost.
create index webhook_endpoints_by_round on tenant.webhook_endpoints (round_at) where round_at is not null;

select platform.protect_tenant_table(
  'tenant.webhook_endpoints',
  tenant_verbs => 'select, insert, update, delete',
  operator_verbs => 'select',
  system_verbs => 'select, update, delete'
);

create table tenant.webhook_deliveries (
  tenant_id uuid not null,
  delivery_id uuid not null,
  endpoint_id uuid not null,
  event_id uuid not null,
  event_type text not null,
  -- The body, byte for byte as it is sent in every attempt.
  payload text not null,
  is_test boolean not null default false,
  traceparent text,
  state text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed')),
  attempts integer not null default 0 check (attempts >= 0),
  -- Failed attempts since it was last begun: the place in the schedule.
  failures integer not null default 0 check (failures >= 0),
  -- While an attempt runs: when another process may take it for lost.
  next_attempt_at timestamptz,
  -- A JSON array of the last twenty attempts.
  attempt_log text not null default '[]',
  created_at timestamptz not null default now(),
  delivered_at timestamptz,
  primary key (tenant_id, delivery_id),
  foreign key (tenant_id, endpoint_id)
    references tenant.webhook_endpoints (tenant_id, endpoint_id) on delete cascade,
  check ((state = 'waiting') = (next_attempt_at is not null)),
  check ((state = 'delivered') = (delivered_at is not null))
);

create index webhook_deliveries_by_endpoint on tenant.webhook_deliveries (tenant_id, endpoint_id, delivery_id);
create index webhook_deliveries_due on tenant.webhook_deliveries (tenant_id, endpoint_id, next_attempt_at)
  where state = 'waiting';
create index webhook_deliveries_by_age on tenant.webhook_deliveries (created_at);

select platform.protect_tenant_table(
  'tenant.webhook_deliveries',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select',
  system_verbs => 'select, insert, delete'
);
