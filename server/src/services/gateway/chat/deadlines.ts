import { AppError } from '#kernel';

/** Silence after which a waiting stream gets a comment: early enough to come before 15 s, whatever the sweep adds. */
export const commentAfterMs = 10_000;
/** How long a call waits for a place at a provider before the next target has its turn. */
export const queueWaitMs = 1_000;
/** A client that takes nothing of what waits for it is cut after this. */
export const slowReaderMs = 60_000;
/** How long a provider may hold its stream open behind `[DONE]`. */
export const upstreamLingerMs = 1_000;

export const timeoutHeader = 'x-stoa-timeout-ms';
const maximumTimeoutMs = 600_000;

/**
 * The time that the caller gives us; infinite without a header. It shortens every deadline of the request, and so the
 * request as a whole.
 * @throws `invalid_request` where the header is no whole number from 1 to 600,000
 */
export function callerTimeoutMs(header: string | readonly string[] | undefined): number {
  if (header === undefined) return Number.POSITIVE_INFINITY;
  const text = typeof header === 'string' ? header.trim() : '';
  const ms = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (ms >= 1 && ms <= maximumTimeoutMs) return ms;
  throw new AppError(
    'invalid_request',
    `The header ${timeoutHeader} must be a whole number of milliseconds, 1 to ${maximumTimeoutMs}.`,
    { param: timeoutHeader },
  );
}

export function callerTimeoutError(): AppError {
  return new AppError('provider_timeout', `No answer came within the time that ${timeoutHeader} gives.`, {
    wasMoneySpent: true,
  });
}
