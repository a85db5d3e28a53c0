import type { Femto } from '#kernel';
import type { QuotasApi, Reservation } from './types.ts';

/**
 * Quotas as they stand now: the reservation call of the request path exists and grants always, because no budget can be
 * set yet. Every caller already asks before it spends and settles after, so setting budgets changes nothing but this.
 */
export function createQuotas(): { readonly api: QuotasApi } {
  return {
    api: {
      reserve: ({ costFemto }) => grant(costFemto),
      hasHardBudget: () => false,
      outputCap: () => 4_096,
    },
  };
}

function grant(reservedFemto: Femto | null): Reservation {
  return { isGranted: true, reservedFemto, settle: () => undefined };
}
