import {
  importPrices,
  listPrices,
  overridePrice,
  type Price as ShownPrice,
  type PriceDiff,
  removePriceOverride,
} from '@stoa/contracts';
import type { OperatorContext, OperatorHandle } from '#db';
import { creatingOperatorRoute, operatorRoute, type RequestContext, type Route } from '#http';
import { actingOperator, AppError, type OperatorPrincipal, pageOf, versionTag } from '#kernel';
import type { PriceChanges } from './changes.ts';
import type { PriceList } from './price-list.ts';
import { shownPrices } from './shown-price.ts';

export function priceRoutes(
  changes: PriceChanges,
  current: () => PriceList | null,
  nowMs: () => number,
): Route[] {
  return [
    operatorRoute(listPrices, async ({ query }) => {
      const list = current();
      const all = list === null ? [] : shownPrices(list, nowMs()).filter((price) => isWanted(price, query));
      const start = query.after === undefined ? 0 : all.findIndex(({ id }) => id === query.after) + 1;
      if (query.after !== undefined && start === 0) {
        throw new AppError('invalid_request', 'after: must be the id of a price of this list.', {
          param: 'after',
        });
      }
      const found = all.slice(start, start + query.limit + 1);
      return { status: 200, body: pageOf(found, query.limit, ({ id }) => id) };
    }),
    operatorRoute(overridePrice, async ({ body }, principal, context) => {
      const price = await changes.override(by(principal, context), body, context.ifMatch);
      return { status: 200, body: price, headers: versionTag(price.version) };
    }),
    operatorRoute(removePriceOverride, async ({ params }, principal, context) => ({
      status: 200,
      body: await changes.remove(by(principal, context), params.id, context.ifMatch),
    })),
    creatingOperatorRoute(importPrices, async ({ body }, principal, context, keep) => {
      const caller = by(principal, context);
      const answer = (tx: OperatorHandle, diff: PriceDiff) => keep(tx, { status: 200, body: diff });
      if ('source' in body) return changes.importPackage(caller, body.dry_run, answer);
      const options = { mode: body.mode, isDryRun: body.dry_run };
      return changes.importOverrides(caller, body.entries, options, answer);
    }),
  ];
}

interface Filter {
  readonly model?: string | undefined;
  readonly provider?: string | undefined;
  readonly source?: 'package' | 'override' | undefined;
}

function isWanted(price: ShownPrice, filter: Filter): boolean {
  if (filter.source !== undefined && price.source !== filter.source) return false;
  if (filter.provider !== undefined && price.provider !== filter.provider.toLowerCase()) return false;
  if (filter.model === undefined) return true;
  const text = filter.model.toLowerCase();
  return [price.model, price.target].some((name) => name?.toLowerCase().includes(text) === true);
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}
