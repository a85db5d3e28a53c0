import { AppError } from '#kernel';

/**
 * Why a key is refused. Made once and thrown many times: a stack trace for each of a flood of wrong keys would cost more
 * than the rest of refusing it. Whoever can't prove to hold the right secret gets `invalidApiKey`, whatever the cause,
 * so that nobody learns from the answer which keys, ids or tenants exist.
 */
export const invalidApiKey = new AppError('invalid_api_key', 'The API key is not valid.');
export const keyRevoked = new AppError('key_revoked', 'The API key was revoked.');
export const keyExpired = new AppError('key_expired', 'The API key has expired.');
export const tenantSuspended = new AppError('tenant_suspended', 'The tenant of this API key is suspended.');
export const tooManyLookups = new AppError('overloaded', 'Too many unknown API keys are being looked up.', {
  retryAfterMs: 1000,
});
export const keysUnavailable = new AppError(
  'database_unavailable',
  'API keys cannot be checked at the moment.',
  { retryAfterMs: 1000 },
);
