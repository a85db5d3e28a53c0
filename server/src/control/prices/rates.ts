import { type Femto, femtoPerToken } from '#kernel';

/**
 * What tokens of each kind cost, in whole femto-dollars. Rounded once, here, half to even, from decimal text; every sum
 * after it is exact.
 */

/** Kinds that have a price of their own, in the order in which they are taken out of a request's totals. */
export const tokenKinds = [
  'input',
  'cached_input',
  'cache_write',
  'input_audio',
  'output',
  'output_audio',
  'reasoning',
] as const;
export type TokenKind = (typeof tokenKinds)[number];

/** Femto-dollars per token of each kind, null where the kind has no price of its own; and per request, null for none. */
export type Rates = Readonly<Record<TokenKind, Femto | null>> & { readonly perRequest: Femto | null };

/** Decimal text in USD, as it was written: per million tokens, or for `per_request` per thousand requests. */
export type RateTexts = { readonly [Kind in TokenKind | 'per_request']?: string | undefined };

export const tokensPerPrice = 1_000_000;
const requestsPerPrice = 1_000;

/** Rates from texts. @throws RangeError where a text is no decimal number */
export function ratesOf(texts: RateTexts): Rates {
  const rate = (text: string | undefined): Femto | null =>
    text === undefined ? null : femtoPerToken(text, tokensPerPrice);
  return {
    input: rate(texts.input),
    cached_input: rate(texts.cached_input),
    cache_write: rate(texts.cache_write),
    input_audio: rate(texts.input_audio),
    output: rate(texts.output),
    output_audio: rate(texts.output_audio),
    reasoning: rate(texts.reasoning),
    perRequest: texts.per_request === undefined ? null : femtoPerToken(texts.per_request, requestsPerPrice),
  };
}

/** Rates that hold while a request's input is above so many tokens; the first is above nothing and holds always. */
export interface RateTier {
  /** -1 for the first. */
  readonly aboveInputTokens: number;
  /** What is written into records: `base`, or `input>200000`. */
  readonly label: string;
  readonly rates: Rates;
}

/** At least one, by rising threshold. */
export type RateTiers = readonly [RateTier, ...RateTier[]];

export function baseTier(rates: Rates): RateTier {
  return { aboveInputTokens: -1, label: 'base', rates };
}

export function tierAbove(aboveInputTokens: number, rates: Rates): RateTier {
  return { aboveInputTokens, label: `input>${aboveInputTokens}`, rates };
}

/** The tier that a request's input falls into: the one with the highest threshold below it. */
export function tierFor(tiers: RateTiers, inputTokens: number): RateTier {
  let chosen: RateTier = tiers[0];
  for (const tier of tiers) if (inputTokens > tier.aboveInputTokens) chosen = tier;
  return chosen;
}
