import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, timestamp, typeId } from './shared.ts';

/** Work in the background: what is declared, and what became of each piece of it. */

const jobName = z
  .string()
  .max(60)
  .regex(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/, 'must be the name of a job')
  .describe('The name of a job');

const count = z.number().int().min(0);

const lastRun = z.object({
  id: typeId('job'),
  started_at: timestamp.nullable(),
  finished_at: timestamp,
  outcome: z.enum(['completed', 'failed']),
});

/** A kind of work that the code declares. */
export const namedJob = z.object({
  id: jobName,
  object: z.literal('job'),
  name: jobName,
  scope: z.enum(['tenant', 'system']).describe("Whether each run is a tenant's, or the platform's"),
  schedule: z.string().nullable().describe('Cron in UTC; null where it runs only when it is enqueued'),
  deadline_ms: z.number().int().describe('Of one attempt'),
  retry: z.object({
    limit: count.describe('Attempts after the first'),
    delay_ms: count,
    backoff: z.boolean().describe('Whether the delay doubles with each attempt'),
  }),
  waiting: count,
  running: count,
  failed: count.describe('For good, within the last seven days'),
  last_run: lastRun.nullable(),
  next_run: timestamp.nullable().describe('By the schedule'),
});
export type NamedJobObject = z.infer<typeof namedJob>;

export const jobRunStates = ['waiting', 'running', 'completed', 'failed', 'cancelled'] as const;
export type JobRunState = (typeof jobRunStates)[number];

/** One piece of work. Kept for seven days after its end. */
export const jobRun = z.object({
  id: typeId('job'),
  object: z.literal('job_run'),
  job: jobName,
  tenant_id: typeId('ten').nullable(),
  state: z.enum(jobRunStates).describe('`waiting` also between two attempts'),
  attempts: count.describe('Begun so far'),
  progress: z.object({ value: z.number().min(0).max(1), note: z.string().nullable() }).nullable(),
  error: z
    .object({ code: z.string(), message: z.string() })
    .nullable()
    .describe('Of the last attempt that failed; `worker_lost` where its process ended or stood still'),
  created_at: timestamp,
  due_at: timestamp.describe('Not before; of the next attempt'),
  started_at: timestamp.nullable().describe('Of the last attempt'),
  finished_at: timestamp.nullable(),
  trace_id: z.string().nullable().describe('Of whoever enqueued it'),
});
export type JobRunObject = z.infer<typeof jobRun>;

const name = z.object({ name: jobName });

export const listJobs = endpoint({
  id: 'jobs.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/jobs',
  summary: 'List the jobs that are declared, by name, with what waits, runs and has failed',
  access: { permission: 'control:read' },
  query: listQuery,
  responses: { 200: { description: 'A page of jobs', schema: listOf(namedJob) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { limit: '20' } },
});

export const listJobRuns = endpoint({
  id: 'jobs.runs.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/jobs/{name}/runs',
  summary: 'List the runs of a job, newest first',
  access: { permission: 'control:read' },
  params: name,
  query: listQuery.extend({
    state: z.enum(jobRunStates).optional().describe('Only those in this state'),
    tenant_id: typeId('ten').optional().describe('Only those of this tenant'),
  }),
  responses: { 200: { description: 'A page of runs', schema: listOf(jobRun) } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { name: 'document-index' }, query: { state: 'failed' } },
});

export const readJobRun = endpoint({
  id: 'jobs.runs.read',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/jobs/{name}/runs/{id}',
  summary: 'Show one run of a job',
  access: { permission: 'control:read' },
  params: name.extend({ id: typeId('job') }),
  responses: { 200: { description: 'The run', schema: jobRun } },
  errors: ['invalid_request', 'not_found'],
  idempotent: 'yes',
  example: { params: { name: 'document-index', id: 'job_01jz4x5t2sfkb8m6q0v9c3d7ea' } },
});

export const runJob = endpoint({
  id: 'jobs.run',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/jobs/{name}/run',
  summary: 'Enqueue a run of a job now',
  access: { permission: 'control:write' },
  params: name,
  body: z.strictObject({
    tenant_id: typeId('ten')
      .optional()
      .describe('Whose run it is; for jobs of the scope `tenant`, and for those only'),
    data: z
      .record(z.string(), z.unknown())
      .default({})
      .describe('What the job needs to know, such as the id of a row'),
  }),
  responses: { 202: { description: 'The run, which waits', schema: jobRun } },
  errors: ['invalid_request', 'invalid_text', 'not_found', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: { params: { name: 'document-index' }, body: {} },
});
