-- What operators did, and who runs which timer. Locks nothing: everything is new.

-- Append-only: no login may change or delete an entry. Written by `withOperator` in the transaction of what it tells.
create table platform.audit_entries (
  entry_id bigint generated always as identity primary key,
  occurred_at timestamptz not null default now(),
  -- An operator key's id, or `system:` and what ran by itself.
  operator text not null check (operator <> ''),
  -- The tenant acted upon. No foreign key: the entry outlives the tenant.
  tenant_id uuid,
  request_id text,
  reason text not null check (reason <> '')
);

create index audit_entries_by_time on platform.audit_entries (occurred_at);
create index audit_entries_by_tenant on platform.audit_entries (tenant_id, occurred_at) where tenant_id is not null;

select platform.protect_platform_table('platform.audit_entries', operator_verbs => 'select, insert');

-- One row for each timer. `fence` grows with every new holder, so that a write of a holder that was away for longer
-- than its lease can be told from the present one's. Times are the database's own.
create table platform.leases (
  name text primary key,
  holder text not null,
  fence bigint not null check (fence > 0),
  expires_at timestamptz not null
);

select platform.protect_platform_table('platform.leases', operator_verbs => 'select', system_verbs => 'select, insert, update');
