import type { Target } from '#models';
import type { Book } from './book.ts';
import type { ReadyOverride } from './overrides.ts';
import type { Price } from './price-entry.ts';

/** Everything that prices at one revision; immutable, replaced as a whole. */
export interface PriceList {
  /** `genai-prices-0.1.8+3` */
  readonly version: string;
  readonly revision: number;
  readonly book: Book;
  /** Newest revision first. */
  readonly overrides: readonly ReadyOverride[];
  /** What applies to a target for a request that began at this time, or null. */
  priceOf(target: Target, atMs: number): Price | null;
}

/**
 * Order of look-up: an override for the target, one for its provider and model, one for the model anywhere, the book.
 * Of the statements about one subject the newest that is valid already counts; where that one takes the override back,
 * the look-up goes on.
 *
 * The book applies only where it is known who takes the money: the target names its provider, or its base URL is one that
 * the book knows. A server of the operator's own that calls a model `gpt-4o` gets no made-up price.
 */
export function createPriceList(
  book: Book,
  revision: number,
  overrides: readonly ReadyOverride[],
): PriceList {
  const bySubject = new Map<string, ReadyOverride[]>();
  const newestFirst = [...overrides].sort((left, right) => right.revision - left.revision);
  for (const override of newestFirst) {
    const key = subjectKey(override.target, override.provider, override.model);
    bySubject.set(key, [...(bySubject.get(key) ?? []), override]);
  }
  // Targets are replaced as a whole when anything of them changes, so what was found for one stays true for it.
  const known = new WeakMap<Target, (atMs: number) => Price | null>();
  return {
    version: `${book.name}+${revision}`,
    revision,
    book,
    overrides: newestFirst,
    priceOf(target, atMs) {
      let find = known.get(target);
      if (find === undefined) {
        find = resolve(target, book, bySubject);
        known.set(target, find);
      }
      return find(atMs);
    },
  };
}

function resolve(
  target: Target,
  book: Book,
  bySubject: ReadonlyMap<string, readonly ReadyOverride[]>,
): (atMs: number) => Price | null {
  const provider = target.priceKey.provider ?? book.providerOfUrl(target.provider.baseUrl);
  const model = target.priceKey.model.toLowerCase();
  const keys = [
    subjectKey(target.id, null, null),
    ...(provider === null ? [] : [subjectKey(null, provider.toLowerCase(), model)]),
    subjectKey(null, target.provider.id.toLowerCase(), model),
    subjectKey(null, null, model),
  ];
  const statements = keys.map((key) => bySubject.get(key) ?? []).filter((list) => list.length > 0);
  const entry = provider === null ? null : book.find(provider, model);
  if (statements.length === 0) return entry === null ? () => null : (atMs) => entry.priceAt(atMs);
  return (atMs) => {
    for (const list of statements) {
      const price = list.find((statement) => statement.validFromMs <= atMs)?.price;
      if (price) return price;
    }
    return entry?.priceAt(atMs) ?? null;
  };
}

function subjectKey(target: string | null, provider: string | null, model: string | null): string {
  return JSON.stringify([target, provider, model]);
}
