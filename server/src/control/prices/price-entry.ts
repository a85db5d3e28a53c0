import { type BookModel, type ModelPrices, type PriceConstraint, shortHash } from './book-document.ts';
import { baseTier, ratesOf, type RateTexts, type RateTiers, tierAbove } from './rates.ts';

/** What applies to a model at some time: tiers of rates, and the hash of what they were made from. */
export interface Price {
  /** First 16 hex digits of the SHA-256 over the canonical form of the entry. */
  readonly hash: string;
  readonly tiers: RateTiers;
}

/** A model of the price book with its prices, some of which may hold only from a date or at certain hours. */
export interface PriceEntry {
  readonly provider: string;
  readonly model: string;
  /** The price at a time in milliseconds since the Unix epoch. */
  priceAt(atMs: number): Price;
  /** All of them, in the order of the book. */
  readonly conditional: readonly { readonly constraint: PriceConstraint | null; readonly price: Price }[];
}

/** The package's names of what Stoa counts. Its other names (searches, pages, hours) price what Stoa doesn't sell. */
const packageKinds: Readonly<Record<string, keyof RateTexts>> = {
  input_mtok: 'input',
  cache_read_mtok: 'cached_input',
  cache_write_mtok: 'cache_write',
  input_audio_mtok: 'input_audio',
  output_mtok: 'output',
  output_audio_mtok: 'output_audio',
  output_reasoning_mtok: 'reasoning',
  requests_kcount: 'per_request',
};

const msPerDay = 86_400_000;

/** A model of the book made ready. Null where it has no price by tokens (a speech model priced by the hour, say). */
export function compileEntry(provider: string, model: BookModel): PriceEntry | null {
  const conditional = model.prices.map(({ constraint, prices }) => ({
    constraint: constraint ?? null,
    holds: constraint === undefined ? null : constraintTest(constraint),
    price: {
      hash: shortHash({ provider, model: model.id, constraint: constraint ?? null, prices }),
      tiers: tiersOf(prices),
    },
  }));
  const [first] = conditional;
  if (first === undefined || !conditional.some(({ price }) => hasTokenPrice(price))) return null;
  return {
    provider,
    model: model.id,
    conditional: conditional.map(({ constraint, price }) => ({ constraint, price })),
    priceAt(atMs) {
      return (conditional.findLast(({ holds }) => holds === null || holds(atMs)) ?? first).price;
    },
  };
}

/** Whether tokens have a price at all. */
export function hasTokenPrice({ tiers }: Price): boolean {
  return tiers[0].rates.input !== null || tiers[0].rates.output !== null;
}

/** The package gives each kind tiers of its own; here each threshold becomes a tier with the rates of all kinds. */
function tiersOf(prices: ModelPrices): RateTiers {
  const starts = new Set<number>();
  for (const [key, price] of Object.entries(prices)) {
    if (packageKinds[key] === undefined || typeof price === 'string') continue;
    for (const tier of price.tiers) starts.add(tier.start);
  }
  const above = [...starts].sort((left, right) => left - right);
  return [
    baseTier(ratesOf(textsAt(prices, -1))),
    ...above.map((start) => tierAbove(start, ratesOf(textsAt(prices, start)))),
  ];
}

/** Decimal texts that hold while the input is just above `start` tokens. */
function textsAt(prices: ModelPrices, start: number): RateTexts {
  const texts: { -readonly [Kind in keyof RateTexts]: RateTexts[Kind] } = {};
  for (const [key, price] of Object.entries(prices)) {
    const kind = packageKinds[key];
    if (kind === undefined) continue;
    texts[kind] = typeof price === 'string' ? price : tierText(price, start);
  }
  return texts;
}

function tierText(price: Exclude<ModelPrices[string], string>, start: number): string {
  let text = price.base;
  let highest = -1;
  for (const tier of price.tiers) {
    if (tier.start <= start && tier.start >= highest) {
      highest = tier.start;
      text = tier.price;
    }
  }
  return text;
}

function constraintTest(constraint: PriceConstraint): (atMs: number) => boolean {
  if ('start_date' in constraint) {
    const fromMs = Date.parse(`${constraint.start_date}T00:00:00Z`);
    return (atMs) => atMs >= fromMs;
  }
  const startMs = msOfDay(constraint.start_time);
  const endMs = msOfDay(constraint.end_time);
  return (atMs) => {
    const ms = ((atMs % msPerDay) + msPerDay) % msPerDay;
    return endMs < startMs ? ms >= startMs || ms < endMs : ms >= startMs && ms < endMs;
  };
}

/** Of `HH:MM:SSZ`. */
function msOfDay(text: string): number {
  const [hours = '0', minutes = '0', seconds = '0'] = text.slice(0, 8).split(':');
  return (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000;
}
