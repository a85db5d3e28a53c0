import type { Clock } from '#kernel';
import { type CachedKey, KeyCache, type KeyFacts } from './key-cache.ts';
import { KeyLookup, type KeyLookupSettings } from './key-lookup.ts';

export interface KeyDirectoryDeps<Principal> {
  /** One query for these ids. */
  readonly load: (keyIds: readonly string[]) => Promise<readonly KeyFacts<Principal>[]>;
  readonly clock: Clock;
}

export interface KeyDirectorySettings extends KeyLookupSettings {
  /** Keys in the cache; default 50,000 (about 40 MB with all their tenants different). */
  readonly cachedKeys?: number;
}

/** A row's change as the poll reports it. */
export interface VersionOf {
  readonly id: string;
  readonly version: number;
}

const idsPerRefresh = 500;

/**
 * The keys of one kind: a cache in front of coalesced look-ups, kept true by `refresh`.
 *
 * A look-up and a change can overlap: the query read the old row, the change was committed and announced, then the
 * answer arrives. So a look-up during which anything was announced asks again; and the versions of rows keep older
 * answers from replacing newer ones. Whatever slips through nevertheless is healed by the next poll.
 */
export class KeyDirectory<Principal> {
  readonly #deps: KeyDirectoryDeps<Principal>;
  readonly #cache: KeyCache<Principal>;
  readonly #lookup: KeyLookup<CachedKey<Principal>>;
  #announcements = 0;
  #uses: CachedKey<Principal>[] = [];
  readonly #usesAtMost: number;

  constructor(deps: KeyDirectoryDeps<Principal>, settings: KeyDirectorySettings = {}) {
    const cachedKeys = settings.cachedKeys ?? 50_000;
    this.#deps = deps;
    this.#cache = new KeyCache(cachedKeys);
    this.#usesAtMost = cachedKeys * 2;
    this.#lookup = new KeyLookup(
      { load: (keyIds) => this.#loadFresh(keyIds), monotonic: () => deps.clock.monotonic() },
      settings,
    );
  }

  get size(): number {
    return this.#cache.size;
  }

  get pendingCount(): number {
    return this.#lookup.pendingCount;
  }

  get unknownCount(): number {
    return this.#lookup.unknownCount;
  }

  /** The cached key of an id; costs a look into a map. */
  find(keyId: string): CachedKey<Principal> | undefined {
    return this.#cache.find(keyId);
  }

  /** The key of an id by a look-up, or null; see `KeyLookup.find` for how it rejects. */
  async fetch(keyId: string): Promise<CachedKey<Principal> | null> {
    return this.#lookup.find(keyId);
  }

  /** Marks a key as used, for `takeUses`. Costs one comparison but for the first use in a while. */
  noteUse(key: CachedKey<Principal>): void {
    if (key.isUseNoted || this.#uses.length >= this.#usesAtMost) return;
    key.isUseNoted = true;
    key.usedAtMs = this.#deps.clock.now();
    this.#uses.push(key);
  }

  /** The keys used since the last call, each with the first use since then; at most twice the cache's capacity. */
  takeUses(): readonly CachedKey<Principal>[] {
    const uses = this.#uses;
    this.#uses = [];
    for (const key of uses) key.isUseNoted = false;
    return uses;
  }

  /** Whether a key that changed concerns this process and is not known in that version. */
  isBehind({ id, version }: VersionOf): boolean {
    const key = this.#cache.find(id);
    return key ? key.version < version : this.#cache.isKnown(id);
  }

  /** The keys of a tenant that changed which are not known in the tenant's version. */
  behindOfTenant({ id, version }: VersionOf): readonly string[] {
    return this.#cache.idsOf(id).filter((keyId) => {
      const key = this.#cache.find(keyId);
      return key ? key.tenantVersion < version : true;
    });
  }

  /**
   * Reads keys anew: those that are known here and are said to have changed. Rejects where the database can't be asked;
   * the keys are then dropped from the cache, so that nobody is served by what is known to be old.
   */
  async refresh(keyIds: readonly string[]): Promise<void> {
    this.#announcements += 1;
    const known = keyIds.filter((keyId) => this.#cache.isKnown(keyId));
    try {
      for (let start = 0; start < known.length; start += idsPerRefresh)
        await this.#load(known.slice(start, start + idsPerRefresh));
    } catch (error) {
      for (const keyId of known) this.#cache.drop(keyId);
      throw error;
    }
  }

  /** Like `refresh`, for all known keys of a tenant. */
  async refreshTenant(tenantId: string): Promise<void> {
    await this.refresh(this.#cache.idsOf(tenantId));
  }

  /** Refuses keys whose time has come, also those of answers that run. */
  expire(): void {
    this.#cache.expire(this.#deps.clock.now());
  }

  async #loadFresh(keyIds: readonly string[]): Promise<ReadonlyMap<string, CachedKey<Principal>>> {
    for (let attempt = 1; ; attempt += 1) {
      const before = this.#announcements;
      const found = await this.#load(keyIds);
      if (before === this.#announcements || attempt === 3) return found;
    }
  }

  async #load(keyIds: readonly string[]): Promise<ReadonlyMap<string, CachedKey<Principal>>> {
    const facts = await this.#deps.load(keyIds);
    const nowMs = this.#deps.clock.now();
    const found = new Map(facts.map((fact) => [fact.keyId, this.#cache.put(fact, nowMs)]));
    for (const keyId of keyIds) {
      if (!found.has(keyId) && this.#cache.isKnown(keyId)) this.#cache.remove(keyId);
    }
    return found;
  }
}
