/**
 * Errors for the log. Only type, code, message, stack frames and causes are taken: drivers hang queries, parameters and
 * rows on their errors, and those hold what tenants wrote.
 */

const deepestCause = 5;
const longestMessage = 2_000;
const mostFrames = 20;

export interface LoggedError {
  readonly type: string;
  readonly code?: string;
  readonly message: string;
  /** Frames only: the stack's first line would repeat the message. */
  readonly stack?: string;
  readonly cause?: LoggedError;
}

/** A thrown value as plain fields for the log; anything that is no Error becomes its type. */
export function serializeError(thrown: unknown, depth = 0): LoggedError {
  if (!(thrown instanceof Error))
    return { type: typeof thrown, message: 'a value that is no Error was thrown' };
  const code: unknown = 'code' in thrown ? thrown.code : undefined;
  const frames = (thrown.stack ?? '').split('\n').filter((line) => line.startsWith('    at '));
  return {
    type: thrown.name,
    ...(typeof code === 'string' || typeof code === 'number' ? { code: String(code) } : {}),
    message: messageOf(thrown),
    ...(frames.length > 0 ? { stack: frames.slice(0, mostFrames).join('\n') } : {}),
    ...(thrown.cause !== undefined && depth < deepestCause
      ? { cause: serializeError(thrown.cause, depth + 1) }
      : {}),
  };
}

/** A SyntaxError of JSON.parse quotes the text it met, which may be a prompt. */
function messageOf(error: Error): string {
  if (error instanceof SyntaxError && error.message.includes('JSON')) return 'invalid JSON';
  return error.message.slice(0, longestMessage);
}
