import { z } from 'zod';

/**
 * Values that JSON has no form for, as codecs: a schema made of them reads and writes the wire by itself, so that what a
 * method takes and gives is the same whether the call was local or went over HTTP. `defineServiceApi` refuses schemas
 * whose wire side is not JSON (a bare `z.bigint()`, `z.date()`, `z.undefined()`), so nothing is lost by forgetting one.
 */

/** A bigint as decimal text, at most 1,000 digits. */
export const wireBigint = z.codec(z.string().regex(/^(?:0|-?[1-9]\d{0,999})$/), z.bigint(), {
  decode: (text) => BigInt(text),
  encode: (value) => value.toString(),
});

/** A Date as whole milliseconds since the Unix epoch, UTC: the one form that is exact over the whole range of a Date. */
export const wireDate = z.codec(z.int(), z.date(), {
  decode: (milliseconds) => new Date(milliseconds),
  encode: (date) => date.getTime(),
});

/** Bytes as base64; a third larger on the wire. A Buffer comes out as a plain Uint8Array. */
export const wireBytes = z.codec(z.base64(), z.instanceof(Uint8Array), {
  decode: (text) => z.util.base64ToUint8Array(text),
  encode: (bytes) => z.util.uint8ArrayToBase64(bytes),
});

/** For a method without input, or without an answer: `undefined` as null. */
export const wireNothing = z.codec(z.null(), z.undefined(), {
  decode: () => undefined,
  encode: () => null,
});

/**
 * A value that may be undefined where JSON would drop it or turn it into null (an element of a list, a whole answer): a
 * list of none or one on the wire. Members of an object need no more than `.optional()`: there undefined is the same as
 * left out, and comes back left out.
 */
export function wireUndefinable<Inner extends z.ZodType>(
  inner: Inner,
): z.ZodCodec<z.ZodArray<Inner>, z.ZodType<z.output<Inner> | undefined, z.output<Inner> | undefined>> {
  return z.codec(z.array(inner).max(1), z.custom<z.output<Inner> | undefined>(), {
    decode: ([value]) => value,
    encode: (value) => (value === undefined ? [] : [value]),
  });
}
