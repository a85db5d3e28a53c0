import {
  type JobRunObject,
  type JobRunState,
  listJobRuns,
  listJobs,
  type NamedJobObject,
  readJobRun,
  runJob,
} from '@stoa/contracts';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import type { creatingOperatorRoute, operatorRoute, RequestContext, Route } from '#http';
import { actingOperator, AppError, fromTypeId, type OperatorPrincipal, pageOf, toTypeId } from '#kernel';
import { isDeclared, type NamedJobRow, type RunRow, selectNamedJobs, selectRuns } from './overview.sql.ts';

export interface JobRoutesDependencies {
  readonly db: Pick<Database, 'withOperator'>;
  /** From `platform/http`. */
  readonly operatorRoute: typeof operatorRoute;
  readonly creatingOperatorRoute: typeof creatingOperatorRoute;
  /** Rejects with `not_found` where there is no such tenant. */
  readonly requireTenant: (by: OperatorContext, tenantId: string) => Promise<void>;
  readonly nextOccurrence: (schedule: string, from: Date) => Date | null;
  /**
   * Enqueues by name in the operator's transaction, answers the id, and wakes the worker.
   * @throws AppError `not_found` for a name that this code does not declare, `invalid_request` for data that it can't take
   */
  readonly enqueue: (
    tx: OperatorHandle,
    job: { readonly name: string; readonly tenantId: string | null; readonly data: unknown },
  ) => Promise<string>;
}

const storedStates = {
  waiting: ['created', 'retry'],
  running: ['active'],
  completed: ['completed'],
  failed: ['failed'],
  cancelled: ['cancelled'],
} as const satisfies Record<JobRunState, readonly RunRow['state'][]>;

const shownStates = {
  created: 'waiting',
  retry: 'waiting',
  active: 'running',
  completed: 'completed',
  failed: 'failed',
  cancelled: 'cancelled',
} as const satisfies Record<RunRow['state'], JobRunState>;

export function jobRoutes(deps: JobRoutesDependencies): Route[] {
  const { db } = deps;
  return [
    deps.operatorRoute(listJobs, async ({ query }, principal, context) => {
      const page = { after: query.after ?? null, limit: query.limit };
      const rows = await db.withOperator(by(principal, context), listJobs.id, async (tx) => {
        if (page.after !== null && !(await isDeclared(tx, page.after))) throw noSuchPlace();
        return selectNamedJobs(tx, page);
      });
      const jobs = rows.map((row) => jobObject(row, deps.nextOccurrence));
      return { status: 200, body: pageOf(jobs, query.limit, ({ id }) => id) };
    }),
    deps.operatorRoute(listJobRuns, async ({ params, query }, principal, context) => {
      const tenantId = query.tenant_id === undefined ? null : tenantUuid(query.tenant_id);
      const filter = {
        name: params.name,
        states: query.state === undefined ? [] : storedStates[query.state],
        tenant: tenantId,
        id: null,
        after: query.after === undefined ? null : runUuid(query.after, 'after'),
        limit: query.limit,
      };
      const rows = await db.withOperator(about(by(principal, context), tenantId), listJobRuns.id, (tx) =>
        runsOf(tx, filter),
      );
      return { status: 200, body: pageOf(rows.map(runObject), query.limit, ({ id }) => id) };
    }),
    deps.operatorRoute(readJobRun, async ({ params }, principal, context) => {
      const id = runUuid(params.id, 'id');
      const run = await db.withOperator(by(principal, context), readJobRun.id, (tx) =>
        readRun(tx, params.name, id),
      );
      return { status: 200, body: run };
    }),
    deps.creatingOperatorRoute(runJob, async ({ params, body }, principal, context, keep) => {
      const tenantId = body.tenant_id === undefined ? null : tenantUuid(body.tenant_id);
      const acting = about(by(principal, context), tenantId);
      if (tenantId !== null) await deps.requireTenant(acting, tenantId);
      return db.withOperator(acting, `${runJob.id} ${params.name}`, async (tx) => {
        const id = await deps.enqueue(tx, { name: params.name, tenantId, data: body.data });
        const run = await readRun(tx, params.name, id);
        const { id: runId, job, tenant_id } = run;
        await tx.audit({
          action: runJob.id,
          resource: { type: 'job_run', id: runId },
          // Data is the operator's: a tenant, which sees that a job ran for it, is not shown what it was given.
          after: { job, tenant_id, ...(tenantId === null ? { data: body.data } : {}) },
        });
        const location = `/control/v1/jobs/${params.name}/runs/${run.id}`;
        return keep(tx, { status: 202, body: run, headers: { location } });
      });
    }),
  ];
}

async function runsOf(
  tx: OperatorHandle,
  filter: Parameters<typeof selectRuns>[1],
): Promise<readonly RunRow[]> {
  const rows = await selectRuns(tx, filter);
  if (rows.length === 0 && !(await isDeclared(tx, filter.name))) throw noSuchJob();
  return rows;
}

async function readRun(tx: OperatorHandle, name: string, id: string): Promise<JobRunObject> {
  const [row] = await selectRuns(tx, { name, states: [], tenant: null, id, after: null, limit: 1 });
  if (row === undefined) throw new AppError('not_found', 'There is no such run.');
  return runObject(row);
}

export function noSuchJob(): AppError {
  return new AppError('not_found', 'There is no job of this name.', { param: 'name' });
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}

function about(acting: OperatorContext, tenantId: string | null): OperatorContext {
  return tenantId === null ? acting : { ...acting, tenantId };
}

function tenantUuid(id: string): string {
  const uuid = fromTypeId('ten', id);
  if (uuid !== null) return uuid;
  throw new AppError('invalid_request', 'tenant_id: must be an id of the form ten_....', {
    param: 'tenant_id',
  });
}

function noSuchPlace(): AppError {
  return new AppError('invalid_request', 'There is no job of this name to go on after.', { param: 'after' });
}

function runUuid(id: string, param: string): string {
  const uuid = fromTypeId('job', id);
  if (uuid !== null) return uuid;
  throw new AppError('invalid_request', `${param}: must be an id of the form job_....`, { param });
}

function jobObject(
  row: NamedJobRow,
  nextOccurrence: JobRoutesDependencies['nextOccurrence'],
): NamedJobObject {
  const {
    last_id: id,
    last_started_at: startedAt,
    last_finished_at: finishedAt,
    last_outcome: outcome,
  } = row;
  const hasRun = id !== null && finishedAt !== null && outcome !== null;
  const next = row.schedule === null ? null : nextOccurrence(row.schedule, row.scheduled_until);
  return {
    id: row.name,
    object: 'job',
    name: row.name,
    scope: row.scope,
    schedule: row.schedule,
    deadline_ms: row.deadline_ms,
    retry: { limit: row.retry_limit, delay_ms: row.retry_delay_ms, backoff: row.retry_backoff },
    waiting: Number(row.waiting),
    running: Number(row.running),
    failed: Number(row.failed),
    last_run: hasRun
      ? {
          id: toTypeId('job', id),
          started_at: timeOf(startedAt),
          finished_at: finishedAt.toISOString(),
          outcome,
        }
      : null,
    next_run: timeOf(next),
  };
}

function runObject(row: RunRow): JobRunObject {
  const isOver = row.state === 'completed' || row.state === 'cancelled';
  return {
    id: toTypeId('job', row.id),
    object: 'job_run',
    job: row.name,
    tenant_id: row.tenant === 'system' ? null : toTypeId('ten', row.tenant),
    state: shownStates[row.state],
    attempts: row.retry_count + (row.started_on === null ? 0 : 1),
    progress: row.progress_value === null ? null : { value: row.progress_value, note: row.progress_note },
    error: isOver ? null : errorOf(row.output),
    created_at: row.created_on.toISOString(),
    due_at: row.start_after.toISOString(),
    started_at: timeOf(row.started_on),
    finished_at: timeOf(row.completed_on),
    trace_id: row.traceparent?.split('-')[1] ?? null,
  };
}

function timeOf(date: Date | null): string | null {
  return date === null ? null : date.toISOString();
}

/** An attempt writes code and message; what has no code was written by pg-boss, which saw a worker go. */
function errorOf(output: unknown): { code: string; message: string } | null {
  if (typeof output !== 'object' || output === null) return null;
  if ('code' in output && typeof output.code === 'string') {
    const message = 'message' in output && typeof output.message === 'string' ? output.message : '';
    return { code: output.code, message };
  }
  return { code: 'worker_lost', message: 'The process that ran it ended or stood still for too long.' };
}
