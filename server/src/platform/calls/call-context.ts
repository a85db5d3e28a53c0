import { AppError, type Clock, type TenantId, toAppError } from '#kernel';
import type { CallContext, CallPrincipal } from './types.ts';

export interface CallStart {
  readonly principal: CallPrincipal;
  /** How long an answer is of use. */
  readonly timeoutMs: number;
  /** Default: the tenant of the principal, else none. */
  readonly tenantId?: TenantId;
  /** Aborts when the caller no longer waits; default never. */
  readonly signal?: AbortSignal;
  readonly traceparent?: string;
  readonly idempotencyKey?: string;
}

const never = new AbortController().signal;

/** @throws AppError `invalid_request` where a tenant's principal is to work on another tenant, or a key cannot be one */
export function createCall(clock: Clock, start: CallStart): CallContext {
  const { principal, idempotencyKey = null } = start;
  const own = principal.kind === 'tenant' ? principal.tenantId : null;
  const tenantId = start.tenantId ?? own;
  if (own !== null && tenantId !== own) {
    throw new AppError('invalid_request', 'A key of one tenant cannot work on another.');
  }
  if (idempotencyKey !== null && !/^[\x21-\x7e]{1,255}$/.test(idempotencyKey)) {
    throw new AppError('invalid_request', 'An idempotency key is 1 to 255 printable ASCII characters.');
  }
  return {
    tenantId,
    principal,
    deadlineAtMs: clock.monotonic() + start.timeoutMs,
    signal: start.signal ?? never,
    traceparent: start.traceparent ?? null,
    idempotencyKey,
  };
}

/**
 * Runs a call within its time, here or over there: the deadline is the caller's or the method's, whichever comes first.
 * Whatever is thrown comes out as an AppError. Work that ignores its signal goes on, but nobody waits for it any more.
 * @param place `service.method`, for the message
 * @throws AppError `deadline_exceeded`, `client_closed`, or why the principal no longer stands; otherwise what `run` throws
 */
export async function runBounded<Output>(
  clock: Clock,
  place: string,
  timeoutMs: number,
  call: CallContext,
  run: (call: CallContext) => Promise<Output>,
): Promise<Output> {
  const { principal, signal } = call;
  if (principal.kind === 'tenant' && principal.standing.refusal) throw principal.standing.refusal;
  if (signal.aborted) throw callerGone();
  const nowMs = clock.monotonic();
  const deadlineAtMs = Math.min(call.deadlineAtMs, nowMs + timeoutMs);
  if (deadlineAtMs <= nowMs) throw tooLate(place);
  const inner = new AbortController();
  const { promise: cut, reject } = Promise.withResolvers<never>();
  const end = (error: AppError): void => {
    reject(error);
    inner.abort(error);
  };
  const timer = setTimeout(() => end(tooLate(place)), deadlineAtMs - nowMs);
  const leave = (): void => end(callerGone());
  signal.addEventListener('abort', leave, { once: true });
  const bounded: CallContext = { ...call, deadlineAtMs, signal: inner.signal };
  try {
    return await Promise.race([(async () => run(bounded))(), cut]);
  } catch (error) {
    throw toAppError(error);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', leave);
  }
}

export function tooLate(place: string): AppError {
  return new AppError('deadline_exceeded', `${place} did not answer in time.`);
}

export function callerGone(): AppError {
  return new AppError('client_closed', 'The caller went away.');
}
