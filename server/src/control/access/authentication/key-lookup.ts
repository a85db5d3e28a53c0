import { AppError, toAppError } from '#kernel';
import { tooManyLookups } from '../refusals.ts';

/**
 * Look-ups of keys that are not cached, so that neither a cold start with ten thousand tenants nor a flood of invented
 * keys turns into as many queries. At most one look-up of an id runs at a time, whoever waits for it; ids that arrive
 * while queries run wait and go out together; beyond a bound of waiting ids the answer is `overloaded`. Ids that are in
 * no table are remembered for a short while, a bounded number of them.
 */
export interface KeyLookupSettings {
  /** Queries at a time; default 2. */
  readonly concurrentQueries?: number;
  /** Ids in one query; default 500. */
  readonly idsPerQuery?: number;
  /** Ids that wait or are being looked up; default 5,000. */
  readonly pendingIds?: number;
  /** Ids remembered as unknown; default 10,000. */
  readonly unknownIds?: number;
  /** Milliseconds for which they are; default 10,000. */
  readonly unknownForMs?: number;
}

export interface KeyLookupPorts<Found> {
  /** Loads what is there of these ids. Ids that are in no table are missing from the answer. */
  readonly load: (keyIds: readonly string[]) => Promise<ReadonlyMap<string, Found>>;
  /** Monotonic milliseconds. */
  readonly monotonic: () => number;
}

interface Waiting<Found> {
  readonly promise: Promise<Found | null>;
  readonly resolve: (found: Found | null) => void;
  readonly reject: (error: AppError) => void;
}

export class KeyLookup<Found> {
  readonly #ports: KeyLookupPorts<Found>;
  readonly #settings: Required<KeyLookupSettings>;
  readonly #pending = new Map<string, Waiting<Found>>();
  readonly #unknownUntilMs = new Map<string, number>();
  #queue: string[] = [];
  #running = 0;

  constructor(ports: KeyLookupPorts<Found>, settings: KeyLookupSettings = {}) {
    this.#ports = ports;
    this.#settings = {
      concurrentQueries: settings.concurrentQueries ?? 2,
      idsPerQuery: settings.idsPerQuery ?? 500,
      pendingIds: settings.pendingIds ?? 5000,
      unknownIds: settings.unknownIds ?? 10_000,
      unknownForMs: settings.unknownForMs ?? 10_000,
    };
  }

  /** Ids that wait or are being looked up. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Ids remembered as unknown. */
  get unknownCount(): number {
    return this.#unknownUntilMs.size;
  }

  /**
   * What the database has under an id, or null. Rejects with `overloaded` where too many ids wait, and with what the
   * database says where it can't be asked.
   */
  async find(keyId: string): Promise<Found | null> {
    if (this.#isUnknown(keyId)) return null;
    const running = this.#pending.get(keyId);
    if (running) return running.promise;
    if (this.#pending.size >= this.#settings.pendingIds) throw tooManyLookups;
    const waiting: Waiting<Found> = Promise.withResolvers<Found | null>();
    this.#pending.set(keyId, waiting);
    this.#queue.push(keyId);
    this.#startQueries();
    return waiting.promise;
  }

  #isUnknown(keyId: string): boolean {
    const untilMs = this.#unknownUntilMs.get(keyId);
    if (untilMs === undefined) return false;
    if (this.#ports.monotonic() < untilMs) return true;
    this.#unknownUntilMs.delete(keyId);
    return false;
  }

  #rememberUnknown(keyId: string): void {
    const oldest = this.#unknownUntilMs.keys().next();
    if (this.#unknownUntilMs.size >= this.#settings.unknownIds && oldest.done !== true)
      this.#unknownUntilMs.delete(oldest.value);
    this.#unknownUntilMs.set(keyId, this.#ports.monotonic() + this.#settings.unknownForMs);
  }

  #startQueries(): void {
    while (this.#running < this.#settings.concurrentQueries && this.#queue.length > 0) {
      const keyIds = this.#queue.slice(0, this.#settings.idsPerQuery);
      this.#queue = this.#queue.slice(keyIds.length);
      this.#running += 1;
      this.#query(keyIds);
    }
  }

  /** Each waiting caller gets the outcome, whatever it is. */
  #query(keyIds: readonly string[]): void {
    const goOn = (): void => {
      this.#running -= 1;
      this.#startQueries();
    };
    this.#load(keyIds).then(goOn, goOn);
  }

  /** Never rejects. An id that no text column holds is in no table, and must not fail those that it went out with. */
  async #load(keyIds: readonly string[]): Promise<void> {
    try {
      const found = await this.#ports.load(keyIds);
      for (const keyId of keyIds) this.#settle(keyId, found.get(keyId) ?? null);
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'invalid_text') {
        for (const keyId of keyIds) this.#take(keyId)?.reject(toAppError(error));
      } else if (keyIds.length === 1) {
        for (const keyId of keyIds) this.#settle(keyId, null);
      } else {
        const half = Math.ceil(keyIds.length / 2);
        await this.#load(keyIds.slice(0, half));
        await this.#load(keyIds.slice(half));
      }
    }
  }

  #settle(keyId: string, found: Found | null): void {
    if (found === null) this.#rememberUnknown(keyId);
    this.#take(keyId)?.resolve(found);
  }

  #take(keyId: string): Waiting<Found> | undefined {
    const waiting = this.#pending.get(keyId);
    this.#pending.delete(keyId);
    return waiting;
  }
}
