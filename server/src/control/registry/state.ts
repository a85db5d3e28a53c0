import type { Database, SystemHandle } from '#db';
import type { Clock, Logger, Sealer } from '#kernel';
import type { ModelProviders, Target } from '#models';
import { buildCatalog, type Catalog, defaultDeadlines, type UsableProvider } from './catalog.ts';
import { createConnectionCache, engineTarget, type OpenAiSettings, settingsProvider } from './connections.ts';
import { createDiscovery, type Discovery } from './discovery.ts';
import { parseTargets } from './policies.ts';
import { selectModels, selectProviders, selectState, type StateRow } from './registry.sql.ts';
import type { RegistryRows } from './rows.ts';
import type { TargetSnapshot } from './types.ts';

/** What this process knows: the rows as they were last read, the lists of providers, and the targets made of both. */
export interface RegistryState {
  readonly discovery: Discovery;
  catalog(): Catalog;
  /** The catalog as these rows would make it; changes nothing of what this process knows. */
  catalogWith(rows: Pick<RegistryRows, 'providers' | 'models'>): Catalog;
  snapshot(): TargetSnapshot;
  /** Of the rows as they were last read; -1 before that. */
  revision(): bigint;
  /** Reads the tables where their revision is another than the one known, or always. */
  reload(when: 'if-changed' | 'always'): Promise<void>;
}

export interface RegistryStateDeps {
  readonly db: Database;
  readonly providers: ModelProviders;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface RegistryStateSettings {
  readonly openai: OpenAiSettings | null;
  /** The targets of engines inside this process. Default: `extractive`. */
  readonly builtIn: readonly {
    readonly provider: 'extractive' | 'scripted';
    readonly id: string;
    readonly kind: Target['kind'];
  }[];
}

const nothing: RegistryRows = { revision: -1n, defaultOrder: [], providers: [], models: [] };

export function createRegistryState(deps: RegistryStateDeps, settings: RegistryStateSettings): RegistryState {
  const connections = createConnectionCache(deps);
  const configured = settings.openai ? [settingsProvider(settings.openai)] : [];
  const builtIn = settings.builtIn.map((model) => engineTarget(model.provider, model, defaultDeadlines));
  const warned = new Set<string>();
  let rows = nothing;
  let usable: readonly UsableProvider[] = configured;
  let catalog = buildCatalog({ providers: [], models: [], listingOf: () => [], builtIn, defaultOrder: [] });
  let snapshot = snapshotOf(catalog, 0);
  let reloading: Promise<void> = Promise.resolve();

  const build = (providers: readonly UsableProvider[], models: RegistryRows['models']): Catalog =>
    buildCatalog({
      providers,
      models,
      listingOf: (uuid) => discovery.statusOf(uuid).models,
      builtIn,
      defaultOrder: rows.defaultOrder,
    });
  const usableOf = (stored: RegistryRows['providers']) => [...configured, ...connections.usable(stored)];
  const rebuild = (): void => {
    catalog = build(usable, rows.models);
    snapshot = snapshotOf(catalog, snapshot.version + 1);
    for (const warning of catalog.warnings) {
      if (!warned.has(warning) && warned.size < 1000) deps.logger.warn({}, warning);
      warned.add(warning);
    }
  };
  const discovery = createDiscovery({ ...deps, onChanged: rebuild });

  const reload = async (when: 'if-changed' | 'always'): Promise<void> => {
    const read = await deps.db.withSystem('registry', async (tx) => {
      // The revision first: rows that are newer than it are only read again.
      const state = await selectState(tx);
      if (when === 'if-changed' && state.revision === rows.revision) return null;
      return readRows(tx, state);
    });
    if (!read || read.revision < rows.revision) return;
    rows = read;
    usable = usableOf(rows.providers);
    discovery.follow(usable);
    rebuild();
  };

  return {
    discovery,
    catalog: () => catalog,
    catalogWith: ({ providers, models }) => build(usableOf(providers), models),
    snapshot: () => snapshot,
    revision: () => rows.revision,
    reload(when) {
      const next = reloading.then(
        () => reload(when),
        () => reload(when),
      );
      reloading = next;
      return next;
    },
  };
}

async function readRows(tx: SystemHandle, state: StateRow): Promise<RegistryRows> {
  return {
    revision: state.revision,
    defaultOrder: parseTargets(state.default_order),
    providers: await selectProviders(tx),
    models: await selectModels(tx),
  };
}

function snapshotOf(catalog: Catalog, version: number): TargetSnapshot {
  const byId = new Map([...catalog.entries].map(([id, entry]) => [id, entry.target]));
  return { version, byId, chatOrder: catalog.chatOrder };
}
