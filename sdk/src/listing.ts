/** One page as the API answers it. */
export interface Page<Item> {
  readonly object: 'list';
  readonly data: Item[];
  readonly has_more: boolean;
  readonly first_id: string | null;
  readonly last_id: string | null;
}

/** A list that is read when it is asked: one page, or item by item through all pages. */
export interface Listing<OnePage extends Page<unknown>> extends AsyncIterable<OnePage['data'][number]> {
  /** The first page, at or after the `after` of the query. */
  page(): Promise<OnePage>;
  /** All pages from there on, each fetched when the one before was taken. */
  pages(): AsyncIterable<OnePage>;
}

/**
 * @param fetchPage reads one page; `after` is the `last_id` of the page before, undefined for the first
 */
export function createListing<OnePage extends Page<unknown>>(
  fetchPage: (after: string | undefined) => Promise<OnePage>,
): Listing<OnePage> {
  async function* pages(): AsyncGenerator<OnePage> {
    let after: string | undefined;
    for (;;) {
      const page = await fetchPage(after);
      yield page;
      // A page without an end would be asked for again and again.
      if (!page.has_more || page.last_id === null || page.last_id === after) return;
      after = page.last_id;
    }
  }
  return {
    page: () => fetchPage(undefined),
    pages,
    async *[Symbol.asyncIterator]() {
      for await (const page of pages()) yield* page.data;
    },
  };
}

/** The query of the page that follows `after`; that of the first page where it is undefined. */
export function following<Query extends object>(query: Query, after: string | undefined): Query {
  return after === undefined ? query : { ...query, after };
}
