import type { Broadcast } from '#cache';
import type { Database, MigrationSet } from '#db';
import type { Route } from '#http';
import type { Clock, HealthPart, Lifecycle, Logger, Sealer } from '#kernel';
import type { ModelProviders } from '#models';
import type { MetricRegistry } from '#telemetry';
import type { UsableProvider } from './catalog.ts';
import { hearRegistryChanges, tellPolicyChange, tellRegistryChange } from './change-push.ts';
import { engineConnection, settingsProvider } from './connections.ts';
import { applySections } from './file-sections.ts';
import { registryRoutes } from './http.ts';
import { registryMetrics } from './metrics.ts';
import { createModelStore, type PriceOf } from './models.ts';
import { createPolicyStore, type PolicyStore } from './policies.ts';
import { createProviderStore } from './providers.ts';
import { createRegistryState, type RegistryState, type RegistryStateSettings } from './state.ts';
import type { RegistryApi } from './types.ts';

export { registryMetrics } from './metrics.ts';
export { sectionFaults } from './file-sections.ts';
export type * from './types.ts';
export type { OpenAiSettings } from './connections.ts';
export type { PriceOf } from './models.ts';

export interface RegistryDeps {
  readonly db: Database;
  /** The engines by kind; those with `listModels` are asked for their models. */
  readonly providers: ModelProviders;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly priceOf: PriceOf;
  /** The value of an environment variable, for `api_key_env` of stoa.yaml. */
  readonly readEnvironment: (name: string) => string | undefined;
  /** Between processes. Without one they hear of each other's changes by the poll alone. */
  readonly broadcast?: Broadcast;
}

export interface RegistrySettings extends RegistryStateSettings {
  /** How long `start` waits for the first lists of models. Milliseconds; default 2,000. */
  readonly firstListingWaitMs?: number;
  /** How often the database is asked for changes. Milliseconds; default 1,000. */
  readonly pollEveryMs?: number;
}

export interface RegistryModule {
  readonly api: RegistryApi;
  /** For both listeners; each endpoint says which. */
  readonly routes: Route[];
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
  readonly migrations: MigrationSet;
}

/** The SQL files of this module; after those of control/tenants. */
export const registryMigrations: MigrationSet = {
  module: 'control/registry',
  directory: new URL('./migrations/', import.meta.url),
};

/** Providers, models, and which of them `auto` uses. See README.md. */
export function createRegistry(deps: RegistryDeps, settings: RegistrySettings): RegistryModule {
  const state = createRegistryState(deps, settings);
  const reload = (): Promise<void> => reloadAndTell(deps, state);
  const policies = createPolicyStore({
    db: deps.db,
    monotonicMs: () => deps.clock.monotonic(),
    catalog: () => state.catalog(),
    onOperatorOrder: reload,
    onTenantPolicy: (tenantId, version) => tellPolicyChange(deps.broadcast, tenantId, version),
  });
  const statusOf = (uuid: string) => state.discovery.statusOf(uuid);
  const providers = createProviderStore({
    ...deps,
    fixed: fixedProviders(settings),
    statusOf,
    firstStatusOf: (provider) => state.discovery.firstStatusOf(provider),
    onChanged: reload,
  });
  const models = createModelStore({
    ...deps,
    catalog: () => state.catalog(),
    catalogWith: (rows) => state.catalogWith(rows),
    onChanged: reload,
  });
  const api: RegistryApi = {
    snapshot: () => state.snapshot(),
    async refresh(id) {
      const known = state.snapshot().byId.get(id);
      if (known) return known;
      await state.discovery.refresh();
      return state.snapshot().byId.get(id) ?? null;
    },
    policyFor: (tenantId) => policies.policyFor(tenantId),
    async apply(sections) {
      const report = await applySections(deps, sections);
      await reloadAndTell(deps, state);
      return report;
    },
  };
  const poller = createPoller(deps, state, policies, settings.pollEveryMs ?? 1000);
  deps.metrics.observedGauge(registryMetrics.targets, () => countTargets(api));
  deps.metrics.observedGauge(registryMetrics.listingFailures, () => state.discovery.failures);

  return {
    api,
    routes: registryRoutes({ api, providers, models, policies, priceOf: deps.priceOf }),
    migrations: registryMigrations,
    health: { name: 'registry', isHealthy: () => poller.isHealthy() },
    lifecycle: createLifecycle(deps, { state, policies, poller }, settings.firstListingWaitMs ?? 2000),
  };
}

/** After a commit: this process reads it, and the others are told, also where this one couldn't read. */
async function reloadAndTell({ broadcast }: RegistryDeps, state: RegistryState): Promise<void> {
  try {
    await state.reload('always');
  } catch (error) {
    tellRegistryChange(broadcast, Number.MAX_SAFE_INTEGER);
    throw error;
  }
  tellRegistryChange(broadcast, Number(state.revision()));
}

function createLifecycle(
  { broadcast, logger }: RegistryDeps,
  parts: {
    readonly state: RegistryState;
    readonly policies: PolicyStore;
    readonly poller: ReturnType<typeof createPoller>;
  },
  firstListingWaitMs: number,
): Lifecycle {
  const { state, policies, poller } = parts;
  let stopHearing: (() => Promise<void>) | undefined;
  return {
    async start() {
      await state.reload('always');
      poller.start();
      if (broadcast) stopHearing ??= hearRegistryChanges({ broadcast, logger }, state, policies);
      await state.discovery.settled(firstListingWaitMs);
    },
    async stop() {
      await stopHearing?.();
      stopHearing = undefined;
      await poller.stop();
      await state.discovery.stop();
    },
  };
}

function fixedProviders(settings: RegistrySettings): UsableProvider[] {
  const engines = new Set(settings.builtIn.map((model) => model.provider));
  return [
    ...(settings.openai ? [settingsProvider(settings.openai)] : []),
    ...[...engines].map((kind): UsableProvider => {
      const connection = engineConnection(kind);
      return { uuid: connection.credentialId, connection, source: 'built-in', discover: false };
    }),
  ];
}

function countTargets(api: RegistryApi) {
  const counts = new Map<string, { value: number; labels: { kind: string; source: string } }>();
  for (const { kind, source } of api.snapshot().byId.values()) {
    const entry = counts.get(`${kind} ${source}`) ?? { value: 0, labels: { kind, source } };
    entry.value++;
    counts.set(`${kind} ${source}`, entry);
  }
  return [...counts.values()];
}

/** Looks for changes of other processes, again and again; a failure is counted and the next look comes as planned. */
function createPoller(deps: RegistryDeps, state: RegistryState, policies: PolicyStore, everyMs: number) {
  const failures = deps.metrics.counter(registryMetrics.pollFailures);
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();
  let isStopped = true;
  let failedInRow = 0;

  const look = async (): Promise<void> => {
    try {
      await state.reload('if-changed');
      await policies.poll();
      failedInRow = 0;
    } catch (error) {
      failures.add(1);
      failedInRow++;
      if (failedInRow === 1) deps.logger.warn({ error }, 'changes of providers and models cannot be read');
    }
    plan();
  };
  const plan = (): void => {
    if (isStopped) return;
    timer = setTimeout(() => {
      running = look();
    }, everyMs);
    timer.unref();
  };
  return {
    isHealthy: () => failedInRow < 3,
    start() {
      isStopped = false;
      plan();
    },
    async stop() {
      isStopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
