import type { Usage } from '@stoa/contracts';
import type { Femto } from '#kernel';
import type { Target } from '#models';

/** What one request cost, exactly. */
export interface RatedUsage {
  readonly costFemto: Femto;
  readonly chargeFemto: Femto;
  /** Version of the price book, such as `genai-prices-0.1.8+3`. */
  readonly priceVersion: string;
  /** Of the applied entry: SHA-256 (first 16 hex digits) of its canonical form, its tier, its unit. */
  readonly price: { readonly hash: string; readonly tier: string; readonly unit: string };
}

/** Prices as this process knows them; synchronous, from memory. */
export interface PricesApi {
  /** True where the target has a price now. */
  isPriced(target: Target): boolean;
  /** Null where the target has no price. `atMs` is the request's start: prices have a validity. */
  rate(target: Target, usage: Usage, atMs: number): RatedUsage | null;
  /** The dearest that the given token counts could cost, for reservations; null without a price. */
  upperBound(target: Target, inputTokens: number, outputTokens: number, atMs: number): Femto | null;
  /** What /v1/models shows, as decimal text in USD per token, null without a price. */
  describe(target: Target, atMs: number): { readonly input: string; readonly output: string } | null;
}
