import { type AccessDeps, type AccessModule, createAccess } from '#access';
import { type AuditModule, createAudit } from '#audit';
import type { Broadcast } from '#cache';
import type { EventConsumer } from '#events';
import type { GuardedClient, Route } from '#http';
import type { JobsApi, NamedJob, TimerTask } from '#jobs';
import { createSealer, type HealthPart, type Lifecycle, type Sealer, systemClock } from '#kernel';
import { createPrices, type PricesModule } from '#prices';
import type { QuotasModule } from '#quotas';
import { createRegistry, type RegistryModule } from '#registry';
import { createTenants, type TenantsModule } from '#tenants';
import { createWebhooks, type WebhooksModule } from '#webhooks';
import type { ComposeInput } from './compose.ts';
import { processEnvironment } from './config.ts';
import { developmentMasterKey } from './data-directory.ts';
import type { ModelParts } from './models.ts';
import { applyStoaFile } from './stoa-file.ts';

/** The modules of the control plane, wired to each other. */
export interface ControlPlane {
  readonly access: AccessModule;
  readonly audit: AuditModule;
  readonly tenants: TenantsModule;
  readonly prices: PricesModule;
  readonly registry: RegistryModule;
  readonly routes: readonly Route[];
  readonly tasks: readonly TimerTask[];
  readonly jobs: readonly NamedJob[];
  /** Of events; for processes that run the role `control`. */
  readonly consumers: readonly EventConsumer[];
  /** In the order in which they start. */
  readonly lifecycles: readonly Lifecycle[];
  readonly health: readonly HealthPart[];
}

export interface ControlPlanePorts {
  readonly broadcast: Broadcast;
  readonly guarded: GuardedClient;
  readonly quotas: Pick<QuotasModule, 'unknownKeys' | 'hasKeyLimits'>;
  readonly jobs: () => JobsApi;
}

export function createControlPlane(
  input: ComposeInput,
  models: ModelParts,
  { broadcast, guarded, quotas, jobs }: ControlPlanePorts,
): ControlPlane {
  const { settings, db, telemetry } = input;
  const { logger, metrics } = telemetry;
  const clock = systemClock;
  const sealer = createSealer(settings.masterKey ?? developmentMasterKey(input.directory));
  const prices = createPrices({ db, clock, logger }, { pollEveryMs: settings.snapshotPollMs });
  const audit = createAudit({ db, logger, metrics }, { retentionMonths: settings.retentionAuditMonths });
  const access = accessOf(input, {
    sealer,
    broadcast,
    outbound: guarded,
    unknownCredentials: quotas.unknownKeys,
    hasKeyLimits: quotas.hasKeyLimits,
    onKnownRefused: (refused) => audit.api.refused(refused),
  });
  const tenants = createTenants({
    db,
    clock,
    logger,
    onChanged: (id, version) => access.api.tenantChanged(id, version),
  });
  const priceOf = (target: Parameters<typeof prices.api.describe>[0]) =>
    prices.api.describe(target, clock.now());
  const readEnvironment = (name: string): string | undefined => processEnvironment()[name];
  const registry = createRegistry(
    { db, providers: models.providers, sealer, clock, logger, metrics, priceOf, readEnvironment, broadcast },
    { openai: openAiSettings(input), builtIn: models.builtIn, pollEveryMs: settings.snapshotPollMs },
  );
  const webhooks = webhooksOf(input, { sealer, guarded, jobs });
  return {
    access,
    audit,
    tenants,
    prices,
    registry,
    routes: [tenants, access, registry, prices, audit, webhooks].flatMap((part) => part.routes),
    consumers: webhooks.consumers,
    jobs: [...tenants.jobs, ...webhooks.jobs],
    tasks: [...access.tasks, ...audit.tasks],
    lifecycles: [
      audit.lifecycle,
      prices.lifecycle,
      access.lifecycle,
      fileLifecycle(input, registry),
      registry.lifecycle,
    ],
    health: [...access.health, registry.health, prices.health],
  };
}

function accessOf(
  input: ComposeInput,
  ports: Required<
    Pick<
      AccessDeps,
      'sealer' | 'broadcast' | 'outbound' | 'unknownCredentials' | 'hasKeyLimits' | 'onKnownRefused'
    >
  >,
): AccessModule {
  const { settings, db, telemetry } = input;
  const { logger, metrics } = telemetry;
  return createAccess(
    { ...ports, db, clock: systemClock, logger, metrics },
    {
      issuer: tokenIssuer(input, ports.sealer),
      pollIntervalMs: settings.snapshotPollMs,
      cachedKeys: settings.keyCacheSize,
      maximumAgeMs: settings.keyStaleMaxMs,
    },
  );
}

function webhooksOf(
  { db, telemetry: { logger, metrics } }: ComposeInput,
  ports: Pick<Parameters<typeof createWebhooks>[0], 'sealer' | 'guarded' | 'jobs'>,
): WebhooksModule {
  return createWebhooks({ ...ports, db, clock: systemClock, logger, metrics, random: Math.random });
}

/**
 * What tokens name as their issuer and audience: the setting, else the address that tenants reach Stoa under. Without
 * either it is the listener's where this process is alone with its database; several processes have listeners of their own
 * and must agree on one text, so there it is a name that the master key gives.
 */
function tokenIssuer({ settings, db, listeningUrl }: ComposeInput, sealer: Sealer): () => string {
  const stated = settings.tokenIssuer ?? settings.publicUrl;
  const name = `urn:stoa:${sealer.keyId}`;
  if (stated !== null) return () => stated;
  return db.adapter === 'postgres' ? () => name : () => listeningUrl?.() ?? name;
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
