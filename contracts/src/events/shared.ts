import { z } from 'zod';

/**
 * Shapes that events share. Ids in the data are in the form in which Stoa stores them (UUID text); the attributes around
 * the data, as outside consumers get them, are TypeIDs.
 */

export const instant = z.iso.datetime().describe('UTC time, RFC 3339');

/** Integer femto-dollars (1e-15 USD) as decimal digits, because JSON has no integers of that size. */
export const femtoDigits = z
  .string()
  .regex(/^-?\d+$/)
  .describe('Femto-dollars (1e-15 USD), an integer as decimal digits');

/** An amount in the minor unit of its currency (cents), as decimal digits. */
export const minorDigits = z
  .string()
  .regex(/^-?\d+$/)
  .describe("An integer in the currency's minor unit, as decimal digits");

export const eventError = z.object({
  code: z.string().describe('A code of the error table'),
  message: z.string(),
});

/** Under this name the JSON Schema of an open word lists those that are told today. */
export const knownWords = 'x-known-words';

/**
 * A word out of a list that grows: readers pass over words that they don't know. A closed choice is `z.enum`, and can
 * never grow within its version.
 */
export function openWord(words: readonly string[]) {
  return z
    .string()
    .regex(/^[a-z][a-z0-9_]*$/)
    .meta({ [knownWords]: [...words] });
}
