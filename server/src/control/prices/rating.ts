import type { Usage } from '@stoa/contracts';
import type { Femto } from '#kernel';
import { type RateTier, type RateTiers, tierFor, type TokenKind, tokenKinds } from './rates.ts';

/**
 * What a request cost: whole token counts times whole femto-dollars, so the sum is exact.
 *
 * A provider's totals include the special kinds, so these are taken out of the totals first, in a fixed order, and never
 * more than the total holds; what is left over is of the plain kind. Every token is thus priced exactly once. A special
 * kind without a price of its own costs what the plain kind costs.
 */
export function splitUsage(usage: Usage): Readonly<Record<TokenKind, number>> {
  let input = usage.input_tokens;
  const takeInput = (count: number): number => {
    const taken = Math.min(Math.max(count, 0), input);
    input -= taken;
    return taken;
  };
  const cachedInput = takeInput(usage.cached_input_tokens);
  const cacheWrite = takeInput(usage.cache_write_tokens);
  const inputAudio = takeInput(usage.input_audio_tokens);
  const outputAudio = Math.min(Math.max(usage.output_audio_tokens, 0), usage.output_tokens);
  const reasoning = Math.min(Math.max(usage.reasoning_tokens, 0), usage.output_tokens - outputAudio);
  return {
    input,
    cached_input: cachedInput,
    cache_write: cacheWrite,
    input_audio: inputAudio,
    output: usage.output_tokens - outputAudio - reasoning,
    output_audio: outputAudio,
    reasoning,
  };
}

export interface Cost {
  readonly costFemto: Femto;
  readonly tier: RateTier;
}

/**
 * The cost of a usage, or null where it holds tokens of a kind that has no price at all: what can't be priced whole is
 * not priced.
 */
export function costOf(tiers: RateTiers, usage: Usage): Cost | null {
  const tier = tierFor(tiers, usage.input_tokens);
  const parts = splitUsage(usage);
  let costFemto = tier.rates.perRequest ?? 0n;
  for (const kind of tokenKinds) {
    const count = parts[kind];
    if (count === 0) continue;
    const rate = rateOf(tier, kind);
    if (rate === null) return null;
    costFemto += BigInt(count) * rate;
  }
  return { costFemto, tier };
}

/** What one token of a kind costs in a tier: its own rate, else that of the plain kind on its side, else null. */
function rateOf(tier: RateTier, kind: TokenKind): Femto | null {
  return tier.rates[kind] ?? tier.rates[isInputKind(kind) ? 'input' : 'output'];
}

/**
 * The dearest that these counts could cost, whatever kinds they turn out to be and whichever of the tiers they fall
 * into, for as many requests as are tried. Null where the tiers have no price for tokens that there may be.
 * @param inputTokens an upper bound, so every tier that begins below it may apply
 */
export function dearestCost(
  tiers: RateTiers,
  inputTokens: number,
  outputTokens: number,
  requests: number,
): Femto | null {
  let dearest: Femto | null = null;
  for (const tier of tiers) {
    if (inputTokens <= tier.aboveInputTokens) continue;
    const input = dearestRate(tier, isInputKind);
    const output = dearestRate(tier, (kind) => !isInputKind(kind));
    if ((inputTokens > 0 && input === null) || (outputTokens > 0 && output === null)) return null;
    const cost =
      BigInt(inputTokens) * (input ?? 0n) +
      BigInt(outputTokens) * (output ?? 0n) +
      BigInt(requests) * (tier.rates.perRequest ?? 0n);
    if (dearest === null || cost > dearest) dearest = cost;
  }
  return dearest;
}

function dearestRate(tier: RateTier, belongs: (kind: TokenKind) => boolean): Femto | null {
  let dearest: Femto | null = null;
  for (const kind of tokenKinds) {
    const rate = belongs(kind) ? rateOf(tier, kind) : null;
    if (rate !== null && (dearest === null || rate > dearest)) dearest = rate;
  }
  return dearest;
}

function isInputKind(kind: TokenKind): boolean {
  return kind === 'input' || kind === 'cached_input' || kind === 'cache_write' || kind === 'input_audio';
}
