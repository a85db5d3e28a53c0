/**
 * The family of a type: `request.completed` of `request.completed.v1`. A carrier feeds a consumer every version of the
 * families that it lists: a version that it doesn't know belongs into the dead-letter store, not past it.
 */
export function familyOf(type: string): string {
  const known = families.get(type);
  if (known !== undefined) return known;
  const family = type.replace(/\.v\d+$/, '');
  if (families.size < 1000) families.set(type, family);
  return family;
}

/** It is asked for every event and every consumer. */
const families = new Map<string, string>();

/**
 * Types with one event a key, always of keyversion 1. They have no order, so nothing is kept of how far their keys are:
 * a row for each request would be as large as the log itself.
 */
const toldOnce: ReadonlySet<string> = new Set(['request.completed.v1']);

export function isToldOnce(type: string): boolean {
  return toldOnce.has(type);
}
