-- What settlement's short way sends of each record beside its JSON (settled-row.ts writes the text of one): the columns of
-- tenant.usage_records, and the event's traceparent. A type of its own, so that PostgreSQL reads all of them in one go; the
-- order is that of the text. Locks nothing: it is new.
create type platform.settled_row as (
  tenant_id uuid,
  request_id uuid,
  day date,
  key_id text,
  project_id text,
  end_user text,
  tags jsonb,
  endpoint text,
  requested_model text,
  target text,
  outcome text,
  input_tokens bigint,
  output_tokens bigint,
  cached_input_tokens bigint,
  cache_write_tokens bigint,
  reasoning_tokens bigint,
  input_audio_tokens bigint,
  output_audio_tokens bigint,
  is_estimated boolean,
  is_priced boolean,
  cost_femto numeric(38, 0),
  charge_femto numeric(38, 0),
  price_version text,
  price_hash text,
  price_tier text,
  price_unit text,
  completed_at timestamptz,
  traceparent text
);
