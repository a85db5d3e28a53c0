/** One change of a body: `[start, end)` gives way to `text`. */
export interface Splice {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/**
 * The body with changes made and every other byte as it was. Without a change the body itself comes back, not a copy.
 * @param splices must not overlap
 */
export function spliceBody(body: Buffer, splices: readonly Splice[]): Buffer {
  if (splices.length === 0) return body;
  const ordered =
    splices.length === 1 ? splices : splices.toSorted((left, right) => left.start - right.start);
  let length = body.length;
  for (const { start, end, text } of ordered) length += Buffer.byteLength(text) - (end - start);
  const result = Buffer.allocUnsafe(length);
  let from = 0;
  let to = 0;
  for (const { start, end, text } of ordered) {
    to += body.copy(result, to, from, start);
    to += result.write(text, to);
    from = end;
  }
  body.copy(result, to, from);
  return result;
}
