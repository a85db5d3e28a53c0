import { modelFileEntry, providerFileEntry, type Settings } from '@stoa/contracts';
import { z } from 'zod';
import { createAccess } from '#access';
import { createAudit } from '#audit';
import type { Database } from '#db';
import { createGateway, type GatewayModule } from '#gateway';
import { type Authenticator, createOutboundClient, type IdempotencyStore, type Route } from '#http';
import { createTimers } from '#jobs';
import { asTenantId, createSealer, fromTypeId, type HealthPart, type Lifecycle, systemClock } from '#kernel';
import { createPrices } from '#prices';
import { createQuotas } from '#quotas';
import { createRegistry, type RegistryModule } from '#registry';
import { createDecider } from '#router';
import type { Telemetry } from '#telemetry';
import { createTenants } from '#tenants';
import { configFilePath, processEnvironment } from './config.ts';
import { loadConfigFile } from './config-file.ts';
import { type DataDirectory, developmentMasterKey } from './data-directory.ts';
import type { FirstStartPort } from './first-start.ts';
import { createModels } from './models.ts';
import type { RoleSet } from './roles.ts';

/** Every module built and wired, by role. Nothing runs until the lifecycles are started, in their order. */
export interface Composition {
  readonly authenticator: Authenticator;
  readonly idempotency: IdempotencyStore;
  readonly publicRoutes: readonly Route[];
  readonly adminRoutes: readonly Route[];
  readonly lifecycles: readonly Lifecycle[];
  readonly health: readonly HealthPart[];
  readonly gateway: GatewayModule;
  readonly firstStart: FirstStartPort;
  /** What answers `auto` now, for people. */
  describeAuto(): string;
  /** Closes what no lifecycle owns: clients, engines, the database. */
  close(): Promise<void>;
}

export interface ComposeInput {
  readonly settings: Settings;
  readonly directory: DataDirectory;
  readonly db: Database;
  readonly telemetry: Telemetry;
  readonly roles: RoleSet;
  readonly rootDirectory: string;
}

const setUp = { operator: 'system:set-up' };

const fileShape = z.strictObject({
  providers: z.array(providerFileEntry).default([]),
  models: z.array(modelFileEntry).default([]),
});

export async function compose(input: ComposeInput): Promise<Composition> {
  const { settings, directory, db, telemetry, roles } = input;
  const { logger, metrics, tracer } = telemetry;
  const clock = systemClock;
  const outbound = createOutboundClient();
  const sealer = createSealer(settings.masterKey ?? developmentMasterKey(directory));
  const models = await createModels({ outbound, clock, logger }, settings, input.rootDirectory);
  const prices = createPrices({ db, clock, logger }, { pollEveryMs: settings.snapshotPollMs });
  const access = createAccess(
    { db, clock, logger, metrics, sealer },
    {
      pollIntervalMs: settings.snapshotPollMs,
      cachedKeys: settings.keyCacheSize,
      maximumAgeMs: settings.keyStaleMaxMs,
    },
  );
  const tenants = createTenants({ db, clock, logger, onChanged: (id) => access.api.tenantChanged(id) });
  const registry = createRegistry(
    {
      db,
      providers: models.providers,
      sealer,
      clock,
      logger,
      metrics,
      priceOf: (target) => prices.api.describe(target, clock.now()),
      readEnvironment: (name) => processEnvironment()[name],
    },
    {
      openai:
        settings.openaiBaseUrl === null
          ? null
          : {
              baseUrl: settings.openaiBaseUrl,
              apiKey: settings.openaiApiKey,
              maxConcurrency: settings.openaiMaxConcurrency,
            },
      builtIn: models.builtIn,
      pollEveryMs: settings.snapshotPollMs,
    },
  );
  const gateway = createGateway(
    {
      db,
      providers: models.providers,
      registry: registry.api,
      prices: prices.api,
      quotas: createQuotas().api,
      decider: createDecider(),
      clock,
      logger,
      metrics,
      tracer,
      random: Math.random,
    },
    {
      journal: {
        directory: settings.journalDir ?? directory.journalPath,
        maxBytes: settings.journalMaxBytes,
        segmentBytes: settings.journalSegmentBytes,
        durability: settings.meteringDurability,
      },
      settlement: { maxDelayMs: settings.journalShipIntervalMs },
      retention: { eventDays: settings.retentionEventsDays, usageMonths: settings.retentionUsageMonths },
    },
  );
  const audit = createAudit({ db });
  const routes = [
    ...tenants.routes,
    ...access.routes,
    ...registry.routes,
    ...prices.routes,
    ...audit.routes,
    ...gateway.routes,
  ];
  const timers = createTimers({ db, clock, logger }, [
    ...[...tenants.tasks, ...access.tasks].map(({ name, intervalMs, run }) => ({
      name,
      everyMs: intervalMs,
      run,
    })),
    ...gateway.tasks,
  ]);
  return {
    authenticator: access.authenticator,
    idempotency: access.idempotency,
    publicRoutes: routes.filter(({ endpoint }) => endpoint.listener === 'public' && roles.has('gateway')),
    adminRoutes: routes.filter(({ endpoint }) => endpoint.listener === 'admin' && roles.has('control')),
    lifecycles: [
      prices.lifecycle,
      access.lifecycle,
      fileLifecycle(input, registry),
      registry.lifecycle,
      gateway.lifecycle,
      ...(roles.has('control') ? [timers] : []),
    ],
    health: [access.health, registry.health, prices.health, ...gateway.health],
    gateway,
    firstStart: {
      checkOperatorKey: async (key) => void (await access.authenticator.operator(`Bearer ${key}`)),
      checkTenantKey: async (key) => void (await access.authenticator.tenant(`Bearer ${key}`)),
      createOperatorKey: async (name) => (await access.api.createOperatorKey(setUp, { name })).key,
      async createTenant(name) {
        const tenant = await tenants.api.create(setUp, name);
        return fromTypeId('ten', tenant.id) ?? '';
      },
      createAdminKey: async (tenantId, name) =>
        (await access.api.createTenantKey(setUp, asTenantId(tenantId), { name, role: 'admin' })).key,
    },
    describeAuto: () => describeAuto(registry),
    async close() {
      await models.close();
      await outbound.close();
      await db.close();
    },
  };
}

/** Applies stoa.yaml (or its absence) before the registry loads its snapshot. */
function fileLifecycle({ settings, telemetry }: ComposeInput, registry: RegistryModule): Lifecycle {
  return {
    async start() {
      const file = loadConfigFile({ ...configFilePath(settings), schema: fileShape });
      const report = await registry.api.apply(file ?? { providers: [], models: [] });
      if (report.added + report.changed + report.disabled > 0)
        telemetry.logger.info(report, 'the configuration file was applied');
    },
    stop: () => Promise.resolve(),
  };
}

function describeAuto(registry: RegistryModule): string {
  const [first] = registry.api.snapshot().chatOrder;
  if (!first) return 'nothing: no chat model is enabled';
  const where =
    first.provider.baseUrl === '' ? 'in this process' : `at ${new URL(first.provider.baseUrl).host}`;
  return first.isGenerative
    ? `${first.id} (${where})`
    : `${first.id}, which quotes documents and does not generate (${where})`;
}
