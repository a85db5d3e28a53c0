import { hostname } from 'node:os';
import type { Settings } from '@stoa/contracts';
import {
  announceProcess,
  type Database,
  type DataDirectoryLock,
  lockDataDirectory,
  type SchemaState,
} from '#db';
import { AppError, type Lifecycle, type Logger } from '#kernel';
import { createTelemetry, type Telemetry } from '#telemetry';
import { type Composition, compose } from './compose.ts';
import { isTracingConfigured, type LoadedSettings, processEnvironment } from './config.ts';
import { type DataDirectory, openDataDirectory } from './data-directory.ts';
import { migrateAndTell, migratesItself, openConfiguredDatabase, prepareSchema } from './database.ts';
import { type FirstStartResult, keepCredentials, type PreparedKeys, prepareKeys } from './first-start.ts';
import { checkAddresses } from './free-addresses.ts';
import { createListeners, type Listeners } from './listeners.ts';
import { migrationSets } from './migrations.ts';
import { openapiDocument } from './openapi.ts';
import { plainRoutes } from './plain-routes.ts';
import { createReadiness, type Readiness } from './readiness.ts';
import type { RoleSet } from './roles.ts';
import { awaitSchema, schemaWatch, unservedMigrations } from './schema-watch.ts';
import { stoaVersion } from './version.ts';

/**
 * The life of a process. Start: lock, database, schema, modules, listeners (answering 503 `starting`), recovery and
 * snapshots, then ready. Stop, once, whatever signal comes again: unready, the drain delay, no new connections, running
 * answers finish or end in band, the journal is shipped, everything closes in reverse order.
 */
export interface RunningProcess {
  /** False where the schema is newer than this version serves: the process only says so, at `/readyz`. */
  readonly isServing: boolean;
  readonly addresses: { readonly baseUrl: string; readonly adminUrl: string };
  /** Development only: the keys of the data directory. */
  readonly firstStart: FirstStartResult | null;
  /** What answers `auto`, for people. */
  readonly autoAnswer: () => string;
  /** What is away that the settings name, as `/readyz` tells it. */
  readonly degraded: () => string[];
  /** Drains and closes. A second call gets the first one's promise. */
  stop(reason: string): Promise<void>;
}

interface Parts {
  readonly settings: Settings;
  readonly lock: DataDirectoryLock;
  readonly telemetry: Telemetry;
  readonly readiness: Readiness;
  readonly composition: Composition;
  readonly listeners: Listeners;
  readonly logger: Logger;
  readonly db: Database;
}

export async function serve(
  loaded: LoadedSettings,
  roles: RoleSet,
  rootDirectory: string,
): Promise<RunningProcess> {
  const { settings } = loaded;
  const directory = openDataDirectory(settings.dataDir);
  const lock = lockDataDirectory(directory.path);
  try {
    await checkAddresses(settings);
    const telemetry = await createTelemetry({
      logLevel: settings.logLevel,
      serviceName: `stoa-${roles.names.join('-')}`,
      serviceVersion: stoaVersion,
      tracing: isTracingConfigured(processEnvironment()) ? {} : null,
    });
    const { logger } = telemetry;
    for (const warning of loaded.warnings) logger.warn({}, warning);
    const db = await openConfiguredDatabase(settings, directory, logger);
    const schema = await withDatabase(settings, logger, () => prepareSchema(db, settings, logger));
    const readiness = createReadiness();
    const input = { settings, directory, db, telemetry, roles, rootDirectory };
    const composition = await compose({ ...input, listeningUrl: () => listeners.baseUrl });
    readiness.parts.push(...composition.health);
    const plain = plainRoutes({
      readiness,
      openapi: openapiDocument,
      renderMetrics: async () => ({
        contentType: telemetry.metricsContentType,
        content: await telemetry.renderMetrics(),
      }),
    });
    const listeners = createListeners({
      ...composition,
      publicRoutes: [...plain.public, ...composition.publicRoutes],
      adminRoutes: [...plain.admin, ...composition.adminRoutes],
      settings,
      logger,
      readiness,
      metrics: telemetry.metrics,
    });
    const parts: Parts = { settings, lock, telemetry, readiness, composition, listeners, logger, db };
    return await begin(parts, directory, schema, { roles: roles.names, database: db.adapter });
  } catch (error) {
    lock.release();
    throw error;
  }
}

/**
 * Starts what has a life of its own, listens, and is ready. `found` is for the log.
 *
 * Production listens first, so that liveness is answered while a long journal is recovered. Development listens last:
 * scripts poll a port and take the first answer for readiness, and theirs should not be a 503. Where another process has
 * to migrate the schema first, both listen and say so.
 */
async function begin(
  parts: Parts,
  directory: DataDirectory,
  foundSchema: SchemaState,
  found: { readonly roles: readonly string[]; readonly database: string },
): Promise<RunningProcess> {
  const { settings, readiness, listeners, logger, db } = parts;
  const isProduction = settings.profile === 'production';
  const early = isProduction || foundSchema === 'behind' ? await listeners.listen() : null;
  const schema = foundSchema === 'behind' ? await awaitSchema(parts) : foundSchema;
  const announcement = schema === 'current' ? await announce(parts, found.roles) : null;
  const isServing = announcement !== null;
  // Nothing is started on a schema that is newer than this code, which must not be written to.
  const lifecycles = isServing ? [...parts.composition.lifecycles] : [];
  // Nobody but this process changes an embedded database.
  if (isServing && db.adapter === 'postgres') lifecycles.push(watchOf(parts));
  for (const part of lifecycles) await withDatabase(settings, logger, () => part.start());
  // Started already; the last to stop, since what this process still ships needs the schema that it knows.
  if (announcement) lifecycles.unshift(announcement);
  const keys = isServing && !isProduction ? await keysOf(parts, directory) : null;
  const addresses = early ?? (await listeners.listen());
  const firstStart = keys === null ? null : keepCredentials(directory, keys, addresses, logger);
  readiness.phase = isServing ? 'ready' : 'schema_ahead';
  const degraded = readiness.degraded();
  if (isServing)
    logger.info({ ...addresses, ...found, ...(degraded.length > 0 ? { degraded } : {}) }, 'ready');
  else {
    const migrations = unservedMigrations(await db.schemaStatus(migrationSets));
    logger.error(
      { ...addresses, ...found, migrations },
      'the database schema is newer than this version serves; start the version that brought these migrations, or a newer one',
    );
  }
  let stopping: Promise<void> | null = null;
  return {
    isServing,
    addresses,
    firstStart,
    autoAnswer: () => parts.composition.describeAuto(),
    degraded: () => readiness.degraded(),
    stop: (reason) => (stopping ??= drain(parts, lifecycles, reason)),
  };
}

const noAnnouncement: Lifecycle = { start: () => Promise.resolve(), stop: () => Promise.resolve() };

/**
 * Announces the process, so that contract migrations which it doesn't know wait for its end, and looks again at the schema:
 * one may have applied right before. Null where it did, and the process can't serve.
 */
async function announce(
  { settings, logger, db }: Parts,
  roles: readonly string[],
): Promise<Lifecycle | null> {
  if (db.adapter === 'pglite') return noAnnouncement;
  const facts = { roles, host: hostname(), pid: process.pid, version: stoaVersion, sets: migrationSets };
  const announcement = announceProcess({ db, logger }, facts);
  await withDatabase(settings, logger, () => announcement.start());
  const status = await withDatabase(settings, logger, () => db.schemaStatus(migrationSets));
  if (status.state !== 'ahead') return announcement;
  await announcement.stop();
  return null;
}

function watchOf(parts: Parts): Lifecycle {
  const { settings, logger, db } = parts;
  return schemaWatch(parts, migratesItself(settings) ? { contract: () => migrateAndTell(db, logger) } : {});
}

/**
 * A step of the start that needs the database. Production waits for one that is away, since it comes back and nobody
 * is there to start the process again; a developer is told at once.
 */
async function withDatabase<T>(settings: Settings, logger: Logger, step: () => Promise<T>): Promise<T> {
  for (let waits = 0; ; waits++) {
    try {
      return await step();
    } catch (error) {
      const isAway = error instanceof AppError && error.code === 'database_unavailable';
      if (!isAway || settings.profile !== 'production') throw error;
      if (waits === 0) logger.warn({ err: error }, 'the database cannot be reached; the start waits for it');
      await pause(Math.min(250 * 2 ** Math.min(waits, 5), 5_000));
    }
  }
}

function keysOf({ settings, composition }: Parts, directory: DataDirectory): Promise<PreparedKeys> {
  return prepareKeys(composition.firstStart, directory, { wantsDemoTenant: settings.demoTenant });
}

/** How long one part may take to stop. */
const stopPartMs = 10_000;

async function drain(
  { settings, lock, telemetry, readiness, composition, listeners, logger }: Parts,
  lifecycles: readonly Lifecycle[],
  reason: string,
): Promise<void> {
  logger.info({ reason }, 'draining');
  readiness.phase = 'draining';
  // A client whose connection is closed in time never meets one that ends under its next request.
  listeners.beginDrain();
  await pause(settings.drainDelayMs);
  const closed = listeners.drain();
  const deadlineAtMs = performance.now() + settings.drainDeadlineMs;
  await composition.gateway.drain(settings.drainDeadlineMs);
  // What was forwarded to other roles, or called by them, has the rest of the deadline.
  const cut = setTimeout(() => listeners.destroy(), Math.max(1_000, deadlineAtMs - performance.now()));
  await closed;
  clearTimeout(cut);
  for (const [index, part] of lifecycles.entries().toArray().toReversed()) {
    await within(stopPartMs, part.stop()).catch((error: unknown) =>
      logger.error({ err: error, part: index }, 'a part did not stop cleanly'),
    );
  }
  await within(stopPartMs, composition.close()).catch((error: unknown) =>
    logger.error({ err: error }, 'the connections did not close cleanly'),
  );
  logger.info({ reason }, 'stopped');
  await telemetry.stop();
  lock.release();
}

/** A part that hangs must not keep the process: what it holds is handed on by its lease, its inbox or the journal. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`it took longer than ${ms} ms`)), ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
