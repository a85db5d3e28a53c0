import { checkedOwner, checkedTtl, isStorable, ownedKey } from './keys.ts';
import type { Cache, Owner } from './types.ts';

/** Where values lie. `key` is an owned key; ttl and size were checked. */
export interface CacheStore {
  /** `turn` is whatever the store needs to tell later whether the owner was emptied since. */
  read(owner: Owner, key: string): Promise<{ readonly value: string | null; readonly turn: string | null }>;
  /** With a turn: only where the owner was not emptied since that read. */
  write(owner: Owner, key: string, value: string, ttlMs: number, turn: string | null): Promise<boolean>;
  remove(owner: Owner, key: string): Promise<void>;
  removeOwner(owner: Owner): Promise<void>;
}

interface Flight {
  readonly owner: Owner;
  readonly loaded: Promise<string>;
  /** Set by a deletion while the load runs: what it gives may be old. */
  isStale: boolean;
}

/** The cache over a store: checks, and one load at a time for each key of this process. */
export class LoadingCache implements Cache {
  readonly #store: CacheStore;
  readonly #flights = new Map<string, Flight>();

  constructor(store: CacheStore) {
    this.#store = store;
  }

  async get(at: Parameters<Cache['get']>[0]): Promise<string | null> {
    return (await this.#store.read(at.tenantId, ownedKey(at))).value;
  }

  async set(entry: Parameters<Cache['set']>[0]): Promise<boolean> {
    const key = ownedKey(entry);
    checkedTtl(entry.ttlMs);
    if (isStorable(entry.value))
      return this.#store.write(entry.tenantId, key, entry.value, entry.ttlMs, null);
    // The value that is there is no longer the one that was set last.
    await this.#store.remove(entry.tenantId, key).catch(() => undefined);
    return false;
  }

  async delete(at: Parameters<Cache['delete']>[0]): Promise<void> {
    const key = ownedKey(at);
    this.#abandon((_flight, flown) => flown === key);
    await this.#store.remove(at.tenantId, key);
  }

  async deleteTenant(tenantId: Owner): Promise<void> {
    checkedOwner(tenantId);
    this.#abandon((flight) => flight.owner === tenantId);
    await this.#store.removeOwner(tenantId);
  }

  async getOrLoad(at: Parameters<Cache['getOrLoad']>[0], load: () => Promise<string>): Promise<string> {
    const key = ownedKey(at);
    checkedTtl(at.ttlMs);
    const running = this.#flights.get(key);
    if (running) return running.loaded;
    const flight: Flight = {
      owner: at.tenantId,
      isStale: false,
      // A turn later, so that the flight is known before the load begins.
      loaded: Promise.resolve().then(() => this.#load(flight, key, at.ttlMs, load)),
    };
    this.#flights.set(key, flight);
    try {
      return await flight.loaded;
    } finally {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    }
  }

  async #load(flight: Flight, key: string, ttlMs: number, load: () => Promise<string>): Promise<string> {
    const { value, turn } = await this.#store.read(flight.owner, key);
    if (value !== null) return value;
    const loaded = await load();
    if (!flight.isStale && isStorable(loaded))
      await this.#store.write(flight.owner, key, loaded, ttlMs, turn);
    // Deleted while it was being written: the deletion may have come first.
    if (flight.isStale) await this.#store.remove(flight.owner, key).catch(() => undefined);
    return loaded;
  }

  /** Later calls load anew, and what these loads give is not kept. */
  #abandon(isMeant: (flight: Flight, key: string) => boolean): void {
    for (const [key, flight] of this.#flights) {
      if (!isMeant(flight, key)) continue;
      flight.isStale = true;
      this.#flights.delete(key);
    }
  }
}
