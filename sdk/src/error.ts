import { errorTable, isErrorCode } from '@stoa/contracts';
import { z } from 'zod';

/** Codes that arise on this side of the wire; all others are those of the server's table (docs/reference/errors.md). */
export type ClientErrorCode =
  | 'connection_failed'
  | 'client_timeout'
  | 'unexpected_answer'
  | 'stream_interrupted'
  | 'invalid_argument';

export interface StoaErrorFields {
  /** HTTP status; for an error inside a stream that of its code; null where no answer came. */
  readonly status: number | null;
  /** Stable, for programs: of the server's error table, or a `ClientErrorCode`. */
  readonly code: string;
  readonly message: string;
  /** The field at fault in OpenAI's notation, such as `messages[0].role`. */
  readonly param?: string | null;
  readonly requestId?: string | null;
  readonly retryAfterSeconds?: number | null;
  readonly cause?: unknown;
}

/**
 * Everything that goes wrong in a call, but for the caller's own abort, which is passed on as it is. Tell errors apart
 * by `code`, never by the message. The API key is in none of the fields.
 */
export class StoaError extends Error {
  override readonly name = 'StoaError';
  readonly status: number | null;
  readonly code: string;
  readonly param: string | null;
  readonly requestId: string | null;
  /** What the server asked to wait before the next try; null where it said nothing. */
  readonly retryAfterSeconds: number | null;

  constructor(fields: StoaErrorFields) {
    super(fields.message, fields.cause === undefined ? {} : { cause: fields.cause });
    this.status = fields.status;
    this.code = fields.code;
    this.param = fields.param ?? null;
    this.requestId = fields.requestId ?? null;
    this.retryAfterSeconds = fields.retryAfterSeconds ?? null;
  }
}

const faultBody = z.looseObject({
  error: z.looseObject({
    message: z.string(),
    code: z.string().nullish(),
    param: z.string().nullish(),
  }),
});

/** The error of an answer that is no success. `text` may be anything: a proxy on the way answers in its own words. */
export function errorOfAnswer(answer: Response, text: string): StoaError {
  const fault = faultBody.safeParse(parsedJson(text)).data?.error;
  const common = {
    status: answer.status,
    requestId: answer.headers.get('x-request-id'),
    retryAfterSeconds: retryAfterSeconds(answer.headers.get('retry-after')),
  };
  if (fault === undefined || typeof fault.code !== 'string') {
    return new StoaError({
      ...common,
      code: 'unexpected_answer',
      message: `${addressOf(answer)} answered ${answer.status} without an error of Stoa's; is this the address of a Stoa?`,
    });
  }
  return new StoaError({ ...common, code: fault.code, message: fault.message, param: fault.param ?? null });
}

/** The error that a frame of a stream carries, or null where the frame is none. */
export function errorOfFrame(frame: unknown, requestId: string | null): StoaError | null {
  const fault = faultBody.safeParse(frame).data?.error;
  if (fault === undefined) return null;
  const code = fault.code ?? 'stream_interrupted';
  return new StoaError({
    status: isErrorCode(code) ? errorTable[code].status : null,
    code,
    message: fault.message,
    param: fault.param ?? null,
    requestId,
  });
}

/** Where an answer came from, without query and credentials. */
export function addressOf(answer: Response): string {
  return URL.canParse(answer.url) ? new URL(answer.url).origin : 'The server';
}

/** A JSON value, or undefined where the text is none. */
export function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Seconds from either form of the header: a number, or a date. */
function retryAfterSeconds(value: string | null): number | null {
  if (value === null) return null;
  if (/^\d+(\.\d+)?$/.test(value.trim())) return Number(value);
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, (at - Date.now()) / 1_000);
}
