-- Answers to creating POSTs that carried an Idempotency-Key. Locks nothing: everything is new.

create table tenant.idempotency_keys (
  tenant_id uuid not null references tenant.tenants (tenant_id),
  -- The caller's API key: another key of the tenant must not be shown what this one was answered.
  key_id text not null,
  endpoint_id text not null,
  idempotency_key text not null check (length(idempotency_key) between 1 and 255),
  -- SHA-256 in hex of the address and the body.
  body_hash text not null,
  -- Whoever runs the request; only that claim may write the answer.
  claim_id uuid not null,
  claimed_at timestamptz not null,
  -- Sealed under the master key: the answer to a new key holds its plaintext. Null while the request runs.
  answer text,
  expires_at timestamptz not null,
  primary key (tenant_id, key_id, endpoint_id, idempotency_key)
);

create index idempotency_keys_by_expiry on tenant.idempotency_keys (expires_at);

select platform.protect_tenant_table(
  'tenant.idempotency_keys',
  tenant_verbs => 'select, insert, update, delete',
  operator_verbs => 'select',
  system_verbs => 'select, delete'
);

create table platform.idempotency_keys (
  key_id text not null,
  endpoint_id text not null,
  idempotency_key text not null check (length(idempotency_key) between 1 and 255),
  body_hash text not null,
  claim_id uuid not null,
  claimed_at timestamptz not null,
  answer text,
  expires_at timestamptz not null,
  primary key (key_id, endpoint_id, idempotency_key)
);

create index platform_idempotency_keys_by_expiry on platform.idempotency_keys (expires_at);

select platform.protect_platform_table(
  'platform.idempotency_keys',
  system_verbs => 'select, insert, update, delete'
);
