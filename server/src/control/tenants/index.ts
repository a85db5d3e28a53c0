import type { Database } from '#db';
import type { Route } from '#http';
import type { NamedJob } from '#jobs';
import type { Clock, Logger, TenantId } from '#kernel';
import { tenantRoutes } from './http.ts';
import { purgeJob } from './jobs.ts';
import { purgeTenants } from './purge.ts';
import { createTenantStore } from './tenants.ts';
import type { TenantsApi } from './types.ts';

export type * from './types.ts';

export interface TenantsDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  /**
   * Told after the commit of every change of a tenant (name, state) with its new version, before the answer goes out; for
   * what is cached, here and elsewhere. Must not reject; whoever is not reached learns of the change from the table.
   */
  readonly onChanged: (tenantId: TenantId, version: number) => Promise<void>;
}

export interface TenantsModule {
  readonly api: TenantsApi;
  /** For the admin listener. */
  readonly routes: Route[];
  readonly jobs: readonly NamedJob[];
}

/** The tenants: who is served, who is suspended, who is gone. See README.md. */
export function createTenants(deps: TenantsDeps): TenantsModule {
  const { db, clock, logger } = deps;
  const store = createTenantStore(deps);
  const api: TenantsApi = {
    ...store,
    create: (by, name) => store.create(by, name, async (_tx, tenant) => tenant),
    purge: () => purgeTenants({ db, clock, logger }),
  };
  return {
    api,
    routes: tenantRoutes(store),
    jobs: [purgeJob(api)],
  };
}
