-- Keys of tenants and of operators. Locks nothing: everything is new.

create table tenant.api_keys (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  key_id text not null check (key_id ~ '^[0-9A-Za-z]{12}$'),
  -- SHA-256 of the whole key. The secret has 178 random bits, so a slow hash would protect nothing more.
  hash bytea not null check (length(hash) = 32),
  last_four text not null check (length(last_four) = 4),
  name text not null check (name <> ''),
  role text not null check (role in ('admin', 'developer', 'viewer')),
  -- Permissions that narrow the role; null for all of the role.
  scopes text[] check (cardinality(scopes) > 0),
  project_id text,
  -- A JSON object as text, since it must come back byte for byte.
  tags text not null default '{}',
  -- `operator:` or `key:`, and the id of the key that made this one.
  created_by text not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  -- By the database's clock, since the pollers of other processes compare it with the database's clock.
  changed_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz,
  -- To the minute. Writing it is no change: neither version nor changed_at move.
  last_used_at timestamptz,
  primary key (tenant_id, key_id)
);

-- For the look-up by a process that knows only the key. Not unique: a unique index over all tenants would tell one
-- tenant of another's key. Ten random characters of 62 make two equal ids among a million keys one in a million times.
create index api_keys_by_key_id on tenant.api_keys (key_id);
create index api_keys_by_age on tenant.api_keys (tenant_id, created_at, key_id);
create index api_keys_by_change on tenant.api_keys (changed_at) where version > 1;

select platform.protect_tenant_table(
  'tenant.api_keys',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, update, delete'
);

create table platform.operator_keys (
  key_id text primary key check (key_id ~ '^[0-9A-Za-z]{12}$'),
  hash bytea not null check (length(hash) = 32),
  last_four text not null check (length(last_four) = 4),
  name text not null check (name <> ''),
  created_by text not null,
  version bigint not null default 1 check (version > 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);

create index operator_keys_by_change on platform.operator_keys (changed_at) where version > 1;

select platform.protect_platform_table(
  'platform.operator_keys',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, update'
);
