-- phase: expand
-- Rotation of the operator's keys, as of tenants'. Columns without a default rewrite nothing; the table has few rows. A process
-- of the version before knows a rotated key by its new secret only.

alter table platform.operator_keys
  -- When `hash` became what it is; null where it still is the first.
  add column rotated_at timestamptz,
  -- The secret before, accepted beside the present one until `previous_until`.
  add column previous_hash bytea check (length(previous_hash) = 32),
  add column previous_until timestamptz;
