-- phase: expand
-- Of whose key or token an act came, beside the key itself. Locks the audit's tables for the time of a catalog change, and
-- against writers while the index is built: the tables are one migration old.

alter table tenant.audit_entries add column member_id text, add column token_id text;

create index audit_entries_by_member on tenant.audit_entries (tenant_id, member_id, entry_id) where member_id is not null;

-- Embedded, the clock has milliseconds only. Entries of one transaction are counted, so that they sort as they were written.
create or replace function platform.audit_id() returns uuid
language plpgsql volatile
set search_path = pg_catalog
as $$
declare
  microseconds constant bigint := floor(extract(epoch from clock_timestamp()) * 1000000)::bigint;
  place constant integer :=
    (coalesce(nullif(current_setting('stoa.audit_place', true), ''), '0')::integer + 1) % 4096;
begin
  perform set_config('stoa.audit_place', place::text, true);
  return overlay(
    replace(gen_random_uuid()::text, '-', '')
    placing lpad(to_hex(microseconds / 1000), 12, '0') || '7'
      || lpad(to_hex((microseconds % 1000) * 4096 / 1000), 3, '0')
      || '8' || lpad(to_hex(place), 3, '0')
    from 1 for 20)::uuid;
end
$$;
