import type { GuardedClient } from '#http';
import { AppError, type Clock, type Logger } from '#kernel';
import { tooManyTokens } from '../refusals.ts';
import type { VerificationKey } from '../tokens/jws.ts';
import { readKeySet } from './key-set.ts';

/**
 * Key sets of outside issuers, fetched when a token first needs them and kept per tenant and URL.
 *
 * | the set is | a token with a known key id | with an unknown one |
 * | --- | --- | --- |
 * | not there | waits for the fetch | waits for the fetch |
 * | younger than 10 minutes | is checked | fetches again, once in 30 s at the most |
 * | older | is checked; the set is fetched beside it | fetches again, once in 30 s at the most |
 * | older than 24 hours | waits for the fetch | waits for the fetch |
 *
 * A fetch that fails leaves the set that was, so an issuer that is away for a day ends nobody's work; where there is none,
 * the answer is `issuer_unavailable`, which is no judgement on the token, and the next fetch waits for 30 s too. One fetch
 * of a URL runs at a time, whoever waits for it. Bounds: 5 s and 256 KiB a fetch, 64 tokens that wait for one, 100 keys a
 * set, 500 sets (the one used longest ago goes first). Whoever would wait beyond the 64 is `overloaded`: an issuer that
 * hangs fills up what is its own.
 */
export interface KeySetStoreDeps {
  /** For URLs that tenants gave. */
  readonly outbound: Pick<GuardedClient, 'call'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface KeySetStoreSettings {
  /** Milliseconds for which a set is not fetched again by itself; default 600,000. */
  readonly freshForMs?: number;
  /** Least milliseconds between two fetches of a URL; default 30,000. */
  readonly refetchAfterMs?: number;
  /** Milliseconds for which a set serves that cannot be fetched again; default 86,400,000. */
  readonly staleForMs?: number;
}

export interface KeySetStore {
  /** The key of that id, or null where the issuer has none. Throws `issuer_unavailable` or `overloaded`. */
  find(
    source: { readonly tenantId: string; readonly url: string },
    keyId: string,
  ): Promise<VerificationKey | null>;
  readonly size: number;
}

interface KnownSet {
  keys: ReadonlyMap<string, VerificationKey> | null;
  /** Monotonic milliseconds of the last good fetch, and of the last of all. */
  fetchedAtMs: number;
  triedAtMs: number;
  fetching: Promise<void> | null;
  /** Tokens that wait for the fetch. */
  waiting: number;
}

const setsAtMost = 500;
const waitingAtMost = 64;
const limits = { timeoutMs: 5000, maxBodyBytes: 256 * 1024 };

export function createKeySetStore(deps: KeySetStoreDeps, settings: KeySetStoreSettings = {}): KeySetStore {
  const { clock } = deps;
  const freshForMs = settings.freshForMs ?? 600_000;
  const refetchAfterMs = settings.refetchAfterMs ?? 30_000;
  const staleForMs = settings.staleForMs ?? 86_400_000;
  const sets = new Map<string, KnownSet>();

  function setOf(tenantId: string, url: string): KnownSet {
    const place = `${tenantId} ${url}`;
    const known = sets.get(place) ?? {
      keys: null,
      fetchedAtMs: -Infinity,
      triedAtMs: -Infinity,
      fetching: null,
      waiting: 0,
    };
    sets.delete(place);
    const oldest = sets.keys().next();
    if (sets.size >= setsAtMost && oldest.done !== true) sets.delete(oldest.value);
    sets.set(place, known);
    return known;
  }

  async function fetchOnce(set: KnownSet, tenantId: string, url: string): Promise<void> {
    if (set.fetching === null && clock.monotonic() - set.triedAtMs < refetchAfterMs) return;
    set.fetching ??= fetchInto(deps, set, tenantId, url).finally(() => {
      set.fetching = null;
    });
    await set.fetching;
  }

  return {
    get size() {
      return sets.size;
    },
    async find({ tenantId, url }, keyId) {
      const set = setOf(tenantId, url);
      const ageMs = clock.monotonic() - set.fetchedAtMs;
      if (ageMs > staleForMs) set.keys = null;
      const isKnown = set.keys?.has(keyId) === true;
      const fetched = isKnown && ageMs <= freshForMs ? null : fetchOnce(set, tenantId, url);
      if (!isKnown && fetched !== null) await waitFor(set, fetched);
      if (set.keys === null) throw unavailable();
      return set.keys.get(keyId) ?? null;
    },
  };
}

async function waitFor(set: KnownSet, fetched: Promise<void>): Promise<void> {
  // Without a fetch there is nothing to wait for: it was tried a moment ago.
  if (set.fetching === null) return;
  if (set.waiting >= waitingAtMost) throw tooManyTokens;
  set.waiting += 1;
  try {
    await fetched;
  } finally {
    set.waiting -= 1;
  }
}

function unavailable(): AppError {
  return new AppError('issuer_unavailable', "The keys of the token's issuer cannot be read at the moment.", {
    retryAfterMs: 30_000,
  });
}

/** Never rejects. */
async function fetchInto(deps: KeySetStoreDeps, set: KnownSet, tenantId: string, url: string): Promise<void> {
  const { outbound, clock, logger } = deps;
  set.triedAtMs = clock.monotonic();
  const headers = ['accept', 'application/jwk-set+json, application/json'];
  const answer = await outbound.call({ tenantId, method: 'GET', url, headers, limits });
  const keys =
    answer.outcome === 'answered' && answer.status === 200 ? readKeySet(jsonIn(answer.body)) : null;
  if (keys === null) {
    logger.warn({ tenantId, outcome: outcomeOf(answer) }, "an issuer's key set could not be fetched");
    return;
  }
  set.keys = keys;
  set.fetchedAtMs = set.triedAtMs;
}

function outcomeOf(answer: Awaited<ReturnType<GuardedClient['call']>>): string {
  if (answer.outcome === 'refused') return answer.refusal.reason;
  return answer.outcome === 'failed' ? answer.fault.kind : `status ${answer.status}`;
}

function jsonIn(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
