import { AppError } from '#kernel';

/**
 * Why a key is refused. Made once and thrown many times: a stack trace for each of a flood of wrong keys would cost more
 * than the rest of refusing it. Whoever can't prove to hold the right secret gets `invalidApiKey`, whatever the cause,
 * so that nobody learns from the answer which keys, ids or tenants exist.
 */
export const invalidApiKey = new AppError('invalid_api_key', 'The API key is not valid.');
export const keyRevoked = new AppError('key_revoked', 'The API key was revoked.');
export const keyExpired = new AppError('key_expired', 'The API key has expired.');
/** For whoever still sends the secret that a rotation replaced, once the overlap is over. */
export const secretReplaced = new AppError(
  'key_expired',
  'This secret of the API key was replaced by a newer one.',
);
export const tenantSuspended = new AppError('tenant_suspended', 'The tenant of this API key is suspended.');
export const tokenExpired = new AppError('token_expired', 'The access token has expired.');
export const tokenRevoked = new AppError('token_revoked', 'The access token was revoked.');
export const memberFell = new AppError(
  'key_revoked',
  'The member that this API key belongs to was removed, or has no role where the key works.',
);
export const tooManyLookups = new AppError('overloaded', 'Too many unknown API keys are being looked up.', {
  retryAfterMs: 1000,
});
export const tooManyTokens = new AppError('overloaded', 'Too many unknown access tokens are being checked.', {
  retryAfterMs: 1000,
});
export const keysUnavailable = new AppError(
  'database_unavailable',
  'API keys cannot be checked at the moment.',
  { retryAfterMs: 1000 },
);

/** The holder of a right key learns which address of his Stoa sees: the one thing that can be wrong on either side. */
export function addressNotAllowed(address: string): AppError {
  return new AppError(
    'ip_not_allowed',
    `The API key may not be used from ${address || 'an unknown address'}.`,
  );
}
