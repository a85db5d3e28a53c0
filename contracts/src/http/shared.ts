import { z } from 'zod';

/** UTC, RFC 3339, milliseconds. */
export const timestamp = z.iso.datetime().describe('UTC time, RFC 3339');

/** A TypeID: a prefix, `_`, and 26 characters of base32 over a UUIDv7. */
export function typeId(prefix: string): z.ZodString {
  return z
    .string()
    .regex(new RegExp(`^${prefix}_[0-7][0-9a-hjkmnp-tv-z]{25}$`), `must be an id of the form ${prefix}_...`);
}

/** Text that every store takes and gives back byte for byte: no NUL, no lone surrogate. Length in code points. */
export function storableText(options: { min?: number; max: number }): z.ZodString {
  return z
    .string()
    .min(options.min ?? 0)
    .max(options.max)
    .refine(isStorable, {
      message: 'must not hold NUL characters or lone surrogates',
      params: { code: 'invalid_text' },
    });
}

/** Whether text can be stored and returned byte for byte. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\u0000');
}

/** The query of every list: newest first unless the endpoint says otherwise. */
export const listQuery = z.object({
  after: z.string().max(200).optional().describe('The `last_id` of the page before'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
});

/** The shape of every list. */
export function listOf<Item extends z.ZodType>(item: Item) {
  return z.object({
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  });
}

/** An exact amount of money in USD as a decimal string, up to 15 places. */
export const decimalAmount = z
  .string()
  .regex(/^-?\d+(\.\d+)?$/)
  .describe('Exact decimal amount in USD');

/** Up to 16 labels of a request or key. */
export const tags = z.preprocess(
  (value, context) => {
    // The record below would drop it without a word, and what was sent must come back or be refused.
    if (typeof value === 'object' && value !== null && Object.hasOwn(value, '__proto__'))
      context.addIssue({ code: 'custom', message: 'no tag can be named __proto__', input: value });
    return value;
  },
  z
    .record(storableText({ min: 1, max: 64 }), storableText({ max: 512 }))
    .refine((value) => Object.keys(value).length <= 16, { message: 'at most 16 tags' }),
);
