import { type AccessModule, createAccess } from '#access';
import { createAudit } from '#audit';
import type { Broadcast } from '#cache';
import type { Route } from '#http';
import type { NamedJob, TimerTask } from '#jobs';
import { createSealer, type HealthPart, type Lifecycle, systemClock } from '#kernel';
import { createPrices, type PricesModule } from '#prices';
import { createRegistry, type RegistryModule } from '#registry';
import { createTenants, type TenantsModule } from '#tenants';
import type { ComposeInput } from './compose.ts';
import { processEnvironment } from './config.ts';
import { developmentMasterKey } from './data-directory.ts';
import type { ModelParts } from './models.ts';
import { applyStoaFile } from './stoa-file.ts';

/** The modules of the control plane, wired to each other. */
export interface ControlPlane {
  readonly access: AccessModule;
  readonly tenants: TenantsModule;
  readonly prices: PricesModule;
  readonly registry: RegistryModule;
  readonly routes: readonly Route[];
  readonly tasks: readonly TimerTask[];
  readonly jobs: readonly NamedJob[];
  /** In the order in which they start. */
  readonly lifecycles: readonly Lifecycle[];
  readonly health: readonly HealthPart[];
}

export function createControlPlane(
  input: ComposeInput,
  models: ModelParts,
  broadcast: Broadcast,
): ControlPlane {
  const { settings, db, telemetry } = input;
  const { logger, metrics } = telemetry;
  const clock = systemClock;
  const sealer = createSealer(settings.masterKey ?? developmentMasterKey(input.directory));
  const prices = createPrices({ db, clock, logger }, { pollEveryMs: settings.snapshotPollMs });
  const access = createAccess(
    { db, clock, logger, metrics, sealer, broadcast },
    {
      pollIntervalMs: settings.snapshotPollMs,
      cachedKeys: settings.keyCacheSize,
      maximumAgeMs: settings.keyStaleMaxMs,
    },
  );
  const tenants = createTenants({
    db,
    clock,
    logger,
    onChanged: (id, version) => access.api.tenantChanged(id, version),
  });
  const priceOf = (target: Parameters<typeof prices.api.describe>[0]) =>
    prices.api.describe(target, clock.now());
  const readEnvironment = (name: string): string | undefined => processEnvironment()[name];
  const { providers } = models;
  const registry = createRegistry(
    { db, providers, sealer, clock, logger, metrics, priceOf, readEnvironment, broadcast },
    { openai: openAiSettings(input), builtIn: models.builtIn, pollEveryMs: settings.snapshotPollMs },
  );
  const audit = createAudit({ db });
  return {
    access,
    tenants,
    prices,
    registry,
    routes: [...tenants.routes, ...access.routes, ...registry.routes, ...prices.routes, ...audit.routes],
    jobs: tenants.jobs,
    tasks: access.tasks.map((task) => ({
      name: task.name,
      everyMs: task.intervalMs,
      run: () => task.run(),
    })),
    lifecycles: [prices.lifecycle, access.lifecycle, fileLifecycle(input, registry), registry.lifecycle],
    health: [access.health, registry.health, prices.health],
  };
}

function openAiSettings({ settings }: ComposeInput): Parameters<typeof createRegistry>[1]['openai'] {
  if (settings.openaiBaseUrl === null) return null;
  return {
    baseUrl: settings.openaiBaseUrl,
    apiKey: settings.openaiApiKey,
    maxConcurrency: settings.openaiMaxConcurrency,
  };
}

/**
 * Applies stoa.yaml (or its absence) before the registry loads its snapshot: in the role `control` only. A gateway that
 * has no file beside it would disable what the file of the control process holds.
 */
function fileLifecycle({ settings, telemetry, roles }: ComposeInput, registry: RegistryModule): Lifecycle {
  return {
    async start() {
      if (roles.has('control')) await applyStoaFile(settings, registry.api, telemetry.logger);
    },
    stop: () => Promise.resolve(),
  };
}
