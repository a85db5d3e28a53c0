import type { Clock } from '#kernel';
import { type CacheStore, LoadingCache } from '../loading-cache.ts';
import type { Cache, Owner } from '../types.ts';

export interface MemoryCacheSettings {
  /** Entries; default 10,000. */
  readonly maximumEntries?: number;
  /** Estimated bytes of keys and values; default 64 MiB. */
  readonly maximumBytes?: number;
}

interface Entry {
  readonly owner: Owner;
  readonly value: string;
  readonly expiresAtMs: number;
  readonly sizeBytes: number;
}

/** What an entry costs beside its texts: the object, two slots of maps, a slot of a set. */
const entryOverheadBytes = 200;

/** In this process. When full, the least recently used entry goes. */
export function memoryCache(clock: Clock, settings: MemoryCacheSettings = {}): Cache {
  return new LoadingCache(new MemoryStore(clock, settings));
}

class MemoryStore implements CacheStore {
  readonly #clock: Clock;
  readonly #maximumEntries: number;
  readonly #maximumBytes: number;
  /** In order of use, the least recent first. */
  readonly #entries = new Map<string, Entry>();
  readonly #keysByOwner = new Map<Owner, Set<string>>();
  #sizeBytes = 0;

  constructor(clock: Clock, settings: MemoryCacheSettings) {
    this.#clock = clock;
    this.#maximumEntries = settings.maximumEntries ?? 10_000;
    this.#maximumBytes = settings.maximumBytes ?? 64 * 1024 * 1024;
  }

  async read(_owner: Owner, key: string): Promise<{ value: string | null; turn: null }> {
    const entry = this.#entries.get(key);
    if (!entry) return { value: null, turn: null };
    this.#drop(key, entry);
    if (entry.expiresAtMs <= this.#clock.monotonic()) return { value: null, turn: null };
    this.#put(key, entry);
    return { value: entry.value, turn: null };
  }

  async write(owner: Owner, key: string, value: string, ttlMs: number): Promise<boolean> {
    const known = this.#entries.get(key);
    if (known) this.#drop(key, known);
    const sizeBytes = entryOverheadBytes + 2 * (key.length + value.length);
    if (sizeBytes > this.#maximumBytes) return false;
    this.#put(key, { owner, value, expiresAtMs: this.#clock.monotonic() + ttlMs, sizeBytes });
    while (this.#entries.size > this.#maximumEntries || this.#sizeBytes > this.#maximumBytes) {
      const [oldest] = this.#entries;
      if (oldest) this.#drop(...oldest);
    }
    return true;
  }

  async remove(_owner: Owner, key: string): Promise<void> {
    const entry = this.#entries.get(key);
    if (entry) this.#drop(key, entry);
  }

  async removeOwner(owner: Owner): Promise<void> {
    for (const key of this.#keysByOwner.get(owner) ?? []) await this.remove(owner, key);
  }

  #put(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#sizeBytes += entry.sizeBytes;
    const keys = this.#keysByOwner.get(entry.owner) ?? new Set();
    this.#keysByOwner.set(entry.owner, keys.add(key));
  }

  #drop(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#sizeBytes -= entry.sizeBytes;
    const keys = this.#keysByOwner.get(entry.owner);
    keys?.delete(key);
    if (keys?.size === 0) this.#keysByOwner.delete(entry.owner);
  }
}
