-- Rate limits: of tenants, set by the operator, and of keys, set by the tenant beside them. The tables are new.
-- compatible-with-older-code

create table tenant.limits (
  tenant_id uuid primary key references tenant.tenants (tenant_id),
  -- A JSON array as text, since what was set must come back as it was; null where the deployment's defaults hold.
  rules text,
  version bigint not null default 0 check (version >= 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp()
);
create index limits_by_change on tenant.limits (changed_at);

select platform.protect_tenant_table(
  'tenant.limits',
  tenant_verbs => 'select',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, delete'
);

create table tenant.key_limits (
  tenant_id uuid not null,
  key_id text not null,
  rules text not null default '[]',
  version bigint not null default 0 check (version >= 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, key_id),
  foreign key (tenant_id, key_id) references tenant.api_keys (tenant_id, key_id)
);
create index key_limits_by_change on tenant.key_limits (changed_at);

select platform.protect_tenant_table(
  'tenant.key_limits',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select',
  system_verbs => 'select, delete'
);
