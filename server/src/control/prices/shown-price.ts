import type { LaterPrice, Price as ShownPrice, PriceRates, PriceTier } from '@stoa/contracts';
import { femtoToDecimal } from '#kernel';
import { canonicalText, type PriceConstraint } from './book-document.ts';
import { priceIdOf, type ReadyOverride } from './overrides.ts';
import type { Price, PriceEntry } from './price-entry.ts';
import type { PriceList } from './price-list.ts';
import { type Rates, tokenKinds, tokensPerPrice } from './rates.ts';

/**
 * Every price of a list as the operator sees it, each once and under an id of its own: what is stated, newest first, then
 * the book in its order.
 */
export function shownPrices(list: PriceList, nowMs: number): ShownPrice[] {
  const bySubject = Map.groupBy(list.overrides, ({ id }) => id);
  const stated = [...bySubject.values()].flatMap((all) => shownSubject(all, list.version, nowMs) ?? []);
  return [...stated, ...list.book.entries.flatMap((entry) => shownEntry(entry, list.version))];
}

/**
 * A subject's price as it is now, or else as it is stated for the soonest time; null where there is neither.
 * @param stated all statements about one subject, newest first: what is older than the one in effect counts no more
 */
function shownSubject(
  stated: readonly ReadyOverride[],
  priceVersion: string,
  nowMs: number,
): ShownPrice | null {
  const inEffect = stated.find(({ validFromMs }) => validFromMs <= nowMs);
  const newer = inEffect === undefined ? stated : stated.slice(0, stated.indexOf(inEffect));
  const inOrder = [
    ...(inEffect === undefined ? [] : [inEffect]),
    ...newer.toSorted((left, right) => left.validFromMs - right.validFromMs),
  ];
  const [shown, ...later] = inOrder.flatMap((override) => shownOverride(override, priceVersion) ?? []);
  return shown === undefined ? null : { ...shown, later: later.flatMap(laterPriceOf) };
}

function laterPriceOf(stated: ShownPrice): LaterPrice[] {
  const { rates, tiers, hash, valid_from: validFrom, version, note, created_by } = stated;
  return validFrom === null ? [] : [{ rates, tiers, hash, valid_from: validFrom, version, note, created_by }];
}

/** A stated price; null where the statement takes one back. */
export function shownOverride(override: ReadyOverride, priceVersion: string): ShownPrice | null {
  if (override.price === null) return null;
  return {
    id: override.id,
    object: 'price',
    source: 'override',
    target: override.target,
    provider: override.provider,
    model: override.model,
    ...shownTerms(override.price),
    constraint: null,
    valid_from: new Date(override.validFromMs).toISOString(),
    version: override.revision,
    note: override.note,
    created_by: override.createdBy,
    later: [],
    price_version: priceVersion,
  };
}

/** One for each of the entry's constraints. */
export function shownEntry(entry: PriceEntry, priceVersion: string): ShownPrice[] {
  const { provider, model } = entry;
  const nameOf = (constraint: PriceConstraint | null, { hash }: Price): string =>
    `${model} ${hash}${constraint === null ? '' : ` ${canonicalText(constraint)}`}`;
  return entry.conditional.map(({ constraint, price }) => ({
    id: priceIdOf({ target: null, provider, model: nameOf(constraint, price) }, 'package'),
    object: 'price',
    source: 'package',
    target: null,
    provider,
    model,
    ...shownTerms(price),
    constraint,
    valid_from: null,
    version: 0,
    note: null,
    created_by: null,
    later: [],
    price_version: priceVersion,
  }));
}

function shownTerms({
  hash,
  tiers: [base, ...above],
}: Price): Pick<ShownPrice, 'per' | 'rates' | 'tiers' | 'hash'> {
  const tiers: PriceTier[] = above.map(({ aboveInputTokens, rates }) => ({
    above_input_tokens: aboveInputTokens,
    ...shownRates(rates),
  }));
  return { per: tokensPerPrice, rates: shownRates(base.rates), tiers, hash };
}

/** Exact: a whole number of femto-dollars for each token is a decimal number of dollars for a million. */
function shownRates(rates: Rates): PriceRates {
  const shown: PriceRates = {};
  for (const kind of tokenKinds) {
    const rate = rates[kind];
    if (rate !== null) shown[kind] = femtoToDecimal(rate * BigInt(tokensPerPrice));
  }
  if (rates.perRequest !== null) shown.per_request = femtoToDecimal(rates.perRequest);
  return shown;
}
