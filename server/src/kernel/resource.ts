import { AppError } from './error.ts';

/**
 * What control resources share on the wire: pages, and a version that a change may insist on.
 */
export interface Page<Item> {
  readonly object: 'list';
  readonly data: readonly Item[];
  readonly has_more: boolean;
  readonly first_id: string | null;
  readonly last_id: string | null;
}

/**
 * The page that a query for `limit + 1` items makes: one item too many says that there is more.
 * @param found the items in the list's order, at most `limit + 1` of them
 */
export function pageOf<Item>(
  found: readonly Item[],
  limit: number,
  idOf: (item: Item) => string,
): Page<Item> {
  const data = found.slice(0, limit);
  const first = data.at(0);
  const last = data.at(-1);
  return {
    object: 'list',
    data,
    has_more: found.length > limit,
    first_id: first === undefined ? null : idOf(first),
    last_id: last === undefined ? null : idOf(last),
  };
}

const entityTags = /^\s*(?:(?:W\/)?"\d{1,15}"|\d{1,15})\s*(?:,\s*(?:(?:W\/)?"\d{1,15}"|\d{1,15})\s*)*$/;

/**
 * Holds a change to the version that its caller read. `If-Match` is `*`, or a version with or without quotes, or a list
 * of them; null means that the caller doesn't insist.
 * @throws AppError `version_conflict` where none of them is `version`; `invalid_request` where it can't be read
 */
export function requireVersion(ifMatch: string | null, version: number): void {
  if (ifMatch === null || ifMatch.trim() === '*') return;
  if (!entityTags.test(ifMatch)) {
    throw new AppError(
      'invalid_request',
      'If-Match must hold the version of the resource, such as If-Match: "3".',
      { param: 'If-Match' },
    );
  }
  const versions = ifMatch.match(/\d+/g) ?? [];
  if (versions.some((text) => Number(text) === version)) return;
  throw new AppError(
    'version_conflict',
    `The resource is at version ${version}; it was changed since you read it.`,
  );
}

/** The header that names a resource's version. */
export function versionTag(version: number): { readonly etag: string } {
  return { etag: `"${version}"` };
}
