import { createHash } from 'node:crypto';
import { z } from 'zod';

/**
 * A price book as data: providers, their models, how both are recognised, and prices as decimal text. It is taken from
 * the package once (package-book.ts), kept in the database under its version, and never changed.
 */

export type MatchRule =
  | { readonly or: readonly MatchRule[] }
  | { readonly and: readonly MatchRule[] }
  | { readonly equals: string }
  | { readonly starts_with: string }
  | { readonly ends_with: string }
  | { readonly contains: string }
  | { readonly regex: string };

const matchRule: z.ZodType<MatchRule> = z.union([
  z.strictObject({ equals: z.string() }),
  z.strictObject({ starts_with: z.string() }),
  z.strictObject({ ends_with: z.string() }),
  z.strictObject({ contains: z.string() }),
  z.strictObject({ regex: z.string() }),
  z.strictObject({ or: z.array(z.lazy(() => matchRule)).readonly() }),
  z.strictObject({ and: z.array(z.lazy(() => matchRule)).readonly() }),
]);

/** Shortest decimal text of a price; never negative. */
const decimal = z.string().regex(/^\d+(\.\d+)?(e-\d{1,2})?$/);

const tieredPrice = z.strictObject({
  base: decimal,
  tiers: z.array(z.strictObject({ start: z.int().min(0), price: decimal })).readonly(),
});

/** By the package's own names: `input_mtok` is USD per million tokens, `requests_kcount` per thousand requests. */
const modelPrices = z.record(z.string().regex(/^[a-z0-9_]+$/), z.union([decimal, tieredPrice]));

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/);

const constraint = z.union([
  z.strictObject({ start_date: z.iso.date() }),
  z.strictObject({ start_time: timeOfDay, end_time: timeOfDay }),
]);

const bookModel = z.strictObject({
  id: z.string(),
  match: matchRule,
  /** The last whose constraint holds applies; one without a constraint always holds. */
  prices: z.array(z.strictObject({ constraint: constraint.optional(), prices: modelPrices })).min(1),
});

const bookProvider = z.strictObject({
  id: z.string(),
  /** Regular expression on the beginning of a base URL. */
  api_pattern: z.string(),
  provider_match: matchRule.optional(),
  /** Whose models it also serves, by provider id. */
  fallback: z.array(z.string()).optional(),
  models: z.array(bookModel),
});

export const bookDocument = z.strictObject({
  /** `genai-prices-0.1.8` */
  name: z.string().regex(/^[a-z0-9.-]{1,100}$/),
  providers: z.array(bookProvider),
});

export type BookDocument = z.infer<typeof bookDocument>;
export type BookModel = z.infer<typeof bookModel>;
export type ModelPrices = z.infer<typeof modelPrices>;
export type PriceConstraint = z.infer<typeof constraint>;

/** The text of a document under which it is stored and hashed; parsing it gives the document again. */
export function documentText(document: BookDocument): string {
  return canonicalText(document);
}

/** JSON with the members of every object in the order of their names, so that equal values have equal text. */
export function canonicalText(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([left], [right]) => (left < right ? -1 : 1)))
      : member,
  );
}

/** The first 16 hex digits of the SHA-256 of a value's canonical text. */
export function shortHash(value: unknown): string {
  return createHash('sha256').update(canonicalText(value)).digest('hex').slice(0, 16);
}
