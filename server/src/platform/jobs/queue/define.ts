import { isStorable } from '@stoa/contracts';
import { AppError, type TenantId } from '#kernel';
import type { z } from 'zod';

export interface JobRetry {
  /** Attempts after the first, 0 to 100. A worker that was killed has used an attempt. */
  readonly limit: number;
  /** Between a failed attempt and the next; in ms, rounded up to whole seconds. */
  readonly delayMs: number;
  /** Doubles the delay with each attempt, half of it at random, up to an hour. */
  readonly backoff: boolean;
}

/** What an attempt is given. */
export interface JobContext<Data> {
  /** Null for a job of the platform. */
  readonly tenantId: TenantId | null;
  readonly data: Data;
  /** Aborts at the deadline, when the process stops, and when the job is no longer this worker's. Then return soon. */
  readonly signal: AbortSignal;
  /**
   * How far it is, 0 to 1, with a note of at most 200 characters. Never rejects; what comes faster than once in a second is
   * merged into its last.
   */
  progress(value: number, note?: string): void;
  /** UUID text. */
  readonly jobId: string;
  /** 1 for the first. */
  readonly attempt: number;
  /** The trace of whoever enqueued it, or null. */
  readonly traceparent: string | null;
}

export interface JobDeclaration<Schema extends z.ZodType> {
  /** Small letters, digits and hyphens, at most 60: `document-index`. */
  readonly name: string;
  /** Whether each job is a tenant's or the platform's. Tenants' transactions enqueue the first kind only. */
  readonly scope: 'tenant' | 'system';
  /** What a job carries: the ids of a row and little else, at most 4 KiB of JSON. */
  readonly data: Schema;
  /** Cron with five fields, in UTC; for jobs of the platform whose data may be `{}`. Missed occurrences become one. */
  readonly schedule?: string;
  /** Of one attempt; 1 s to 23 hours. */
  readonly deadlineMs: number;
  readonly retry: JobRetry;
  /**
   * True where an attempt does little but wait for somebody outside: such jobs have places of their own (`waitingPlaces`),
   * so that they hold up none that work. Default false.
   */
  readonly isWaiting?: boolean;
  /** The work, effect once by the row that it names. Rejecting is a failed attempt. */
  readonly run: (context: JobContext<z.output<Schema>>) => Promise<void>;
}

/** A declared job as the queue handles it, whatever its data. */
export interface NamedJob {
  readonly name: string;
  readonly scope: 'tenant' | 'system';
  readonly schedule: string | null;
  readonly deadlineMs: number;
  readonly retry: JobRetry;
  readonly isWaiting: boolean;
  /** JSON of data that the schema takes. @throws AppError `invalid_request` or `invalid_text` where it doesn't */
  readonly encodeUnknown: (data: unknown) => string;
  readonly run: (context: JobContext<unknown>) => Promise<void>;
}

export interface Job<Input> extends NamedJob {
  /** As `encodeUnknown`, for callers that know the type. */
  readonly encode: (data: Input) => string;
}

const namePattern = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;
const cronPattern = /^\S+( \S+){4}$/;
const longestDeadlineMs = 23 * 3_600_000;
const largestDataBytes = 4096;

/**
 * Declares a job. Nothing runs until it is registered with `createJobs(...)`.
 * @throws Error where the name, the schedule's form or a bound is not as `JobDeclaration` says
 */
export function defineJob<Schema extends z.ZodType>(
  declaration: JobDeclaration<Schema>,
): Job<z.input<Schema>> {
  checkDeclaration(declaration);
  const { name, scope, deadlineMs, retry, data: schema, schedule = null, isWaiting = false } = declaration;
  const encodeUnknown = (data: unknown): string => encode(name, schema, data);
  return {
    name,
    scope,
    schedule,
    deadlineMs,
    retry,
    isWaiting,
    encodeUnknown,
    encode: encodeUnknown,
    run: async (context) => declaration.run({ ...context, data: await schema.parseAsync(context.data) }),
  };
}

function checkDeclaration({ name, scope, schedule, deadlineMs, retry }: JobDeclaration<z.ZodType>): void {
  const fault = (text: string): never => {
    throw new Error(`the job ${name} ${text}`);
  };
  if (!namePattern.test(name) || name.length > 60) fault('must be named in small letters and hyphens');
  if (!(deadlineMs >= 1000 && deadlineMs <= longestDeadlineMs)) fault('needs a deadline of 1 s to 23 hours');
  if (!(Number.isInteger(retry.limit) && retry.limit >= 0 && retry.limit <= 100))
    fault('may be retried 0 to 100 times');
  if (!(retry.delayMs >= 0 && retry.delayMs <= 86_400_000)) fault('may wait up to a day between attempts');
  if (schedule === undefined) return;
  if (!cronPattern.test(schedule)) fault('needs a schedule of five fields');
  if (scope === 'tenant') fault('has a schedule, so it must be of the scope system');
}

function encode(name: string, schema: z.ZodType, data: unknown): string {
  const checked = schema.safeParse(data);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    const path = ['data', ...(issue?.path ?? []).map(String)].join('.');
    throw new AppError('invalid_request', `${path}: ${issue?.message ?? 'is not valid'}.`.slice(0, 500), {
      param: path.slice(0, 200),
    });
  }
  let isStored = true;
  const text = JSON.stringify(data, (key, value: unknown) => {
    isStored &&= isStorable(key) && (typeof value !== 'string' || isStorable(value));
    return value;
  });
  if (!isStored)
    throw new AppError('invalid_text', 'data: must not hold NUL characters or lone surrogates.', {
      param: 'data',
    });
  if (Buffer.byteLength(text) > largestDataBytes) {
    throw new AppError(
      'invalid_request',
      `data: a job of ${name} carries at most ${largestDataBytes} bytes; put the rest into a row.`,
      { param: 'data' },
    );
  }
  return text;
}
