import { AppError } from '#kernel';

/** Why an event failed, as it is kept: bounded, and free of what the database can't hold. */
export interface Failure {
  /** A code of the error table, or one of `deadLetterCodes` in contracts. */
  readonly code: string;
  readonly message: string;
  readonly stack: string | null;
  /** What the event's tenant may read. */
  readonly publicMessage: string;
}

const messageLimit = 2000;
const stackLimit = 8000;

/** Thrown where a handler passes its deadline. */
export class HandlerDeadline extends Error {
  override readonly name = 'HandlerDeadline';

  constructor(deadlineMs: number) {
    super(`The handler did not finish within ${deadlineMs} ms.`);
  }
}

/** An event that no handler is given. */
export class UnreadableEvent extends Error {
  override readonly name = 'UnreadableEvent';
  readonly code: 'event_version_unknown' | 'event_invalid';

  constructor(code: 'event_version_unknown' | 'event_invalid', message: string) {
    super(message);
    this.code = code;
  }
}

function storable(text: string, limit: number): string {
  return text.slice(0, limit).toWellFormed().replaceAll('\u0000', '\u{FFFD}');
}

/** Text of anything, also of what throws when it is turned into text. */
function textOf(value: unknown): string {
  try {
    if (typeof value === 'string') return value;
    return `${typeof value}: ${JSON.stringify(value) ?? String(value)}`;
  } catch {
    return `${typeof value} that cannot be shown`;
  }
}

/** Reads a field of something that may be a proxy or have a getter that throws. */
function fieldOf(value: object, name: 'message' | 'stack' | 'cause'): unknown {
  try {
    const found: unknown = Reflect.get(value, name);
    return found;
  } catch {
    return null;
  }
}

function isErrorLike(value: unknown): value is Error {
  try {
    return value instanceof Error;
  } catch {
    return false;
  }
}

function stackOf(error: Error): string | null {
  const stack = fieldOf(error, 'stack');
  if (typeof stack !== 'string') return null;
  const cause = fieldOf(error, 'cause');
  const below = isErrorLike(cause) ? `\nCaused by: ${textOf(fieldOf(cause, 'stack'))}` : '';
  return storable(stack + below, stackLimit);
}

function codeOf(error: unknown): string {
  if (error instanceof AppError) return error.code;
  if (error instanceof HandlerDeadline) return 'handler_deadline';
  if (error instanceof UnreadableEvent) return error.code;
  return 'handler_failed';
}

const publicMessages: Readonly<Record<string, string>> = {
  handler_failed: 'Handling the event failed on our side.',
  internal_error: 'Handling the event failed on our side.',
  handler_deadline: 'Handling the event took too long.',
};

/** What is kept of anything that a handler threw. Never throws itself. */
export function failureOf(thrown: unknown): Failure {
  const isError = isErrorLike(thrown);
  const said = isError ? fieldOf(thrown, 'message') : thrown;
  const message = storable(textOf(said), messageLimit);
  const code = isError ? codeOf(thrown) : 'handler_failed';
  const shown = isError && thrown instanceof AppError ? thrown.publicMessage : message;
  return {
    code,
    message,
    stack: isError ? stackOf(thrown) : null,
    publicMessage: publicMessages[code] ?? storable(shown, messageLimit),
  };
}

/** An attempt that nobody saw the end of. */
export const diedFailure: Failure = {
  code: 'process_died',
  message: 'The process that handled the event ended before it was done.',
  stack: null,
  publicMessage: 'Handling the event was cut off on our side.',
};

/** A version of the key that never came. */
export const missingFailure: Failure = {
  code: 'event_version_missing',
  message: 'An earlier version of the key has not arrived. Forced redrive goes on without it.',
  stack: null,
  publicMessage: 'An earlier event of the same key is missing.',
};

/** The waits between attempts: six attempts in all. */
export const defaultRetryDelaysMs: readonly number[] = [1000, 5000, 30_000, 120_000, 600_000];

/**
 * How long to wait after attempt `attempts` (from 1), in ms, up to a fifth longer at random; null where that was the
 * last. An event that a person redrove has one attempt: who watches wants the answer, not a quarter of an hour.
 */
export function nextDelayMs(
  attempts: number,
  redrives: number,
  delaysMs: readonly number[],
  random: () => number,
): number | null {
  const delayMs = redrives > 0 ? undefined : delaysMs[attempts - 1];
  return delayMs === undefined ? null : Math.round(delayMs * (1 + 0.2 * random()));
}

/** After this many redrives an event that fails again is parked. */
export const redrivesBeforeParking = 3;
