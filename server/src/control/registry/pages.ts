import { AppError, type Page, pageOf } from '#kernel';

/** A page of a list that is in memory as a whole. `after` is the id of the last item seen. */
export function pageAfter<Item extends { readonly id: string }>(
  all: readonly Item[],
  page: { readonly after?: string | undefined; readonly limit: number },
): Page<Item> {
  const { after, limit } = page;
  const index = after === undefined ? -1 : all.findIndex((item) => item.id === after);
  if (after !== undefined && index === -1) {
    throw new AppError('invalid_request', 'after: there is nothing of this id in the list.', {
      param: 'after',
    });
  }
  return pageOf(all.slice(index + 1, index + 2 + limit), limit, (item) => item.id);
}
