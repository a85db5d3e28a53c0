import { type ErrorCode, type ErrorRow, errorTable, type RetryAdvice } from '@stoa/contracts';

export interface AppErrorOptions {
  /** The field at fault, in OpenAI's notation (`messages[0].role`). */
  readonly param?: string;
  /** Sent as `Retry-After`, rounded up to whole seconds. */
  readonly retryAfterMs?: number;
  /** Safe to show; merged into nothing, logged as it is. */
  readonly details?: Readonly<Record<string, unknown>>;
  /** True where an upstream call may have cost money, so clients are told `x-should-retry: false`. */
  readonly wasMoneySpent?: boolean;
  /** For us, never for the caller. */
  readonly cause?: unknown;
}

/**
 * The one error class. `publicMessage` is what a caller reads, so it must hold no hash, table name, host or stack;
 * whatever we need for ourselves goes into `cause`.
 */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly publicMessage: string;
  readonly param: string | null;
  readonly retryAfterMs: number | null;
  readonly details: Readonly<Record<string, unknown>>;
  readonly wasMoneySpent: boolean;

  constructor(code: ErrorCode, publicMessage: string, options: AppErrorOptions = {}) {
    super(publicMessage, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.publicMessage = publicMessage;
    this.param = options.param ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
    this.details = options.details ?? {};
    this.wasMoneySpent = options.wasMoneySpent ?? false;
  }

  get row(): ErrorRow {
    return errorTable[this.code];
  }

  get status(): number {
    return this.row.status;
  }

  get retry(): RetryAdvice {
    return this.row.retry;
  }
}

/**
 * What was thrown, or an error in its place where it cannot even be asked what it is (a revoked proxy throws at
 * `instanceof`). For the places where foreign code ends: behind them nobody has to be on his guard.
 */
export function readableThrown(thrown: unknown): unknown {
  try {
    Object.getPrototypeOf(Object(thrown));
    return thrown;
  } catch {
    return new Error('Something was thrown that cannot be read.');
  }
}

/** Any thrown value as an AppError: itself where it is one, else `internal_error` with the value as its cause. */
export function toAppError(thrown: unknown): AppError {
  const cause = readableThrown(thrown);
  if (cause instanceof AppError) return cause;
  return new AppError('internal_error', 'Something went wrong on our side.', { cause });
}
