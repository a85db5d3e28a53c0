import type { ErrorCode } from '@stoa/contracts';
import { AppError } from '#kernel';

/** Bounds the look-ups of credentials that this process does not know yet. Control/quotas implements it. */
export interface UnknownCredentials {
  /**
   * Before a look-up.
   * @param clientAddress null where this process asks by itself
   * @returns to be called where the look-up does not count against the address; by a promise where it has to wait
   * @throws AppError `rate_limit_exceeded`
   */
  admit(clientAddress: string | null): (() => void) | Promise<() => void>;
}

export const allUnknownCredentials: UnknownCredentials = { admit: () => () => undefined };

const countAgainstNobody: ReadonlySet<string> = new Set<ErrorCode>([
  'key_revoked',
  'key_expired',
  'token_revoked',
  'token_expired',
  'tenant_suspended',
  'ip_not_allowed',
  'database_unavailable',
  'deadline_exceeded',
  'overloaded',
]);

/**
 * Looks up where the address may, and gives back what that took where the credential was right, also where it is revoked,
 * expired or used from elsewhere, and where nobody could be asked. Anything else counts: a fault that a credential without
 * a right secret can bring about must not be free.
 */
export async function lookUpUnknown<Found>(
  unknown: UnknownCredentials,
  clientAddress: string | null,
  lookUp: () => Promise<Found>,
): Promise<Found> {
  const giveBack = await unknown.admit(clientAddress);
  try {
    const found = await lookUp();
    giveBack();
    return found;
  } catch (error) {
    if (error instanceof AppError && countAgainstNobody.has(error.code)) giveBack();
    throw error;
  }
}
