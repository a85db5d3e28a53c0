import { type SystemHandle, Utf8Text } from '#db';
import { appendEventsFrom } from '#events';
import { sql } from 'kysely';

interface CountRow {
  readonly inserted: number;
}

/**
 * Writes a batch of records of which none is in the database yet, in one statement: `rows` as settled-row.ts writes them,
 * and the JSON of each in the same order, one to a line. A record that is there already fails the whole statement with a unique
 * violation (23505), and nothing is written; `insertRecords` then sorts the batch out.
 *
 * Writes the very rows that `insertRecords` writes, at half its cost (npm run bench:settlement): nothing is taken out of
 * JSON again, no row asks for a conflict before it is written, and none is joined with what was new.
 */
export async function insertNewRecords(
  tx: SystemHandle,
  lines: { readonly rows: Uint8Array; readonly jsons: Uint8Array },
): Promise<void> {
  const columns =
    sql.raw(`tenant_id, request_id, day, key_id, project_id, end_user, tags, endpoint, requested_model, target, outcome,
    input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, input_audio_tokens,
    output_audio_tokens, is_estimated, is_priced, cost_femto, charge_femto, price_version, price_hash, price_tier,
    price_unit, completed_at`);
  await sql`
    with batch as materialized (
      select settled.*, record
      from rows from (
        string_to_table(${new Utf8Text(lines.rows)}::text, chr(10)), string_to_table(${new Utf8Text(lines.jsons)}::text, chr(10))
      ) as lines(line, record)
      cross join lateral unnest(array[line::platform.settled_row]) as settled
    ), used as (
      insert into tenant.usage_records (${columns}) select ${columns} from batch
    ), explained as (
      insert into tenant.requests
        (tenant_id, request_id, key_id, project_id, end_user, requested_model, target, outcome, record)
      select tenant_id, request_id, key_id, project_id, end_user, requested_model, target, outcome, record
      from batch
    ), facts as (
      select tenant_id, request_id as event_id, 'request.completed.v1' as type, request_id::text as key,
        1::bigint as keyversion, completed_at as occurred_at, null::uuid as causation, traceparent, record as data
      from batch
    )
    ${appendEventsFrom(tx, 'facts')}
  `.execute(tx);
}

/**
 * Writes a batch of records, given as one JSON array: usage, explanation and event of each, in one statement. A record
 * whose usage row exists already (a repeated shipment) changes nothing and makes no event. Answers how many were new.
 *
 * For what `insertNewRecords` can't take: records of another process's journal, and batches that hold repeats. PostgreSQL
 * splits the array: the records were encoded once, when they were settled, and the explanation and the event
 * keep that very text (type json keeps its input as it is). The event's traceparent names the request's trace; its span
 * is made of the request's id, since the span itself is known to the tracer alone.
 */
export async function insertRecords(tx: SystemHandle, recordsJson: string): Promise<number> {
  const { rows } = await sql<CountRow>`
    with batch as materialized (
      select item::text as record, fields.*,
        coalesce(attempts -> -1 ->> 'target', decision ->> 'target') as target
      from json_array_elements(${recordsJson}::json) as item
      cross join lateral json_to_record(item) as fields(
        tenant_id uuid, request_id uuid, key_id text, project_id text, end_user text, tags jsonb, endpoint text,
        requested_model text, outcome text, decision json, attempts json, usage json, priced boolean,
        cost_femto numeric(38, 0), charge_femto numeric(38, 0), price_version text, price json, trace_id text,
        completed_at timestamptz)
    ), fresh as (
      insert into tenant.usage_records
        (tenant_id, request_id, day, key_id, project_id, end_user, tags, endpoint, requested_model, target, outcome,
         input_tokens, output_tokens, cached_input_tokens, cache_write_tokens, reasoning_tokens, input_audio_tokens,
         output_audio_tokens, is_estimated, is_priced, cost_femto, charge_femto, price_version, price_hash, price_tier,
         price_unit, completed_at)
      select tenant_id, request_id, (platform.uuid_time(request_id) at time zone 'UTC')::date, key_id, project_id,
        end_user, tags, endpoint, requested_model, target, outcome, input_tokens, output_tokens,
        coalesce(cached_input_tokens, 0), coalesce(cache_write_tokens, 0), coalesce(reasoning_tokens, 0),
        coalesce(input_audio_tokens, 0), coalesce(output_audio_tokens, 0), estimated, priced, cost_femto, charge_femto,
        price_version, price ->> 'hash', price ->> 'tier', price ->> 'unit', completed_at
      from batch
      cross join lateral json_to_record(usage) as counts(
        input_tokens bigint, output_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint,
        reasoning_tokens bigint, input_audio_tokens bigint, output_audio_tokens bigint, estimated boolean)
      on conflict do nothing
      returning tenant_id, request_id
    ), explained as (
      insert into tenant.requests
        (tenant_id, request_id, key_id, project_id, end_user, requested_model, target, outcome, record)
      select tenant_id, request_id, key_id, project_id, end_user, requested_model, target, outcome, record
      from batch join fresh using (tenant_id, request_id)
      on conflict do nothing
    ), facts as (
      select tenant_id, request_id as event_id, 'request.completed.v1' as type, request_id::text as key,
        1::bigint as keyversion, completed_at as occurred_at, null::uuid as causation,
        case when length(trace_id) = 32
          then '00-' || trace_id || '-' || right(replace(request_id::text, '-', ''), 16) || '-00' end as traceparent,
        record as data
      from batch join fresh using (tenant_id, request_id)
    ), told as (${appendEventsFrom(tx, 'facts')})
    select count(*)::integer as inserted from fresh
  `.execute(tx);
  return rows[0]?.inserted ?? 0;
}
