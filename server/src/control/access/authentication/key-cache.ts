import type { AppError, NetworkSet, Standing } from '#kernel';
import { invalidApiKey, keyExpired, tenantSuspended } from '../refusals.ts';

/** The secret that a rotation replaced. */
export interface PreviousSecret {
  /** SHA-256 of the whole key. */
  readonly hash: Uint8Array;
  /** Until when it is accepted beside the present one, Unix milliseconds. */
  readonly untilMs: number;
}

/** What the database says of a key. */
export interface KeyFacts<Principal> {
  readonly keyId: string;
  /** UUID text, or null for the operator's. */
  readonly tenantId: string | null;
  /** SHA-256 of the whole key. */
  readonly hash: Uint8Array;
  readonly previous: PreviousSecret | null;
  /** Where the key may be used from; null for everywhere. */
  readonly networks: NetworkSet | null;
  /** Unix milliseconds; Infinity where the key does not expire. */
  readonly expiresAtMs: number;
  /** Why the key is refused, its expiry apart. */
  readonly refusal: AppError | null;
  /** Versions of the key's row and of its tenant's (0 for the operator's). */
  readonly version: number;
  readonly tenantVersion: number;
  principal(standing: Standing): Principal;
}

/** A key in the cache. Only the cache changes it, apart from the two marks. */
export interface CachedKey<Principal> {
  readonly keyId: string;
  tenantId: string | null;
  hash: Uint8Array;
  previous: PreviousSecret | null;
  networks: NetworkSet | null;
  principal: Principal;
  /** Shared by every principal made of this key, also by those that requests still hold. */
  readonly standing: Standing;
  expiresAtMs: number;
  version: number;
  tenantVersion: number;
  /** Set at each use but the one that brought the key here; eviction passes by once. */
  isRecent: boolean;
  /** Set at the first use since the last uses were written. */
  isUseNoted: boolean;
  usedAtMs: number;
}

/** Where all keys are in use, one insertion must not pay for a pass over all of them. */
const sparedAtMost = 64;

interface Evicted {
  readonly standing: WeakRef<Standing>;
  readonly tenantId: string | null;
  readonly expiresAtMs: number;
}

/**
 * The keys that this process has seen, by id, at most `capacity` of them. The least recently used leaves first, by
 * second chance: a use sets a bit, which is all that the hot path pays, and eviction passes by an entry once for it. A
 * key that was used only once goes before all others.
 *
 * A key that was evicted may still have an answer running, which looks at the key's standing. So the standing of an
 * evicted key is remembered for as long as somebody holds it (weakly: the garbage collector ends the memory), follows
 * revocation like a cached one, and is given back when the key returns.
 */
export class KeyCache<Principal> {
  readonly #capacity: number;
  readonly #keys = new Map<string, CachedKey<Principal>>();
  readonly #evicted = new Map<string, Evicted>();
  readonly #idsByTenant = new Map<string, Set<string>>();
  #nextExpiryMs = Infinity;
  readonly #forgotten = new FinalizationRegistry<{ keyId: string; tenantId: string | null }>(
    ({ keyId, tenantId }) => this.#forget(keyId, tenantId),
  );

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#keys.size;
  }

  find(keyId: string): CachedKey<Principal> | undefined {
    return this.#keys.get(keyId);
  }

  /** Whether a change of this key concerns anybody here. */
  isKnown(keyId: string): boolean {
    return this.#keys.has(keyId) || this.#evicted.get(keyId)?.standing.deref() !== undefined;
  }

  /** The ids of a tenant's keys that are known here. */
  idsOf(tenantId: string): readonly string[] {
    return [...(this.#idsByTenant.get(tenantId) ?? [])];
  }

  /**
   * Takes over what the database says, unless something newer is known: answers of two queries may arrive in either
   * order. The answer is the key as it is now.
   */
  put(facts: KeyFacts<Principal>, nowMs: number): CachedKey<Principal> {
    const known = this.#keys.get(facts.keyId);
    if (known && (known.version > facts.version || known.tenantVersion > facts.tenantVersion)) return known;
    this.#nextExpiryMs = Math.min(
      this.#nextExpiryMs,
      facts.expiresAtMs > nowMs ? facts.expiresAtMs : Infinity,
    );
    if (known) {
      known.tenantId = facts.tenantId;
      known.hash = facts.hash;
      known.previous = facts.previous;
      known.networks = facts.networks;
      known.expiresAtMs = facts.expiresAtMs;
      known.version = facts.version;
      known.tenantVersion = facts.tenantVersion;
      known.principal = facts.principal(known.standing);
      known.standing.refusal = refusalAt(facts, nowMs);
      return known;
    }
    const standing = this.#evicted.get(facts.keyId)?.standing.deref() ?? { refusal: null };
    standing.refusal = refusalAt(facts, nowMs);
    const { keyId, tenantId, hash, previous, networks, expiresAtMs, version, tenantVersion } = facts;
    const entry: CachedKey<Principal> = {
      keyId,
      tenantId,
      hash,
      previous,
      networks,
      principal: facts.principal(standing),
      standing,
      expiresAtMs,
      version,
      tenantVersion,
      isRecent: false,
      isUseNoted: false,
      usedAtMs: 0,
    };
    if (this.#keys.size >= this.#capacity) this.#evictOne();
    this.#evicted.delete(keyId);
    this.#keys.set(keyId, entry);
    if (tenantId !== null) {
      this.#idsByTenant.set(tenantId, (this.#idsByTenant.get(tenantId) ?? new Set()).add(keyId));
    }
    return entry;
  }

  /** For a key whose row is gone: refused, and no longer known. */
  remove(keyId: string): void {
    const entry = this.#keys.get(keyId);
    const evicted = this.#evicted.get(keyId);
    const standing = entry?.standing ?? evicted?.standing.deref();
    if (standing) standing.refusal = invalidApiKey;
    this.#keys.delete(keyId);
    this.#evicted.delete(keyId);
    this.#forget(keyId, entry?.tenantId ?? evicted?.tenantId ?? null);
  }

  /** Forgets a key so that its next use is a look-up; its standing stays as it is and goes on following changes. */
  drop(keyId: string): void {
    const entry = this.#keys.get(keyId);
    if (entry) this.#evict(entry);
  }

  /** Refuses what has expired, so that running answers see it too. Costs a pass over all keys, but only when one is due. */
  expire(nowMs: number): void {
    if (nowMs < this.#nextExpiryMs) return;
    let next = Infinity;
    for (const { standing, expiresAtMs } of this.#keys.values()) {
      if (expiresAtMs <= nowMs) refuseAsExpired(standing);
      else next = Math.min(next, expiresAtMs);
    }
    for (const { standing, expiresAtMs } of this.#evicted.values()) {
      if (expiresAtMs > nowMs) next = Math.min(next, expiresAtMs);
      else refuseAsExpired(standing.deref() ?? { refusal: null });
    }
    this.#nextExpiryMs = next;
  }

  #evictOne(): void {
    let spared = 0;
    for (const [keyId, entry] of this.#keys) {
      if (!entry.isRecent || spared === sparedAtMost) {
        this.#evict(entry);
        return;
      }
      // Its second chance: to the end of the map's order, the mark taken away.
      entry.isRecent = false;
      spared += 1;
      this.#keys.delete(keyId);
      this.#keys.set(keyId, entry);
    }
  }

  #evict(entry: CachedKey<Principal>): void {
    const { keyId, tenantId, standing, expiresAtMs } = entry;
    this.#keys.delete(keyId);
    this.#evicted.set(keyId, { standing: new WeakRef(standing), tenantId, expiresAtMs });
    this.#forgotten.register(standing, { keyId, tenantId });
  }

  /** Ends the memory of an evicted key, unless it came back in the meantime. */
  #forget(keyId: string, tenantId: string | null): void {
    if (this.isKnown(keyId)) return;
    this.#evicted.delete(keyId);
    if (tenantId === null) return;
    const ids = this.#idsByTenant.get(tenantId);
    ids?.delete(keyId);
    if (ids?.size === 0) this.#idsByTenant.delete(tenantId);
  }
}

/** What a caller with the right secret is told: a key that is revoked or expired says so before its tenant's state does. */
function refusalAt(facts: KeyFacts<unknown>, nowMs: number): AppError | null {
  const isExpired = facts.expiresAtMs <= nowMs;
  if (isExpired && (facts.refusal === null || facts.refusal === tenantSuspended)) return keyExpired;
  return facts.refusal;
}

/** Marks a standing as expired, unless something graver is said already. */
export function refuseAsExpired(standing: Standing): void {
  if (standing.refusal === null || standing.refusal === tenantSuspended) standing.refusal = keyExpired;
}
