import { sql } from 'kysely';
import type { OperatorHandle, SystemHandle, TenantHandle } from '#db';
import type { NamedJob } from './define.ts';

/** One job as it goes into the queue. */
export interface NewJob {
  readonly id: string;
  readonly name: string;
  /** JSON. */
  readonly data: string;
  readonly key: string | null;
  readonly runAfter: Date | null;
  readonly traceparent: string | null;
}

interface IdRow {
  readonly id: string;
}

/** In the tenant's transaction, for that tenant. Answers the id of the job that is there now. */
export async function enqueueOwn(tx: TenantHandle, job: NewJob): Promise<string | undefined> {
  const { rows } = await sql<IdRow>`
    select jobs.enqueue_own(
      ${job.id}::uuid, ${job.name}, ${job.data}::jsonb, ${job.key}, ${job.runAfter}::timestamptz, ${job.traceparent}
    ) as id
  `.execute(tx);
  return rows[0]?.id;
}

/** `tenantId` null: a job of the platform. */
export async function enqueueFor(
  tx: OperatorHandle | SystemHandle,
  tenantId: string | null,
  job: NewJob,
): Promise<string | undefined> {
  const { rows } = await sql<IdRow>`
    select jobs.enqueue(
      ${job.id}::uuid, ${job.name}, ${tenantId}::uuid, ${job.data}::jsonb, ${job.key}, ${job.runAfter}::timestamptz,
      ${job.traceparent}
    ) as id
  `.execute(tx);
  return rows[0]?.id;
}

/** Many at once, due now; data is JSON. */
export async function enqueueEach(
  tx: SystemHandle,
  name: string,
  jobs: readonly { readonly tenantId: string; readonly data: string }[],
): Promise<void> {
  await sql`
    select jobs.enqueue(gen_random_uuid(), ${name}, tenant_id, data::jsonb, null, null, null)
    from unnest(${jobs.map((job) => job.tenantId)}::uuid[], ${jobs.map((job) => job.data)}::text[])
      as wanted (tenant_id, data)
  `.execute(tx);
}

export interface TakenJob {
  /** Whose turn it was: a tenant's id, or `system`. */
  readonly turn: string;
  readonly id: string;
  readonly name: string;
  readonly data: unknown;
  /** pg-boss's count of retries; names the attempt in every later write. */
  readonly retryCount: number;
  readonly retryLimit: number;
  readonly traceparent: string | null;
  readonly startedAt: Date;
}

interface TakenRow {
  readonly turn: string;
  readonly job_id: string | null;
  readonly job_name: string | null;
  readonly data: unknown;
  readonly attempt: number | null;
  readonly retry_limit: number | null;
  readonly traceparent: string | null;
  readonly started_on: Date | null;
}

/**
 * The next job and whose turn it was; `{ turn }` alone where a thousand tenants were passed over, null where nothing is
 * due. By stoa_turns: some look-ups, whatever waits.
 */
export async function takeJob(
  tx: SystemHandle,
  names: readonly string[],
  lastTurn: string,
): Promise<TakenJob | { readonly turn: string } | null> {
  const { rows } = await sql<TakenRow>`
    select turn, job_id, job_name, data, attempt, retry_limit, traceparent, started_on
    from jobs.take_job(${names}::text[], ${lastTurn})
  `.execute(tx);
  const [row] = rows;
  if (row === undefined) return null;
  const { turn, job_id: id, job_name: name, attempt, started_on: startedAt } = row;
  if (id === null || name === null || attempt === null || startedAt === null) return { turn };
  return {
    turn,
    id,
    name,
    data: row.data,
    retryCount: attempt,
    retryLimit: row.retry_limit ?? 0,
    traceparent: row.traceparent,
    startedAt,
  };
}

type Attempt = Pick<TakenJob, 'id' | 'name' | 'retryCount'>;

/** Puts an attempt back as if it had not begun, where it is still the present one. By primary key. */
export async function handBack(tx: SystemHandle, { id, name, retryCount }: Attempt): Promise<boolean> {
  const { numAffectedRows } = await sql`
    update jobs.job_common
    set state = 'retry', started_on = null, heartbeat_on = null
    where name = ${name} and id = ${id}::uuid and state = 'active' and retry_count = ${retryCount}
  `.execute(tx);
  return numAffectedRows === 1n;
}

/** By primary key; a report of an earlier attempt changes nothing. */
export async function writeProgress(
  tx: SystemHandle,
  attempt: Attempt,
  value: number,
  note: string | null,
): Promise<void> {
  await sql`
    insert into jobs.progress as progress (job_id, attempt, value, note)
    values (${attempt.id}::uuid, ${attempt.retryCount}, ${value}, ${note})
    on conflict (job_id) do update
      set attempt = excluded.attempt, value = excluded.value, note = excluded.note, updated_at = now()
      where progress.attempt <= excluded.attempt
  `.execute(tx);
}

/** Remembers the run beyond its row's life; at most once in a second, so that a busy name's row is not held. */
export async function noteLastRun(
  tx: SystemHandle,
  run: Pick<TakenJob, 'id' | 'name' | 'startedAt'>,
  outcome: 'completed' | 'failed',
): Promise<void> {
  await sql`
    update jobs.named_jobs
    set last_job_id = ${run.id}::uuid, last_started_at = ${run.startedAt}, last_finished_at = now(), last_outcome = ${outcome}
    where name = ${run.name}
      and (last_finished_at is null or last_finished_at < now() - interval '1 second')
  `.execute(tx);
}

/** Progress outlives its job's row by some weeks at most. By progress_by_time. */
export async function deleteOldProgress(tx: SystemHandle): Promise<void> {
  await sql`delete from jobs.progress where updated_at < now() - interval '30 days'`.execute(tx);
}

/** Writes what changed of a declaration; a new schedule counts from now. Few rows, by primary key. */
export async function declare(tx: SystemHandle, jobs: readonly NamedJob[]): Promise<void> {
  const column = <T>(valueOf: (job: NamedJob) => T): T[] => jobs.map(valueOf);
  await sql`
    insert into jobs.named_jobs as named
      (name, scope, schedule, deadline_ms, retry_limit, retry_delay_ms, retry_backoff)
    select * from unnest(
      ${column(({ name }) => name)}::text[], ${column(({ scope }) => scope)}::text[],
      ${column(({ schedule }) => schedule)}::text[], ${column(({ deadlineMs }) => deadlineMs)}::integer[],
      ${column(({ retry }) => retry.limit)}::integer[], ${column(({ retry }) => retry.delayMs)}::integer[],
      ${column(({ retry }) => retry.backoff)}::boolean[])
    on conflict (name) do update
      set scope = excluded.scope, schedule = excluded.schedule, deadline_ms = excluded.deadline_ms,
        retry_limit = excluded.retry_limit, retry_delay_ms = excluded.retry_delay_ms,
        retry_backoff = excluded.retry_backoff,
        scheduled_until = case when named.schedule is not distinct from excluded.schedule
          then named.scheduled_until else now() end
      where (named.scope, named.deadline_ms, named.retry_limit, named.retry_delay_ms, named.retry_backoff)
          <> (excluded.scope, excluded.deadline_ms, excluded.retry_limit, excluded.retry_delay_ms, excluded.retry_backoff)
        or named.schedule is distinct from excluded.schedule
  `.execute(tx);
}

export interface ScheduleRow {
  readonly name: string;
  readonly schedule: string;
  readonly scheduled_until: Date;
}

export async function selectSchedules(
  tx: SystemHandle,
  names: readonly string[],
): Promise<readonly ScheduleRow[]> {
  const { rows } = await sql<ScheduleRow>`
    select name, schedule, scheduled_until from jobs.named_jobs
    where name = any(${names}::text[]) and schedule is not null
  `.execute(tx);
  return rows;
}

/** Takes the occurrence for this transaction: false where another process has it, or the schedule has changed. */
export async function takeOccurrence(
  tx: SystemHandle,
  { name, schedule }: ScheduleRow,
  occurrence: Date,
  until: Date,
): Promise<boolean> {
  const { numAffectedRows } = await sql`
    update jobs.named_jobs set scheduled_until = ${until}
    where name = ${name} and schedule = ${schedule} and scheduled_until < ${occurrence}
  `.execute(tx);
  return numAffectedRows === 1n;
}
