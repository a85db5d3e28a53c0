import type { Broadcast } from '#cache';
import type { Database } from '#db';
import type { Authenticator, IdempotencyStore, Route } from '#http';
import type {
  Clock,
  HealthPart,
  Lifecycle,
  Logger,
  OperatorPrincipal,
  Sealer,
  TenantPrincipal,
} from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { createAuthenticator } from './authentication/authenticator.ts';
import { ChangePoll, type ChangePollSettings } from './authentication/change-poll.ts';
import { type ChangedRow, hearKeyChanges, tellChange } from './authentication/change-push.ts';
import { KeyDirectory, type KeyDirectorySettings } from './authentication/key-directory.ts';
import { operatorKeyFacts, tenantKeyFacts } from './authentication/key-facts.ts';
import { lastUseIntervalMs, writeLastUses } from './authentication/last-use.ts';
import { selectChanges, selectOperatorKeysById, selectTenantKeys } from './authentication/lookup.sql.ts';
import { ownKeyRoutes, tenantKeyRoutes } from './http.ts';
import { createIdempotencyStore, sweepIdempotencyKeys } from './idempotency/idempotency.ts';
import { createKeyStore } from './keys/keys.ts';
import { createOperatorKeyStore } from './keys/operator-keys.ts';
import { accessMetrics } from './metrics.ts';
import type { AccessApi } from './types.ts';

export type * from './types.ts';

export interface AccessDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** Seals remembered answers, which may hold the plaintext of a new key. */
  readonly sealer: Sealer;
  /** Between processes. Without one they hear of each other's changes by the poll alone. */
  readonly broadcast?: Broadcast;
}

export interface AccessSettings extends ChangePollSettings, KeyDirectorySettings {
  /** Two base62 characters that the id of every new key starts with; default `00`. */
  readonly cell?: string;
  /** Milliseconds between two writings of last uses; default and least 60,000. */
  readonly lastUseIntervalMs?: number;
}

export interface AccessModule {
  readonly api: AccessApi;
  /** For the edge of both listeners. */
  readonly authenticator: Authenticator;
  readonly idempotency: IdempotencyStore;
  /** For both listeners: each endpoint names its own. */
  readonly routes: Route[];
  /** For one process at a time. */
  readonly tasks: readonly {
    readonly name: string;
    readonly intervalMs: number;
    run(): Promise<void>;
  }[];
  /** In every process that authenticates. `stop` writes the last uses that are not written yet. */
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
}

/** Keys, authentication and idempotency. See README.md. */
export function createAccess(deps: AccessDeps, settings: AccessSettings = {}): AccessModule {
  const { db, clock, logger } = deps;
  const cell = settings.cell ?? '00';
  const { tenantKeys, operatorKeys, poll, metrics } = createDirectories(deps, settings);
  /** For what was committed: others are told, and this process has read it when the promise resolves. */
  const announce = async (changed: ChangedRow, refreshed: Promise<void>): Promise<void> => {
    if (deps.broadcast) tellChange(deps.broadcast, changed);
    try {
      await refreshed;
    } catch (error) {
      logger.warn({ err: error }, 'a changed key could not be read anew; it was dropped from the cache');
    }
  };
  const keys = createKeyStore({
    db,
    clock,
    cell,
    onChanged: ({ key_id: id, tenant_id: tenantId, version }) =>
      announce({ kind: 'key', id, tenantId, version: Number(version) }, tenantKeys.refresh([id])),
  });
  const operatorKeyStore = createOperatorKeyStore({
    db,
    clock,
    cell,
    onChanged: (id, version) => announce({ kind: 'operator_key', id, version }, operatorKeys.refresh([id])),
  });
  return {
    api: {
      ...operatorKeyStore,
      createTenantKey: (by, tenantId, key) =>
        keys.create(
          { kind: 'operator', by, tenantId },
          { scopes: null, project_id: null, tags: {}, expires_at: null, ...key },
          async (_tx, made) => made,
        ),
      tenantChanged: (id, version) => announce({ kind: 'tenant', id, version }, tenantKeys.refreshTenant(id)),
      readChanges: () => poll.run(),
    },
    authenticator: createAuthenticator({
      tenantKeys,
      operatorKeys,
      isFresh: () => poll.isFresh(),
      now: () => clock.now(),
      onRefused: ({ code }) => metrics.refusals.add(1, { code }),
    }),
    idempotency: createIdempotencyStore(deps),
    routes: [...tenantKeyRoutes(keys), ...ownKeyRoutes(keys)],
    tasks: [
      {
        name: 'access.idempotency-retention',
        intervalMs: 60 * 60 * 1000,
        async run() {
          await sweepIdempotencyKeys(deps);
        },
      },
    ],
    lifecycle: createLifecycle({ ...deps, tenantKeys, operatorKeys }, poll, settings),
    health: { name: 'access', isHealthy: () => poll.isHealthy },
  };
}

function createDirectories({ db, clock, logger, metrics: registry }: AccessDeps, settings: AccessSettings) {
  const tenantKeys: KeyDirectory<TenantPrincipal> = new KeyDirectory(
    {
      clock,
      async load(keyIds) {
        metrics.lookupQueries.add(1, { kind: 'tenant' });
        const rows = await db.withSystem('key-lookup', (tx) => selectTenantKeys(tx, keyIds));
        return rows.map(tenantKeyFacts);
      },
    },
    settings,
  );
  const operatorKeys: KeyDirectory<OperatorPrincipal> = new KeyDirectory(
    {
      clock,
      async load(keyIds) {
        metrics.lookupQueries.add(1, { kind: 'operator' });
        const rows = await db.withSystem('key-lookup', (tx) => selectOperatorKeysById(tx, keyIds));
        return rows.map(operatorKeyFacts);
      },
    },
    settings,
  );
  const poll = new ChangePoll(
    {
      loadChanges: (windowMs) =>
        db.withSystem('key-lookup', (tx) => selectChanges(tx, windowMs), { deadlineMs: 2000 }),
      tenantKeys,
      operatorKeys,
      clock,
      logger,
      onFailure: () => metrics.pollFailures.add(1),
    },
    settings,
  );
  const metrics = accessMetrics(registry, {
    cachedKeys: () => tenantKeys.size + operatorKeys.size,
    pendingLookups: () => tenantKeys.pendingCount + operatorKeys.pendingCount,
    unknownKeys: () => tenantKeys.unknownCount + operatorKeys.unknownCount,
    changesAgeSeconds: () => poll.ageMs() / 1000,
  });
  return { tenantKeys, operatorKeys, poll, metrics };
}

function createLifecycle(
  deps: Parameters<typeof writeLastUses>[0] & Pick<AccessDeps, 'broadcast'>,
  poll: ChangePoll,
  settings: AccessSettings,
): Lifecycle {
  const intervalMs = Math.max(settings.lastUseIntervalMs ?? lastUseIntervalMs, lastUseIntervalMs);
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<unknown> = Promise.resolve();
  let stopHearing: (() => Promise<void>) | undefined;
  const write = (): void => {
    writing = writing.then(() => writeLastUses(deps));
  };
  return {
    async start() {
      poll.start();
      const { broadcast, logger } = deps;
      if (broadcast) stopHearing ??= hearKeyChanges({ broadcast, logger }, poll);
      timer ??= setInterval(write, intervalMs);
    },
    async stop() {
      clearInterval(timer);
      timer = undefined;
      await stopHearing?.();
      stopHearing = undefined;
      await poll.stop();
      write();
      await writing;
    },
  };
}
