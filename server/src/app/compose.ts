import type { Settings } from '@stoa/contracts';
import { createCache } from '#cache';
import { type Database, observeDatabase, processRetention } from '#db';
import { createEventLog, createEvents, type EventLog, type EventsModule } from '#events';
import { createGateway, type GatewayModule } from '#gateway';
import {
  type Authenticator,
  createGuardedClient,
  createOutboundClient,
  creatingOperatorRoute,
  type Denied,
  type GuardedClient,
  type IdempotencyStore,
  operatorRoute,
  readOutboundAllowances,
  type RequestLimiter,
  type Route,
  tenantRoute,
} from '#http';
import { createJobs, createTimers, type JobsModule, observeTimers, type TimerTask } from '#jobs';
import { asTenantId, fromTypeId, type HealthPart, type Lifecycle, systemClock } from '#kernel';
import type { ProviderKind } from '#models';
import type { QuotasModule } from '#quotas';
import type { RegistryModule } from '#registry';
import { createDecider } from '#router';
import type { Telemetry } from '#telemetry';
import { type Cluster, createCluster } from './cluster.ts';
import { type ControlPlane, createControlPlane } from './control-plane.ts';
import type { DataDirectory } from './data-directory.ts';
import type { FirstStartPort } from './first-start.ts';
import { composeQuotas } from './limits.ts';
import { createModels, type ModelParts } from './models.ts';
import { composeNats } from './nats.ts';
import { roleOfPath, type RoleSet, roleTable } from './roles.ts';

/** Every module built and wired, by role. Nothing runs until the lifecycles are started, in their order. */
export interface Composition {
  readonly authenticator: Authenticator;
  readonly idempotency: IdempotencyStore;
  readonly limiter: RequestLimiter;
  /** For the edge: what is denied to somebody known. */
  readonly onDenied: (denied: Denied) => void;
  readonly publicRoutes: readonly Route[];
  readonly adminRoutes: readonly Route[];
  readonly cluster: Cluster;
  readonly lifecycles: readonly Lifecycle[];
  /** What one process at a time does, by timers among the lifecycles. */
  readonly leaderTasks: readonly TimerTask[];
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
  /** Where tenants reach this process; null until it listens. */
  readonly listeningUrl?: () => string | null;
}

export async function compose(input: ComposeInput): Promise<Composition> {
  const eventLog = composeEventLog(input);
  return composeModules({ ...input, db: eventLog.db }, eventLog);
}

async function composeModules(input: ComposeInput, eventLog: EventLog): Promise<Composition> {
  const { settings, db, telemetry, roles, rootDirectory } = input;
  const { logger } = telemetry;
  const clock = systemClock;
  const outbound = createOutboundClient();
  const guarded = composeGuarded(input);
  const models = await createModels({ outbound, clock, logger }, settings, rootDirectory);
  const shared = composeCache(input);
  const quotas = composeQuotas(input, shared);
  const ports = { broadcast: shared.broadcast, guarded, quotas, jobs: () => jobs.api };
  const control = createControlPlane(input, models, ports);
  const gateway = composeGateway(input, models, control, quotas);
  const events = composeEvents(input, eventLog, control);
  const tasks = [eventLog, events, control, gateway].flatMap((part) => part.tasks);
  const leaderTasks = [processRetention(), ...tasks];
  const timers = createTimers({ db, clock, logger }, leaderTasks, { leaseMs: settings.leaseMs });
  const jobs = composeJobs(input, control);
  jobs.register(control.jobs);
  const routes = [...quotas.routes, ...control.routes, ...gateway.routes, ...jobs.routes, ...events.routes];
  observeDatabase(telemetry.metrics, db);
  observeTimers(telemetry.metrics, timers);
  const { access, registry } = control;
  const calls = { settings, roles: roles.names, outbound, clock, logger, services: [] };
  return {
    authenticator: access.authenticator,
    idempotency: access.idempotency,
    limiter: quotas.limiter,
    onDenied: (denied) => control.audit.api.denied(denied),
    publicRoutes: publicRoutesOf(routes, roles),
    adminRoutes: routes.filter(({ endpoint }) => endpoint.listener === 'admin' && roles.has('control')),
    cluster: createCluster(calls),
    lifecycles: [
      shared.lifecycle,
      eventLog.lifecycle,
      quotas.lifecycle,
      ...control.lifecycles,
      warmUpLifecycle(models),
      gateway.lifecycle,
      events.lifecycle,
      ...(roles.has('control') ? [timers] : []),
      jobs.lifecycle,
    ],
    leaderTasks,
    health: [
      ...(shared.health ? [shared.health] : []),
      ...eventLog.health,
      ...events.health,
      quotas.health,
      ...control.health,
      ...gateway.health,
      jobs.health,
    ],
    gateway,
    firstStart: firstStartPort(control),
    describeAuto: () => describeAuto(registry, settings.openaiBaseUrl),
    close: () => closeInTurn([models, outbound, guarded, db]),
  };
}

/** For URLs that tenants gave; that the setting can be read was seen to with the settings. */
function composeGuarded({ settings, telemetry: { metrics } }: ComposeInput): GuardedClient {
  const read = readOutboundAllowances(settings.outboundAllow);
  if ('wrong' in read) throw new Error(`STOA_OUTBOUND_ALLOW: ${read.wrong.join(', ')}`);
  const { allowances } = read;
  return createGuardedClient(
    { metrics, allowOf: (tenantId) => allowances.of(tenantId) },
    { allow: allowances.all, isHttpAllowed: settings.outboundHttp },
  );
}

async function closeInTurn(parts: readonly { close(): Promise<void> }[]): Promise<void> {
  for (const part of parts) await part.close();
}

/** What tenants call at this process's roles. */
function publicRoutesOf(routes: readonly Route[], roles: RoleSet): Route[] {
  return routes.filter(
    ({ endpoint }) => endpoint.listener === 'public' && roles.has(roleOfPath(endpoint.path)),
  );
}

function composeCache({
  settings,
  telemetry: { logger, metrics },
}: ComposeInput): ReturnType<typeof createCache> {
  return createCache(
    { clock: systemClock, logger, metrics, random: Math.random },
    { redisUrl: settings.redisUrl },
  );
}

/** In every role: whoever writes events announces them, and whoever reads them hears of it. */
function composeEventLog({ settings, db, telemetry: { logger, metrics } }: ComposeInput): EventLog {
  return createEventLog(
    { db, clock: systemClock, logger, metrics },
    {
      wake: { listenUrl: settings.systemDatabaseUrl ?? settings.databaseUrl },
      horizon: { limitMs: settings.eventHorizonLimitMs },
      days: settings.retentionEventsDays,
      relay: settings.natsUrl === null ? null : settings.natsStream,
    },
  );
}

/** The consumers of this process's roles, over NATS where there is one, else over the log itself. */
function composeEvents(input: ComposeInput, eventLog: EventLog, control: ControlPlane): EventsModule {
  const { settings, db, telemetry } = input;
  const { logger, metrics, tracer } = telemetry;
  const http = { operatorRoute, tenantRoute, creatingOperatorRoute };
  const nats = composeNats(input);
  const carrier = nats?.carrier ?? null;
  const consumers = input.roles.has('control') ? control.consumers : [];
  const events = createEvents(
    { db, clock: systemClock, logger, metrics, tracer, http, consumers, carrier },
    {
      eventDays: settings.retentionEventsDays,
      isAlone: db.adapter === 'pglite',
      leaseMs: settings.leaseMs,
    },
  );
  eventLog.wakeUps.onWake(() => events.api.wake());
  if (nats === null) return events;
  const lifecycle: Lifecycle = {
    async start() {
      await nats.lifecycle.start();
      await events.lifecycle.start();
    },
    async stop() {
      await events.lifecycle.stop();
      await nats.lifecycle.stop();
    },
  };
  return { ...events, lifecycle, health: [...nats.health, ...events.health] };
}

/** Readiness does not wait for the engine's collection; the first question would. */
function warmUpLifecycle(models: ModelParts): Lifecycle {
  let warming: Promise<void> = Promise.resolve();
  return {
    async start() {
      warming = models.warmUp();
    },
    stop: () => warming,
  };
}

/** Every process declares the jobs and may enqueue them; those with a role that runs tasks run them. */
function composeJobs(
  { settings, db, telemetry, roles }: ComposeInput,
  { tenants }: ControlPlane,
): JobsModule {
  const { logger, metrics } = telemetry;
  return createJobs(
    {
      db,
      clock: systemClock,
      logger,
      metrics,
      operatorRoute,
      creatingOperatorRoute,
      async requireTenant(by, tenantId) {
        await tenants.api.read(by, asTenantId(tenantId));
      },
    },
    {
      isWorker: roles.names.some((name) => roleTable[name].runsTasks),
      leaseSeconds: Math.ceil(settings.leaseMs / 1000),
    },
  );
}

function composeGateway(
  input: ComposeInput,
  { providers }: ModelParts,
  control: ControlPlane,
  quotas: QuotasModule,
): GatewayModule {
  const { settings, directory, db, telemetry } = input;
  const { logger, metrics, tracer } = telemetry;
  return createGateway(
    {
      db,
      providers,
      registry: control.registry.api,
      prices: control.prices.api,
      quotas: quotas.api,
      decider: createDecider(),
      clock: systemClock,
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
      retention: { usageMonths: settings.retentionUsageMonths },
    },
  );
}

const setUp = { operator: 'system:set-up' };

function firstStartPort({ access, tenants }: ControlPlane): FirstStartPort {
  return {
    async checkOperatorKey(key) {
      await access.authenticator.operator(`Bearer ${key}`, null);
    },
    async checkTenantKey(key) {
      await access.authenticator.tenant(`Bearer ${key}`, null);
    },
    async createOperatorKey(name) {
      return (await access.api.createOperatorKey(setUp, { name })).key;
    },
    async createTenant(name) {
      const tenant = await tenants.api.create(setUp, name);
      return fromTypeId('ten', tenant.id) ?? tenant.id;
    },
    async createAdminKey(tenantId, name) {
      const key = { name, role: 'admin' } as const;
      return (await access.api.createTenantKey(setUp, asTenantId(tenantId), key)).key;
    },
  };
}

/** What a person should know of an engine that is no generative model. */
const engineNotes: Readonly<Partial<Record<ProviderKind, string>>> = {
  extractive: ', which quotes documents and generates nothing',
  scripted: ', which plays a script',
};

function describeAuto(registry: RegistryModule, openaiBaseUrl: string | null): string {
  const [first] = registry.api.snapshot().chatOrder;
  if (!first) return 'nothing: no chat model is enabled';
  const where =
    first.provider.baseUrl === '' ? 'in this process' : `at ${new URL(first.provider.baseUrl).host}`;
  const note = engineNotes[first.provider.kind] ?? '';
  const isWaiting = openaiBaseUrl !== null && first.provider.kind === 'extractive';
  return `${first.id} (${where})${note}${isWaiting ? `; ${openaiBaseUrl} has listed no chat model yet` : ''}`;
}
