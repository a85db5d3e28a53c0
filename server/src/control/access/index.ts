import type { Broadcast } from '#cache';
import type { Database } from '#db';
import type { Authenticator, GuardedClient, IdempotencyStore, Route } from '#http';
import type { TimerTask } from '#jobs';
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
import { createAuthenticator, type KnownRefused } from './authentication/authenticator.ts';
import { ChangePoll, type ChangePollSettings } from './authentication/change-poll.ts';
import { type ChangedRow, hearKeyChanges, tellChange } from './authentication/change-push.ts';
import { KeyDirectory, type KeyDirectorySettings } from './authentication/key-directory.ts';
import { operatorKeyFacts, tenantKeyFacts } from './authentication/key-facts.ts';
import { lastUseIntervalMs, writeLastUses } from './authentication/last-use.ts';
import type { UnknownCredentials } from './authentication/unknown-credentials.ts';
import { selectChanges, selectOperatorKeysById, selectTenantKeys } from './authentication/lookup.sql.ts';
import { keyPolicyRoutes, ownKeyRoutes, tenantKeyRoutes } from './http.ts';
import { createIdempotencyStore, sweepIdempotencyKeys } from './idempotency/idempotency.ts';
import { warnOfExpiringKeys } from './keys/expiry-warnings.ts';
import type { HasKeyLimits } from './keys/grant-bound.ts';
import { createKeyPolicyStore } from './keys/key-policy.ts';
import { createKeyStore } from './keys/keys.ts';
import { memberRoutes } from './members/http.ts';
import { createMemberStore } from './members/members.ts';
import { accessMetrics } from './metrics.ts';
import { operatorKeyRoutes } from './operator-keys/http.ts';
import { createOperatorKeyStore } from './operator-keys/operator-keys.ts';
import { createTokenParts, type TokenParts, type TokenSettings } from './token-parts.ts';
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
  /** For the key sets of outside issuers, whose URLs tenants give. Without it none can be configured, and none is asked. */
  readonly outbound?: Pick<GuardedClient, 'call' | 'check'>;
  /** Whether a key has rate limits of its own, which it may not go around by another key; by default none has. */
  readonly hasKeyLimits?: HasKeyLimits;
  /** Bounds the look-ups of wrong credentials; by default nothing does. */
  readonly unknownCredentials?: UnknownCredentials;
  /** Told of keys and tokens that were refused though they were right: revoked, expired, elsewhere. Must not throw. */
  readonly onKnownRefused?: (refused: KnownRefused) => void;
}

export interface AccessSettings extends ChangePollSettings, KeyDirectorySettings, TokenSettings {
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
  /** For one process at a time; each writes through its leader's fenced door. */
  readonly tasks: readonly TimerTask[];
  /** In every process that authenticates. `stop` writes the last uses that are not written yet. */
  readonly lifecycle: Lifecycle;
  readonly health: readonly HealthPart[];
}

/** Keys, members, access tokens, authentication and idempotency. See README.md. */
export function createAccess(given: AccessDeps, settings: AccessSettings = {}): AccessModule {
  const deps: WiredDeps = { hasKeyLimits: noKeyLimits, ...given };
  const directories = createDirectories(deps, settings);
  const { tenantKeys, operatorKeys, poll, tokens, metrics } = directories;
  const { keys, members, keysOfOperator, announce } = createStores(deps, directories, settings.cell ?? '00');
  return {
    api: {
      createOperatorKey: (by, { name, role = 'operator' }) =>
        keysOfOperator.create(by, { name, role, expires_at: null }, async (_tx, made) => made),
      createTenantKey: (by, tenantId, key) =>
        keys.create({ kind: 'operator', by, tenantId }, { ...plainKey, ...key }, async (_tx, made) => made),
      async tenantChanged(id, version) {
        await announce({ kind: 'tenant', id, version }, tenantKeys.refreshTenant(id));
        await tokens.announce(id);
      },
      readChanges: () => poll.run(),
    },
    authenticator: createAuthenticator({
      tenantKeys,
      operatorKeys,
      tokens: tokens.authenticator,
      isFresh: () => poll.isFresh(),
      now: () => deps.clock.now(),
      onRefused: ({ code }) => metrics.refusals.add(1, { code }),
      onKnownRefused: deps.onKnownRefused,
      unknownCredentials: deps.unknownCredentials,
    }),
    idempotency: createIdempotencyStore(deps),
    routes: [
      ...tenantKeyRoutes(keys),
      ...ownKeyRoutes(keys),
      ...operatorKeyRoutes(keysOfOperator),
      ...keyPolicyRoutes(createKeyPolicyStore(deps)),
      ...memberRoutes(members),
      ...tokens.routes,
    ],
    tasks: [...tasksOf(deps), ...tokens.tasks],
    lifecycle: createLifecycle({ ...deps, tenantKeys, operatorKeys, tokens }, poll, settings),
    health: [{ name: 'access', isHealthy: () => poll.isHealthy }, tokens.health],
  };
}

const plainKey = {
  scopes: null,
  project_id: null,
  member_id: null,
  tags: {},
  allowed_ips: null,
  expires_at: null,
} as const;

const noKeyLimits: HasKeyLimits = async () => false;

type WiredDeps = AccessDeps & Required<Pick<AccessDeps, 'hasKeyLimits'>>;

/** What is managed here, each change of it announced. */
function createStores(
  { db, clock, logger, broadcast, hasKeyLimits }: WiredDeps,
  { tenantKeys, operatorKeys, tokens }: ReturnType<typeof createDirectories>,
  cell: string,
) {
  /** For what was committed: others are told, and this process has read it when the promise resolves. */
  const announce = async (changed: ChangedRow, refreshed: Promise<void>): Promise<void> => {
    if (broadcast) tellChange(broadcast, changed);
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
    hasKeyLimits,
    onChanged: ({ key_id: id, tenant_id: tenantId, version }) =>
      announce({ kind: 'key', id, tenantId, version: Number(version) }, tenantKeys.refresh([id])),
  });
  const members = createMemberStore({
    db,
    clock,
    hasKeyLimits,
    async onChanged({ tenantId, keys: changed }) {
      const refreshed = tenantKeys.refresh(changed.map(({ keyId }) => keyId));
      const rows = changed.map(({ keyId: id, version }) => ({ kind: 'key', id, tenantId, version }) as const);
      await Promise.allSettled([
        ...rows.map((row) => announce(row, refreshed)),
        tokens.announce(tenantId),
        refreshed,
      ]);
    },
  });
  const keysOfOperator = createOperatorKeyStore({
    db,
    clock,
    cell,
    onChanged: (id, version) => announce({ kind: 'operator_key', id, version }, operatorKeys.refresh([id])),
  });
  return { keys, members, keysOfOperator, announce };
}

/** For one process at a time. */
function tasksOf({ clock }: AccessDeps): readonly TimerTask[] {
  return [
    {
      name: 'access.idempotency-retention',
      everyMs: 60 * 60 * 1000,
      async run(leader) {
        await sweepIdempotencyKeys({ db: leader, clock });
      },
    },
    {
      // Each warning is told once however often it runs; a task of a day would wait a day after each start.
      name: 'access.key-expiry-warnings',
      everyMs: 60 * 60 * 1000,
      async run(leader) {
        await warnOfExpiringKeys({ db: leader, clock });
      },
    },
  ];
}

const noCalls = { reason: 'bad_url', detail: 'no outside address is called from here.' } as const;
const noOutbound: NonNullable<AccessDeps['outbound']> = {
  check: () => noCalls,
  call: async () => ({ outcome: 'refused', refusal: noCalls }),
};

function createDirectories(deps: WiredDeps, settings: AccessSettings) {
  const { db, clock, logger, metrics: registry } = deps;
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
      async loadChanges(windowMs) {
        const changes = await db.withSystem(
          'key-lookup',
          async (tx) => ({
            ofKeys: await selectChanges(tx, windowMs),
            ofTokens: await tokens.selectChanges(tx, windowMs),
          }),
          { deadlineMs: 2000 },
        );
        await tokens.applyChanges(changes.ofTokens);
        return changes.ofKeys;
      },
      tenantKeys,
      operatorKeys,
      clock,
      logger,
      onFailure: () => metrics.pollFailures.add(1),
    },
    settings,
  );
  const { broadcast } = deps;
  const isFresh = (): boolean => poll.isFresh();
  const outbound = deps.outbound ?? noOutbound;
  const tokens = createTokenParts({ ...deps, broadcast, outbound, tenantKeys, isFresh }, settings);
  const metrics = accessMetrics(registry, {
    cachedTokens: tokens.cachedTokens,
    cachedKeys: () => tenantKeys.size + operatorKeys.size,
    pendingLookups: () => tenantKeys.pendingCount + operatorKeys.pendingCount,
    unknownKeys: () => tenantKeys.unknownCount + operatorKeys.unknownCount,
    changesAgeSeconds: () => poll.ageMs() / 1000,
  });
  return { tenantKeys, operatorKeys, poll, tokens, metrics };
}

function createLifecycle(
  deps: Parameters<typeof writeLastUses>[0] & Pick<AccessDeps, 'broadcast'> & { readonly tokens: TokenParts },
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
      await deps.tokens.start();
      timer ??= setInterval(write, intervalMs);
    },
    async stop() {
      clearInterval(timer);
      timer = undefined;
      await deps.tokens.stop();
      await stopHearing?.();
      stopHearing = undefined;
      await poll.stop();
      write();
      await writing;
    },
  };
}
