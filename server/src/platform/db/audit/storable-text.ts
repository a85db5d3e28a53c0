/**
 * The beginning of a text as PostgreSQL can hold it: without NUL and lone surrogates, of which the cut may leave one. What
 * callers name (a token's id, a user agent) goes through here, so that no entry, and none beside it, fails for one.
 */
export function storableText(text: string, characters: number): string {
  return text.slice(0, characters).toWellFormed().replaceAll('\0', '\uFFFD');
}
