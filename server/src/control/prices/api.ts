import { type Femto, femtoToDecimal } from '#kernel';
import type { PriceList } from './price-list.ts';
import { hasTokenPrice } from './price-entry.ts';
import { costOf, dearestCost } from './rating.ts';
import type { PricesApi } from './types.ts';

/** A failing request is tried three times at most (design, section 10); each try may take a price per request. */
const mostTries = 3;

/** The synchronous face of the price book, over whatever list is current. */
export function createPricesApi(current: () => PriceList | null, nowMs: () => number): PricesApi {
  return {
    isPriced(target) {
      const price = current()?.priceOf(target, nowMs());
      return price !== null && price !== undefined && hasTokenPrice(price);
    },
    rate(target, usage, atMs) {
      const list = current();
      const price = list?.priceOf(target, atMs) ?? null;
      if (list === null || price === null) return null;
      const cost = costOf(price.tiers, usage);
      if (cost === null) return null;
      return {
        costFemto: cost.costFemto,
        chargeFemto: chargeFor(cost.costFemto),
        priceVersion: list.version,
        price: { hash: price.hash, tier: cost.tier.label, unit: 'token' },
      };
    },
    upperBound(target, inputTokens, outputTokens, atMs) {
      const price = current()?.priceOf(target, atMs);
      return price ? dearestCost(price.tiers, inputTokens, outputTokens, mostTries) : null;
    },
    describe(target, atMs) {
      const price = current()?.priceOf(target, atMs);
      if (!price || !hasTokenPrice(price)) return null;
      const { input, output } = price.tiers[0].rates;
      return { input: femtoToDecimal(input ?? 0n), output: femtoToDecimal(output ?? 0n) };
    },
  };
}

/** What the tenant pays for what the provider takes: the same, until plans bring markups. */
function chargeFor(costFemto: Femto): Femto {
  return costFemto;
}
