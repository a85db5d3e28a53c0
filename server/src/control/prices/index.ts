import type { Database, MigrationSet } from '#db';
import type { Route } from '#http';
import type { Clock, HealthPart, Lifecycle, Logger } from '#kernel';
import { createPricesApi } from './api.ts';
import { createPriceChanges } from './changes.ts';
import { priceRoutes } from './http.ts';
import { createPriceState } from './state.ts';
import type { PricesApi } from './types.ts';

export type * from './types.ts';

export interface PricesDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface PricesSettings {
  /** How often the database is asked for changes. Milliseconds; default 1,000. */
  readonly pollEveryMs?: number;
}

export interface PricesModule {
  /** Prices nothing before `lifecycle.start()`. */
  readonly api: PricesApi;
  /** For the admin listener. */
  readonly routes: Route[];
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
  readonly migrations: MigrationSet;
}

/** The SQL files of this module; they refer to no other's tables. */
export const pricesMigrations: MigrationSet = {
  module: 'control/prices',
  directory: new URL('./migrations/', import.meta.url),
};

/** The price book: what tokens cost, exactly. See README.md. */
export function createPrices(deps: PricesDeps, settings: PricesSettings = {}): PricesModule {
  const state = createPriceState(deps, settings.pollEveryMs ?? 1_000);
  const current = () => state.current();
  // A commit stands even where reading it back fails: the poll brings it a moment later.
  const onChanged = (): Promise<void> =>
    state.reload('always').catch((error: unknown) => {
      deps.logger.warn({ error }, 'a change of prices could not be read back yet');
    });
  const changes = createPriceChanges({ ...deps, current, onChanged });
  return {
    api: createPricesApi(current, () => deps.clock.now()),
    routes: priceRoutes(changes, current, () => deps.clock.now()),
    lifecycle: state.lifecycle,
    health: state.health,
    migrations: pricesMigrations,
  };
}
