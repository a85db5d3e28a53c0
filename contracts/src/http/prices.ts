import { z } from 'zod';
import { endpoint } from '../endpoint.ts';
import { listOf, listQuery, storableText, timestamp } from './shared.ts';

/**
 * The price book as the operator sees and changes it. Prices are decimal text in USD and never floats; inside, each is
 * rounded once, half to even, to whole femto-dollars (1e-15 USD) per token.
 */

/** Decimal text in USD, not negative. */
const priceText = z
  .string()
  .regex(/^\d{1,9}(\.\d{1,20})?$/, 'must be a decimal amount in USD, such as "0.15"')
  .describe('Decimal amount in USD');

/** What is shown is for a million tokens, whatever it was stated for, so it can be six digits longer. */
const shownPriceText = z
  .string()
  .regex(/^\d{1,15}(\.\d{1,26})?$/)
  .describe('Decimal amount in USD');

function rateTexts(text: typeof priceText) {
  return {
    input: text.optional().describe('Tokens of the input that are of no other kind'),
    cached_input: text.optional().describe('Input read from the cache; the price of `input` where absent'),
    cache_write: text.optional().describe('Input written to the cache; the price of `input` where absent'),
    input_audio: text.optional().describe('Audio in the input; the price of `input` where absent'),
    output: text.optional().describe('Tokens of the output that are of no other kind'),
    output_audio: text.optional().describe('Audio in the output; the price of `output` where absent'),
    reasoning: text.optional().describe('Reasoning in the output; the price of `output` where absent'),
    per_request: text.optional().describe('For each request, whatever it holds; in USD for one'),
  };
}

function tierOf(text: typeof priceText) {
  return z.strictObject({
    above_input_tokens: z.number().int().min(0).max(1_000_000_000),
    ...rateTexts(text),
  });
}

export const priceRates = z.strictObject(rateTexts(priceText));
export type PriceRates = z.infer<typeof priceRates>;
const shownRates = z.strictObject(rateTexts(shownPriceText));

export const priceTier = tierOf(priceText);
export type PriceTier = z.infer<typeof priceTier>;
const shownTier = tierOf(shownPriceText);

const name = storableText({ min: 1, max: 200 });

/** What an override is for: one target, or a model (of one provider, or wherever it is served). */
const priceFor = {
  target: name.optional().describe("A target's id; goes before every other override"),
  provider: name.optional().describe("A provider of the price book, or a provider's name here"),
  model: name.optional().describe("The provider's own name of the model"),
};

function hasOneSubject(value: {
  target?: string | undefined;
  provider?: string | undefined;
  model?: string | undefined;
}): boolean {
  return value.target === undefined
    ? value.model !== undefined
    : value.model === undefined && value.provider === undefined;
}
const oneSubject = {
  message: 'must name either `target`, or `model` with or without `provider`',
  path: ['target'],
};

function hasTokenPrice(value: { rates: PriceRates }): boolean {
  return value.rates.input !== undefined || value.rates.output !== undefined;
}
const someTokenPrice = { message: 'must hold a price for `input` or `output`', path: ['rates'] };

function areTiersRising(value: { tiers?: readonly PriceTier[] | undefined }): boolean {
  const starts = (value.tiers ?? []).map((tier) => tier.above_input_tokens);
  return starts.every((start, index) => index === 0 || start > (starts[index - 1] ?? 0));
}
const risingTiers = { message: 'must rise by `above_input_tokens`', path: ['tiers'] };

const overrideShape = z.strictObject({
  ...priceFor,
  per: z
    .union([z.literal(1), z.literal(1_000), z.literal(1_000_000)])
    .default(1_000_000)
    .describe('How many tokens the prices are for'),
  rates: priceRates,
  tiers: z
    .array(priceTier)
    .max(10)
    .optional()
    .describe(
      'Other prices while the input is above so many tokens; what a tier leaves out is as in `rates`',
    ),
  valid_from: timestamp
    .optional()
    .describe('Applies to requests that begin at or after it; now where absent'),
  note: storableText({ max: 500 }).optional(),
});

/** A price that the operator states. */
export const priceOverride = overrideShape
  .refine(hasOneSubject, oneSubject)
  .refine(hasTokenPrice, someTokenPrice)
  .refine(areTiersRising, risingTiers);
export type PriceOverride = z.infer<typeof priceOverride>;

export const priceConstraint = z.union([
  z.strictObject({ start_date: z.string() }),
  z.strictObject({ start_time: z.string(), end_time: z.string() }),
]);

/** What is stated about a price for a time to come. */
export const laterPrice = z.object({
  rates: shownRates,
  tiers: z.array(shownTier),
  hash: z.string(),
  valid_from: timestamp,
  version: z.number().int().min(0),
  note: z.string().nullable(),
  created_by: z.string().nullable(),
});
export type LaterPrice = z.infer<typeof laterPrice>;

export const price = z.object({
  id: z.string().describe('Of what the price is for, so that stating it again changes the same price'),
  object: z.literal('price'),
  source: z.enum(['package', 'override']),
  target: z.string().nullable(),
  provider: z.string().nullable(),
  model: z.string().nullable(),
  per: z.literal(1_000_000),
  rates: shownRates,
  tiers: z.array(shownTier),
  constraint: priceConstraint
    .nullable()
    .describe('Of the package: from which date or at which hours (UTC) it holds'),
  hash: z.string().describe('As in the records of the requests that it was applied to'),
  valid_from: timestamp.nullable(),
  version: z.number().int().min(0).describe('Revision of the price book that brought it; 0 for the package'),
  note: z.string().nullable(),
  created_by: z.string().nullable(),
  later: z
    .array(laterPrice)
    .describe(
      'In a list: what is stated for later, the soonest first. Taking the override back takes it back, too',
    ),
  price_version: z.string().describe('Version of the price book that this answer shows'),
});
export type Price = z.infer<typeof price>;

const diffEntry = z.object({
  id: z.string(),
  target: z.string().nullable(),
  provider: z.string().nullable(),
  model: z.string().nullable(),
  before: z.unknown().describe('The prices until now, null for an added one'),
  after: z.unknown().describe('The prices from now on, null for a removed one'),
});

export const priceDiff = z.object({
  object: z.literal('price_diff'),
  dry_run: z.boolean(),
  price_version_before: z.string(),
  price_version: z
    .string()
    .describe('After the import; the one before where nothing changed or nothing was applied'),
  added_count: z.number().int(),
  changed_count: z.number().int(),
  removed_count: z.number().int(),
  unchanged_count: z.number().int(),
  added: z.array(diffEntry).describe('At most 500, as are the two lists beside it; the counts are of all'),
  changed: z.array(diffEntry),
  removed: z.array(diffEntry),
});
export type PriceDiff = z.infer<typeof priceDiff>;

/** Entries of one list of a diff that are shown. */
export const shownDiffEntries = 500;

const priceParams = z.object({ id: z.string().regex(/^price_[0-9a-f]{16}$/, 'must be the id of a price') });
const exampleOverride = {
  model: 'gpt-4o',
  provider: 'openai',
  rates: { input: '2.5', output: '10' },
} as const;

export const listPrices = endpoint({
  id: 'prices.list',
  listener: 'admin',
  method: 'GET',
  path: '/control/v1/prices',
  summary: 'List the prices in effect or stated for later, each once: overrides first, then the price book',
  access: { permission: 'control:read' },
  query: listQuery.extend({
    model: z.string().max(200).optional().describe('Only prices whose model or target holds this text'),
    provider: z.string().max(200).optional().describe('Only prices of this provider'),
    source: z.enum(['package', 'override']).optional(),
  }),
  responses: { 200: { description: 'A page of prices', schema: listOf(price) } },
  errors: ['invalid_request'],
  idempotent: 'yes',
  example: { query: { model: 'gpt-4o' } },
});

export const overridePrice = endpoint({
  id: 'prices.override',
  listener: 'admin',
  method: 'PUT',
  path: '/control/v1/prices/overrides',
  summary: 'State a price for a target or a model; effective within one second',
  access: { permission: 'control:write' },
  body: priceOverride,
  responses: { 200: { description: 'The price as it is now', schema: price } },
  errors: ['invalid_request', 'invalid_text', 'version_conflict'],
  idempotent: 'yes',
  example: { body: exampleOverride },
});

export const removePriceOverride = endpoint({
  id: 'prices.remove_override',
  listener: 'admin',
  method: 'DELETE',
  path: '/control/v1/prices/overrides/{id}',
  summary: 'Take an override back, so that the price book applies again within one second',
  access: { permission: 'control:write' },
  params: priceParams,
  responses: { 200: { description: 'The override as it was', schema: price } },
  errors: ['invalid_request', 'not_found', 'version_conflict'],
  idempotent: 'yes',
  example: { params: { id: 'price_0123456789abcdef' } },
});

export const importPrices = endpoint({
  id: 'prices.import',
  listener: 'admin',
  method: 'POST',
  path: '/control/v1/prices/import',
  summary: 'Take over the installed price data, or a list of overrides, and see what that changes',
  access: { permission: 'control:write' },
  body: z.union([
    z.strictObject({ source: z.literal('package'), dry_run: z.boolean().default(false) }),
    z.strictObject({
      entries: z.array(priceOverride).max(5_000),
      mode: z
        .enum(['merge', 'replace'])
        .default('merge')
        .describe('`replace` also takes back every override that is not in the list'),
      dry_run: z.boolean().default(false),
    }),
  ]),
  responses: { 200: { description: 'What changes, or with `dry_run` what would', schema: priceDiff } },
  errors: ['invalid_request', 'invalid_text', 'conflict', 'idempotency_conflict', 'idempotency_in_progress'],
  idempotent: 'key',
  example: { body: { entries: [exampleOverride], dry_run: true } },
});
