import { sql } from 'kysely';
import type { OperatorHandle } from '#db';

export interface NamedJobRow {
  readonly name: string;
  readonly scope: 'tenant' | 'system';
  readonly schedule: string | null;
  readonly scheduled_until: Date;
  readonly deadline_ms: number;
  readonly retry_limit: number;
  readonly retry_delay_ms: number;
  readonly retry_backoff: boolean;
  readonly waiting: bigint;
  readonly running: bigint;
  readonly failed: bigint;
  readonly last_id: string | null;
  readonly last_started_at: Date | null;
  readonly last_finished_at: Date | null;
  readonly last_outcome: 'completed' | 'failed' | null;
}

/**
 * Declared jobs by name, a page and one more. The counts read the index entries of what waits, runs and has failed
 * (pg-boss's job_i14, 30 ms for 100,000); the last run is one look-up in job_i16, and where its row is gone, what was
 * noted of it.
 */
export async function selectNamedJobs(
  tx: OperatorHandle,
  page: { after: string | null; limit: number },
): Promise<readonly NamedJobRow[]> {
  const { rows } = await sql<NamedJobRow>`
    with page as (
      select * from jobs.named_jobs
      where ${page.after}::text is null or name > ${page.after}::text
      order by name
      limit ${page.limit + 1}
    ), counts as (
      select name, count(*) filter (where state < 'active') as waiting,
        count(*) filter (where state = 'active') as running, count(*) filter (where state = 'failed') as failed
      from jobs.job_common
      where name in (select name from page) and state in ('created', 'retry', 'active', 'failed')
      group by name
    )
    select page.name, page.scope, page.schedule, page.scheduled_until, page.deadline_ms, page.retry_limit,
      page.retry_delay_ms, page.retry_backoff, coalesce(counts.waiting, 0) as waiting,
      coalesce(counts.running, 0) as running, coalesce(counts.failed, 0) as failed,
      coalesce(newest.id, page.last_job_id) as last_id,
      coalesce(newest.started_on, page.last_started_at) as last_started_at,
      coalesce(newest.completed_on, page.last_finished_at) as last_finished_at,
      coalesce(newest.state::text, page.last_outcome) as last_outcome
    from page
    left join counts on counts.name = page.name
    left join lateral (
      select id, started_on, completed_on, state from jobs.job_common j
      where j.name = page.name and j.completed_on is not null and j.state in ('completed', 'failed')
      order by j.completed_on desc
      limit 1
    ) newest on true
    order by page.name
  `.execute(tx);
  return rows;
}

export async function isDeclared(tx: OperatorHandle, name: string): Promise<boolean> {
  const { rows } = await sql`select from jobs.named_jobs where name = ${name}`.execute(tx);
  return rows.length > 0;
}

export interface RunRow {
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly state: 'created' | 'retry' | 'active' | 'completed' | 'cancelled' | 'failed';
  readonly retry_count: number;
  readonly output: unknown;
  readonly traceparent: string | null;
  readonly created_on: Date;
  readonly start_after: Date;
  readonly started_on: Date | null;
  readonly completed_on: Date | null;
  readonly progress_value: number | null;
  readonly progress_note: string | null;
}

export interface RunFilter {
  readonly name: string;
  /** pg-boss's; empty: every state. */
  readonly states: readonly RunRow['state'][];
  /** A tenant's id. */
  readonly tenant: string | null;
  /** The one run. */
  readonly id: string | null;
  readonly after: string | null;
  readonly limit: number;
}

/** Runs of one name, newest first, a page and one more. By primary key, backwards; the filters pass over rows. */
export async function selectRuns(tx: OperatorHandle, filter: RunFilter): Promise<readonly RunRow[]> {
  const { rows } = await sql<RunRow>`
    select j.id, j.name, j.group_id as tenant, j.state::text as state, j.retry_count, j.output,
      j.trace_context ->> 'traceparent' as traceparent, j.created_on, j.start_after, j.started_on, j.completed_on,
      progress.value as progress_value, progress.note as progress_note
    from jobs.job_common j
    left join jobs.progress on progress.job_id = j.id
    where j.name = ${filter.name}
      and (cardinality(${filter.states}::text[]) = 0 or j.state::text = any(${filter.states}::text[]))
      and (${filter.tenant}::text is null or j.group_id = ${filter.tenant}::text)
      and (${filter.id}::uuid is null or j.id = ${filter.id}::uuid)
      and (${filter.after}::uuid is null or j.id < ${filter.after}::uuid)
    order by j.id desc
    limit ${filter.limit + 1}
  `.execute(tx);
  return rows;
}
