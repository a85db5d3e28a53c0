import { AppError } from '#kernel';

/** The fields of PostgreSQL's error message that code may look at. */
export interface SqlErrorFields {
  readonly code?: string | undefined;
  readonly constraint?: string | undefined;
  readonly table?: string | undefined;
  readonly detail?: string | undefined;
  readonly hint?: string | undefined;
  readonly where?: string | undefined;
  readonly position?: string | undefined;
}

/**
 * What the database refused a statement for. For the code around the query, never for a caller of Stoa: message and
 * detail name tables and values, so the outermost handler answers `internal_error` and logs this as the cause.
 */
export class SqlError extends Error {
  override readonly name = 'SqlError';
  /** Five characters, PostgreSQL's appendix A. */
  readonly sqlState: string;
  readonly constraint: string | null;
  readonly table: string | null;
  readonly detail: string | null;

  constructor(message: string, sqlState: string, fields: SqlErrorFields = {}) {
    super(fields.where === undefined ? message : `${message} (${fields.where})`);
    this.sqlState = sqlState;
    this.constraint = fields.constraint ?? null;
    this.table = fields.table ?? null;
    this.detail = fields.detail ?? null;
  }
}

function hasState(error: unknown, sqlState: string, constraint: string | undefined): boolean {
  return (
    error instanceof SqlError &&
    error.sqlState === sqlState &&
    (constraint === undefined || error.constraint === constraint)
  );
}

/** True for a unique violation; with `constraint`, only for that constraint or unique index. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  return hasState(error, '23505', constraint);
}

/** True for a foreign key violation; with `constraint`, only for that one. */
export function isForeignKeyViolation(error: unknown, constraint?: string): boolean {
  return hasState(error, '23503', constraint);
}

/** True for a check violation; with `constraint`, only for that one. */
export function isCheckViolation(error: unknown, constraint?: string): boolean {
  return hasState(error, '23514', constraint);
}

/** True where the same transaction, run again from its start, may pass: serialisation failure or deadlock. */
export function isTransientConflict(error: unknown): boolean {
  return hasState(error, '40001', undefined) || hasState(error, '40P01', undefined);
}

/**
 * True where the values themselves are at fault, so that the same again fails again and other values may pass: a text that
 * can't be stored, SQLSTATE 22 (data) and 23 (constraints). A row for which a table has no partition is no fault of the
 * row, though PostgreSQL calls it a check without a name.
 */
export function isDataFault(error: unknown): boolean {
  if (error instanceof AppError) return error.code === 'invalid_text';
  if (!(error instanceof SqlError)) return false;
  if (error.sqlState === '23514' && error.constraint === null) return false;
  return error.sqlState.startsWith('22') || error.sqlState.startsWith('23');
}

/** True where grants or row security refused the statement. */
export function isPermissionDenied(error: unknown): boolean {
  return hasState(error, '42501', undefined);
}

const timedOutStates: ReadonlySet<string> = new Set(['57014', '25P03', '25P04']);

/** Connection lost, refused or never made; server stopping or starting; its disk, memory or connections used up. */
function isOutage(sqlState: string): boolean {
  return (
    sqlState.startsWith('08') ||
    sqlState.startsWith('53') ||
    sqlState.startsWith('58') ||
    sqlState.startsWith('57P') ||
    sqlState.startsWith('28') ||
    sqlState === '3D000'
  );
}

/** What a caller that aborted gets back: its own reason where that is an Error, as it is by default. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason;
  return reason instanceof Error ? reason : new Error('aborted', { cause: reason });
}

export function databaseUnavailable(cause: unknown): AppError {
  return new AppError('database_unavailable', 'The database cannot be reached.', {
    retryAfterMs: 1000,
    cause,
  });
}

export function deadlineExceeded(what: string, cause?: unknown): AppError {
  return new AppError('deadline_exceeded', `The database did not finish in time (${what}).`, {
    retryAfterMs: 1000,
    cause,
  });
}

/** The error a door rejects with for what a driver reported: an outage, a deadline, or the statement's own fault. */
export function translateSqlError(message: string, fields: SqlErrorFields): AppError | SqlError {
  const sqlState = fields.code ?? 'XX000';
  const error = new SqlError(message, sqlState, fields);
  if (timedOutStates.has(sqlState)) return deadlineExceeded('a statement', error);
  if (isOutage(sqlState)) return databaseUnavailable(error);
  return error;
}
