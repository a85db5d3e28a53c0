-- Named jobs over pg-boss's tables: what is declared in code, how far each schedule has come, progress; the functions by
-- which jobs are enqueued and taken; who may do what. Locks nothing: everything is new.

-- pg-boss's own counts of a queue read its whole table at every pass. Nothing here shows them, so they are put off for
-- good; it looks at this time before it counts.
update jobs.version set monitor_backoff_on = 'infinity';

-- One row for each name that code declared. Written at start; `last_...` at most once in a second, so that it is no hot row.
create table jobs.named_jobs (
  name text primary key references jobs.queue (name),
  -- Whether it runs for a tenant, or for the platform. A tenant's transaction enqueues the first kind only.
  scope text not null check (scope in ('tenant', 'system')),
  -- Cron in UTC, or null.
  schedule text,
  deadline_ms integer not null check (deadline_ms > 0),
  retry_limit integer not null check (retry_limit >= 0),
  retry_delay_ms integer not null check (retry_delay_ms >= 0),
  retry_backoff boolean not null,
  -- The schedule's occurrences up to here have been enqueued, or lay before the job was declared.
  scheduled_until timestamptz not null default now(),
  last_job_id uuid,
  last_started_at timestamptz,
  last_finished_at timestamptz,
  last_outcome text check (last_outcome in ('completed', 'failed'))
);

-- What a run said of itself last. Apart from pg-boss's row, whose every change would make a new version of it. No foreign
-- key: pg-boss takes a failed job's row away and puts it back.
create table jobs.progress (
  job_id uuid primary key,
  attempt integer not null,
  value double precision not null check (value between 0 and 1),
  note text,
  updated_at timestamptz not null default now()
);

create index progress_by_time on jobs.progress (updated_at);

-- The order in which jobs are taken: the tenants in turn, and of each the job that has been due for the longest. What is
-- due later costs the search nothing.
create index stoa_turns on jobs.job_common (group_id collate "C", name, start_after, id)
  where state < 'active' and not blocked;

-- Inserts one job with its queue's settings and answers its id; that of the job already there where the key is known.
-- A key is known until the job with it is removed, seven days after its end.
create function jobs.put_job(
  job_id uuid, job_name text, job_tenant text, job_data jsonb, job_key text, run_after timestamptz, trace text
) returns uuid
language plpgsql
set search_path = pg_catalog
as $$
declare
  found_id uuid;
  whole_key constant text := case when job_key is null then null else job_tenant || ':' || job_key end;
  -- pg-boss holds jobs with equal key and equal time to be one; a constant time makes it the key alone.
  key_time constant timestamp := case when job_key is null then null else timestamp '2000-01-01' end;
begin
  insert into jobs.job (
    id, name, data, retry_limit, retry_delay, retry_backoff, retry_delay_max, expire_seconds, deletion_seconds,
    heartbeat_seconds, keep_until, policy, singleton_key, singleton_on, group_id, start_after, trace_context)
  select job_id, q.name, job_data, q.retry_limit, q.retry_delay, q.retry_backoff, q.retry_delay_max, q.expire_seconds,
    q.deletion_seconds, q.heartbeat_seconds,
    greatest(now(), coalesce(run_after, now())) + q.retention_seconds * interval '1 second',
    q.policy, whole_key, key_time, job_tenant, coalesce(run_after, now()),
    case when trace is null then null else jsonb_build_object('traceparent', trace) end
  from jobs.queue q
  where q.name = job_name
  on conflict do nothing
  returning id into found_id;
  if found_id is null and whole_key is not null then
    select id into found_id from jobs.job_common
    where name = job_name and singleton_on = key_time and coalesce(singleton_key, '') = whole_key and state <> 'cancelled';
  end if;
  if found_id is null then
    raise exception 'no job named % has been declared', job_name using errcode = 'no_data_found';
  end if;
  return found_id;
end
$$;

-- For a tenant's transaction: the job is that tenant's, whatever the caller says, and of a kind that tenants have.
create function jobs.enqueue_own(
  job_id uuid, job_name text, job_data jsonb, job_key text, run_after timestamptz, trace text
) returns uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
declare
  own constant uuid := nullif(current_setting('stoa.tenant', true), '')::uuid;
begin
  if own is null then
    raise exception 'no tenant is set' using errcode = 'insufficient_privilege';
  end if;
  if not exists (select from jobs.named_jobs where name = job_name and scope = 'tenant') then
    raise exception 'no job of tenants named % has been declared', job_name using errcode = 'no_data_found';
  end if;
  return jobs.put_job(job_id, job_name, own::text, job_data, job_key, run_after, trace);
end
$$;

-- For the operator's and the system's: `job_tenant` null is the platform itself.
create function jobs.enqueue(
  job_id uuid, job_name text, job_tenant uuid, job_data jsonb, job_key text, run_after timestamptz, trace text
) returns uuid
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
  if not exists (
    select from jobs.named_jobs where name = job_name and scope = case when job_tenant is null then 'system' else 'tenant' end
  ) then
    raise exception 'no such job named % has been declared', job_name using errcode = 'no_data_found';
  end if;
  return jobs.put_job(job_id, job_name, coalesce(job_tenant::text, 'system'), job_data, job_key, run_after, trace);
end
$$;

-- Takes the next job of one of `names` for a worker whose last turn was `last_turn`'s: of the first tenant after that one,
-- in a circle, that has a job which is due. So each tenant gets one job in a turn however many it has waiting. A look-up
-- in the index for each tenant passed over (waiting jobs, none due) and each name; after a thousand of them it answers
-- with no job and where it stands. Answers no row where nothing is due.
-- Taking is what pg-boss's own fetch does: state, time, and the attempt's number, which fences later writes.
create function jobs.take_job(names text[], last_turn text)
returns table (
  turn text, job_id uuid, job_name text, data jsonb, attempt integer, retry_limit integer, traceparent text,
  started_on timestamptz
)
language plpgsql
set search_path = pg_catalog
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  standing text := last_turn;
  next_turn text;
  has_wrapped boolean := false;
  taken_id uuid;
  taken_name text;
begin
  for looked_at in 1..1000 loop
    select j.group_id into next_turn from jobs.job_common j
    where j.state < 'active' and not j.blocked and j.group_id collate "C" > standing
    order by j.group_id collate "C" limit 1;
    if next_turn is null then
      if has_wrapped then return; end if;
      has_wrapped := true;
      standing := '';
      continue;
    end if;
    if has_wrapped and next_turn collate "C" > last_turn then return; end if;
    select due.id, due.name into taken_id, taken_name
    from unnest(names) as wanted (name)
    cross join lateral (
      select j.id, j.name, j.start_after from jobs.job_common j
      where j.group_id collate "C" = next_turn and j.name = wanted.name and j.state < 'active' and not j.blocked
        and j.start_after <= now()
      order by j.start_after, j.id
      limit 1
      for update skip locked
    ) due
    order by due.start_after, due.id
    limit 1;
    if taken_id is not null then
      return query
        update jobs.job_common j
        set state = 'active', started_on = now(), heartbeat_on = now(),
            retry_count = case when j.started_on is null then j.retry_count else j.retry_count + 1 end
        where j.name = taken_name and j.id = taken_id
        returning j.group_id, j.id, j.name, j.data, j.retry_count, j.retry_limit, j.trace_context ->> 'traceparent',
          j.started_on;
      return;
    end if;
    standing := next_turn;
  end loop;
  return query select standing, null::uuid, null::text, null::jsonb, null::integer, null::integer, null::text,
    null::timestamptz;
end
$$;

-- Whether the lease is still the one with this fence; while the transaction lasts, nobody else can take it.
create function platform.hold_fence(lease_name text, lease_fence bigint) returns boolean
language plpgsql security definer
set search_path = pg_catalog
as $$
begin
  perform from platform.leases where name = lease_name and fence = lease_fence for share;
  return found;
end
$$;

grant usage on schema jobs to stoa_tenant, stoa_operator, stoa_system;
grant execute on function jobs.enqueue_own(uuid, text, jsonb, text, timestamptz, text) to stoa_tenant;
grant execute on function jobs.enqueue(uuid, text, uuid, jsonb, text, timestamptz, text) to stoa_operator, stoa_system;
grant execute on function jobs.take_job(text[], text) to stoa_system;
grant execute on function jobs.job_now() to stoa_operator, stoa_system;
grant execute on function jobs.create_queue(text, jsonb) to stoa_system;
grant execute on function platform.hold_fence(text, bigint) to stoa_system;

-- pg-boss as a worker needs it: its rows, and no right on any table's shape.
grant select, insert, update on jobs.queue to stoa_system;
grant select, insert, update, delete on jobs.job to stoa_system;
grant select, insert, update, delete on jobs.job_common to stoa_system;
grant select, delete on jobs.job_dependency to stoa_system;
grant select, update, delete on jobs.instance to stoa_system;
grant select, update on jobs.version to stoa_system;
grant select, insert, update on jobs.named_jobs to stoa_system;
grant select, insert, update, delete on jobs.progress to stoa_system;

-- The operator looks.
grant select on jobs.job_common to stoa_operator;
grant select on jobs.named_jobs to stoa_operator;
grant select on jobs.progress to stoa_operator;
