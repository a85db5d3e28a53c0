-- The tenants. Locks nothing: everything is new.

create table tenant.tenants (
  tenant_id uuid primary key,
  name text not null check (name <> ''),
  state text not null default 'active' check (state in ('active', 'suspended', 'deleted')),
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  -- By the database's clock, since the pollers of other processes compare it with the database's clock.
  changed_at timestamptz not null default clock_timestamp(),
  suspended_at timestamptz,
  deleted_at timestamptz,
  purge_after timestamptz,
  -- Set by the purge before it deletes the first row; from then on nothing restores the tenant.
  purge_started_at timestamptz,
  check ((state = 'suspended') = (suspended_at is not null)),
  check ((state = 'deleted') = (deleted_at is not null)),
  check ((state = 'deleted') = (purge_after is not null)),
  check (purge_started_at is null or state = 'deleted')
);

-- For the pollers: few rows are younger than their window. A tenant's first version can be in nobody's cache.
create index tenants_by_change on tenant.tenants (changed_at) where version > 1;
create index tenants_by_purge on tenant.tenants (purge_after) where state = 'deleted';

select platform.protect_tenant_table(
  'tenant.tenants',
  tenant_verbs => 'select',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, update, delete'
);
