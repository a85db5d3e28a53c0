import type { PriceOverride, PriceRates, PriceTier } from '@stoa/contracts';
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Femto } from '#kernel';
import { femtoPerToken } from '#kernel';
import { canonicalText, shortHash } from './book-document.ts';
import type { Price } from './price-entry.ts';
import { baseTier, type Rates, type RateTiers, tierAbove } from './rates.ts';

/** What a price is for. Either a target, or a model with or without its provider. */
export interface Subject {
  readonly target: string | null;
  readonly provider: string | null;
  readonly model: string | null;
}

/** What an override states; kept as canonical JSON, so that equal terms have equal text and one hash. */
const rateTexts = z.record(z.string(), z.string());
const storedTerms = z.strictObject({
  per: z.union([z.literal(1), z.literal(1_000), z.literal(1_000_000)]),
  rates: rateTexts,
  tiers: z.array(z.strictObject({ above_input_tokens: z.int(), rates: rateTexts })),
});
export type Terms = z.infer<typeof storedTerms>;

/** One statement about a subject; `terms` null takes back what was stated before. */
export interface Override extends Subject {
  readonly id: string;
  readonly revision: number;
  readonly terms: Terms | null;
  readonly validFromMs: number;
  readonly note: string | null;
  readonly createdBy: string;
}

/** An override made ready; `price` is null where it takes back. */
export interface ReadyOverride extends Override {
  readonly price: Price | null;
}

export function subjectOf(override: PriceOverride): Subject {
  return {
    target: override.target ?? null,
    provider: override.provider?.toLowerCase() ?? null,
    model: override.model?.toLowerCase() ?? null,
  };
}

/** The id of the price of a subject: always the same, so that stating it again is a change of the same thing. */
export function priceIdOf(subject: Subject, source: 'package' | 'override'): string {
  const { target, provider, model } = subject;
  const text = canonicalText({ source, target, provider, model });
  return `price_${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
}

export function termsOf({ per, rates, tiers = [] }: PriceOverride): Terms {
  return {
    per,
    rates: definedOnly(rates),
    tiers: tiers.map(({ above_input_tokens, ...texts }) => ({
      above_input_tokens,
      rates: definedOnly(texts),
    })),
  };
}

function definedOnly(texts: PriceRates | Omit<PriceTier, 'above_input_tokens'>): Record<string, string> {
  const defined: Record<string, string> = {};
  for (const [kind, text] of Object.entries(texts)) if (text !== undefined) defined[kind] = text;
  return defined;
}

/** Terms from the text of a row. @throws Error where it is not what `canonicalText` of terms makes */
export function parseTerms(text: string): Terms {
  return storedTerms.parse(JSON.parse(text));
}

export function readyOverride(override: Override): ReadyOverride {
  const { terms, target, provider, model } = override;
  if (terms === null) return { ...override, price: null };
  return {
    ...override,
    price: { hash: shortHash({ target, provider, model, terms }), tiers: tiersOf(terms) },
  };
}

/** What a tier leaves out is as in the base. */
function tiersOf({ per, rates, tiers }: Terms): RateTiers {
  return [
    baseTier(ratesPer(rates, per)),
    ...tiers.map((tier) => tierAbove(tier.above_input_tokens, ratesPer({ ...rates, ...tier.rates }, per))),
  ];
}

function ratesPer(texts: Readonly<Record<string, string>>, per: number): Rates {
  const rate = (kind: string): Femto | null => {
    const text = texts[kind];
    return text === undefined ? null : femtoPerToken(text, per);
  };
  const perRequest = texts['per_request'];
  return {
    input: rate('input'),
    cached_input: rate('cached_input'),
    cache_write: rate('cache_write'),
    input_audio: rate('input_audio'),
    output: rate('output'),
    output_audio: rate('output_audio'),
    reasoning: rate('reasoning'),
    perRequest: perRequest === undefined ? null : femtoPerToken(perRequest, 1),
  };
}
