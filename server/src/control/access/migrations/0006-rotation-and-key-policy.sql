-- Rotation of keys, the networks that they are used from, warnings before they expire, and how long they may live.
-- tenant.api_keys gets columns with no default or a constant one, which rewrites nothing, constraints and an index, whose locks last as
-- long as one scan of it each; the policies' table is new. Code that does not know of them goes on working, but a key that
-- was rotated meanwhile is known there by its new secret only, and its list of networks is not looked at.
-- compatible-with-older-code

alter table tenant.api_keys
  -- CIDR blocks in their one text; null for everywhere.
  add column allowed_ips text[] check (cardinality(allowed_ips) > 0),
  -- When `hash` became what it is; null where it still is the first.
  add column rotated_at timestamptz,
  -- The secret before, accepted beside the present one until `previous_until`. Kept afterwards, so that whoever still
  -- holds it is told that it was replaced.
  add column previous_hash bytea check (length(previous_hash) = 32),
  add column previous_until timestamptz,
  -- The last warning told: how many days ahead, and of which expiry. No change of the key.
  add column expiry_warned_days smallint,
  add column expiry_warned_for timestamptz,
  -- How many events security.alerted.v1 tell of this key: their key version, counted under the row's lock.
  add column alerts bigint not null default 0,
  add constraint api_keys_previous_check check ((previous_hash is null) = (previous_until is null)),
  add constraint api_keys_warned_check check ((expiry_warned_days is null) = (expiry_warned_for is null));

-- For the warnings: keys whose end is near, of all tenants.
create index api_keys_by_expiry on tenant.api_keys (expires_at) where expires_at is not null and revoked_at is null;

create table tenant.key_policies (
  tenant_id uuid primary key references tenant.tenants (tenant_id),
  max_lifetime_days integer check (max_lifetime_days between 1 and 3650),
  allow_no_expiry boolean not null default true,
  version bigint not null default 0 check (version >= 0),
  created_at timestamptz not null default now(),
  changed_at timestamptz not null default clock_timestamp()
);

select platform.protect_tenant_table(
  'tenant.key_policies',
  tenant_verbs => 'select, insert, update',
  operator_verbs => 'select, insert, update',
  system_verbs => 'select, delete'
);
