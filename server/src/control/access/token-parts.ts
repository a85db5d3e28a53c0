import type { Broadcast } from '#cache';
import { hearChanges } from '#cache';
import type { Database, SystemHandle } from '#db';
import type { GuardedClient, Route } from '#http';
import type { TimerTask } from '#jobs';
import type { Clock, HealthPart, Logger, Sealer, TenantPrincipal } from '#kernel';
import type { KnownRefused } from './authentication/authenticator.ts';
import type { KeyDirectory } from './authentication/key-directory.ts';
import type { UnknownCredentials } from './authentication/unknown-credentials.ts';
import { issuerRoutes } from './issuers/http.ts';
import { createIssuerStore } from './issuers/issuers.ts';
import { createKeySetStore, type KeySetStoreSettings } from './issuers/key-set-store.ts';
import { createOutsideTokens } from './issuers/outside-tokens.ts';
import type { HasKeyLimits } from './keys/grant-bound.ts';
import { tokenRoutes } from './tokens/http.ts';
import {
  deleteExpiredRevocations,
  selectLivingRevocations,
  selectTokenChanges,
  type TokenChangeRow,
} from './tokens/revocations.sql.ts';
import { Revocations } from './tokens/revocations.ts';
import { SigningKeys, type SigningKeysSettings } from './tokens/signing-keys.ts';
import { TokenAuthenticator } from './tokens/token-authenticator.ts';
import { TokenCache } from './tokens/token-cache.ts';

/** Access tokens and outside issuers, put together. */
export interface TokenPartsDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly sealer: Sealer;
  readonly broadcast: Broadcast | undefined;
  readonly outbound: Pick<GuardedClient, 'call' | 'check'>;
  readonly hasKeyLimits: HasKeyLimits;
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly isFresh: () => boolean;
  readonly unknownCredentials?: UnknownCredentials | undefined;
  readonly onKnownRefused?: ((refused: KnownRefused) => void) | undefined;
}

export interface TokenSettings extends SigningKeysSettings, KeySetStoreSettings {
  /** The claims `iss` and `aud` of our tokens; asked for each, since a port may be known only later. */
  readonly issuer?: () => string;
  /** Tokens in the cache; default 50,000 (about 50 MB). */
  readonly cachedTokens?: number;
}

export interface TokenParts {
  readonly authenticator: TokenAuthenticator;
  readonly routes: readonly Route[];
  readonly tasks: readonly TimerTask[];
  /** What changed lately; part of the poll for keys, in the same transaction. `applyChanges` takes it over behind it. */
  selectChanges(tx: SystemHandle, windowMs: number): Promise<readonly TokenChangeRow[]>;
  applyChanges(rows: readonly TokenChangeRow[]): Promise<void>;
  /** What may end or narrow tokens of a tenant was changed here: others are told, and this process has read it. */
  announce(tenantId: string): Promise<void>;
  /** Reads what is needed to verify tokens; never rejects, since the first token that needs it reads it again. */
  start(): Promise<void>;
  stop(): Promise<void>;
  readonly cachedTokens: () => number;
  /** `master_key`: unhealthy where the database's secrets were sealed under another one. */
  readonly health: HealthPart;
}

const topic = 'access.token';
/** What a push is answered by reading: longer than any transaction of the control plane. */
const windowMs = 30_000;
const rotateEveryMs = 5 * 60_000;
const sweepEveryMs = 60 * 60_000;
const forgetEveryMs = 60_000;

export function createTokenParts(deps: TokenPartsDeps, settings: TokenSettings): TokenParts {
  const { db, clock, outbound, tenantKeys, hasKeyLimits } = deps;
  const issuer = settings.issuer ?? ((): string => 'urn:stoa');
  const signingKeys = new SigningKeys(deps, settings);
  const revocations = new Revocations();
  const cache = new TokenCache(settings.cachedTokens ?? 50_000);
  const keySets = createKeySetStore(deps, settings);
  const knowledge = createKnowledge(deps, revocations, signingKeys);
  const { loadRevocations, announce } = knowledge;
  const outside = createOutsideTokens({ db, clock, keySets, revocations });
  const verifying = { signingKeys, revocations, cache, outside, issuer, loadRevocations };
  const keyExpiry = (keyId: string): number => tenantKeys.find(keyId)?.expiresAtMs ?? Infinity;
  const issuers = createIssuerStore({
    db,
    clock,
    outbound,
    hasKeyLimits,
    ownIssuer: issuer,
    onChanged: announce,
  });
  return {
    authenticator: new TokenAuthenticator({ ...deps, ...verifying }),
    routes: [
      ...tokenRoutes({ db, clock, signingKeys, issuer, keyExpiry, onRevoked: announce }, signingKeys),
      ...issuerRoutes(issuers),
    ],
    tasks: [
      { name: 'access.signing-keys', everyMs: rotateEveryMs, run: (leader) => signingKeys.rotate(leader) },
      {
        name: 'access.token-retention',
        everyMs: sweepEveryMs,
        async run({ withSystem }) {
          await withSystem('retention', (tx) => deleteExpiredRevocations(tx, new Date(clock.now())));
        },
      },
    ],
    selectChanges: selectTokenChanges,
    applyChanges: knowledge.apply,
    announce,
    ...createForgetting(knowledge, () => {
      cache.forgetBefore(clock.now());
      revocations.forgetBefore(clock.now());
    }),
    cachedTokens: () => cache.size,
    health: { name: 'master_key', isHealthy: () => signingKeys.isSealOurs },
  };
}

/** What this process knows of revocations, grants and signing keys, and how it comes to know it. */
function createKnowledge(deps: TokenPartsDeps, revocations: Revocations, signingKeys: SigningKeys) {
  const { db, logger, broadcast } = deps;
  const apply = async (rows: readonly TokenChangeRow[]): Promise<void> => {
    revocations.apply(rows);
    if (rows.some(({ kind }) => kind === 'signing_key')) await signingKeys.load();
  };
  const readLately = async (): Promise<void> =>
    apply(await db.withSystem('key-lookup', (tx) => selectTokenChanges(tx, windowMs)));
  const loadRevocations = async (): Promise<void> => {
    revocations.load(await db.withSystem('key-lookup', selectLivingRevocations));
  };
  const listening = createListening(deps, readLately);
  return {
    apply,
    loadRevocations,
    announce: async (tenantId: string): Promise<void> => {
      broadcast?.publish({ topic, key: tenantId, tenantId, version: 0 });
      await readLately().catch((error: unknown) =>
        logger.warn({ err: error }, 'a change of tokens could not be read back; the poll will'),
      );
    },
    async start(): Promise<void> {
      listening.start();
      try {
        await loadRevocations();
        await signingKeys.load();
      } catch (error) {
        logger.warn({ err: error }, 'what verifies tokens could not be read yet; the first token reads it');
      }
    },
    stop: () => listening.stop(),
  };
}

function createListening(
  { broadcast, logger }: TokenPartsDeps,
  readLately: () => Promise<void>,
): { start(): void; stop(): Promise<void> } {
  let stopHearing: (() => Promise<void>) | undefined;
  return {
    start() {
      if (broadcast === undefined) return;
      const reader = { apply: readLately, readAll: readLately };
      stopHearing ??= hearChanges({ broadcast, logger }, [topic], reader);
    },
    async stop() {
      await stopHearing?.();
      stopHearing = undefined;
    },
  };
}

function createForgetting(
  knowledge: { start(): Promise<void>; stop(): Promise<void> },
  forget: () => void,
): { start(): Promise<void>; stop(): Promise<void> } {
  let timer: NodeJS.Timeout | undefined;
  return {
    async start() {
      await knowledge.start();
      timer ??= setInterval(forget, forgetEveryMs);
    },
    async stop() {
      clearInterval(timer);
      timer = undefined;
      await knowledge.stop();
    },
  };
}
