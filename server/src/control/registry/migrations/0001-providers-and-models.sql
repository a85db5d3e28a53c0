-- Providers, models, the operator's order for `auto`, and tenants' policies. Locks nothing: everything is new.

-- One row. `revision` grows with every change of a provider, a model or the default order, in its transaction, so that
-- other processes see by one row whether anything changed, in the order of commits.
create table platform.registry_state (
  only_row boolean primary key default true check (only_row),
  revision bigint not null default 1,
  -- JSON array of target ids; text, because it comes back as it was sent.
  default_order text not null default '[]',
  policy_version bigint not null default 0,
  policy_changed_at timestamptz
);
insert into platform.registry_state default values;

create table platform.providers (
  provider_id uuid primary key,
  source text not null check (source in ('file', 'api')),
  name text not null check (name <> ''),
  kind text not null check (kind in ('openai-compatible', 'anthropic')),
  base_url text not null,
  -- Sealed under the master key, bound to this row and column; never plain.
  credential_sealed text,
  credential_last_four text,
  -- Names the circuit breaker together with a model; new with every credential and every address.
  credential_id uuid not null,
  -- The extra headers as JSON, sealed: their values may be secrets.
  headers_sealed text,
  header_names text[] not null default '{}',
  max_concurrency integer not null check (max_concurrency > 0),
  discover boolean not null,
  is_enabled boolean not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null,
  changed_at timestamptz not null default clock_timestamp(),
  unique (source, name)
);

create table platform.models (
  model_id uuid primary key,
  source text not null check (source in ('file', 'api')),
  target text not null check (target <> ''),
  provider_id uuid not null references platform.providers,
  provider_model text not null,
  kind text not null check (kind in ('chat', 'embedding')),
  context_tokens integer check (context_tokens > 0),
  max_output_tokens integer check (max_output_tokens > 0),
  -- Deadlines in milliseconds; null for the platform's default.
  whole_ms integer check (whole_ms > 0),
  first_frame_ms integer check (first_frame_ms > 0),
  between_frames_ms integer check (between_frames_ms > 0),
  -- How the price book knows it; null for what the provider and its own name say.
  price_provider text,
  price_model text,
  is_enabled boolean not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null,
  changed_at timestamptz not null default clock_timestamp(),
  unique (source, target)
);
create index models_by_provider on platform.models (provider_id);

select platform.protect_platform_table('platform.registry_state', operator_verbs => 'select, update', system_verbs => 'select');
select platform.protect_platform_table('platform.providers', operator_verbs => 'select, insert, update, delete', system_verbs => 'select');
select platform.protect_platform_table('platform.models', operator_verbs => 'select, insert, update, delete', system_verbs => 'select');

create table tenant.policies (
  tenant_id uuid primary key references tenant.tenants,
  -- JSON arrays of target ids; `allowed` null for all.
  target_order text not null default '[]',
  allowed text,
  version bigint not null default 0 check (version >= 0),
  created_at timestamptz not null default now(),
  -- By the database's clock, since the pollers of other processes compare it with the database's clock.
  changed_at timestamptz not null default clock_timestamp()
);
-- For the pollers: few rows are younger than their window.
create index policies_by_change on tenant.policies (changed_at);

select platform.protect_tenant_table('tenant.policies',
  tenant_verbs => 'select, insert, update', operator_verbs => 'select', system_verbs => 'select, delete');
