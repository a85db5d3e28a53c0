import type { TenantId } from '#kernel';

/**
 * Whose an entry is. It leads every key, so that what one tenant stored can't be read or limited under another;
 * `platform` owns what belongs to no tenant (an address that calls without a key, say).
 */
export type Owner = TenantId | 'platform';

export interface CacheKey {
  readonly tenantId: Owner;
  /** 1 to 256 characters of any kind. */
  readonly key: string;
}

/**
 * Values that can be made again. Whatever is stored may be gone at any time, and with the server away everything is: reads
 * then find nothing and writes store nothing, both without an error.
 */
export interface Cache {
  /** The value, or null where there is none, it is too old, or the server is away. Never rejects. */
  get(at: CacheKey): Promise<string | null>;
  /**
   * Stores well-formed text for `ttlMs` (1 to 86,400,000). False where it was not stored: it is larger than 1 MiB of
   * UTF-8 (an older value of that key is gone then too), or the server is away. Never rejects.
   */
  set(entry: CacheKey & { readonly value: string; readonly ttlMs: number }): Promise<boolean>;
  /** Rejects with `cache_unavailable` where the server is away: what was stored may then be read again until its time. */
  delete(at: CacheKey): Promise<void>;
  /** All entries of one owner at once, whatever their number. Rejects like `delete`. */
  deleteTenant(tenantId: Owner): Promise<void>;
  /**
   * The stored value, else what `load` gives, which is stored. Concurrent calls for one key in one process share one load,
   * and its failure. What was deleted while a load ran is not stored by it; for `delete` in another process this does
   * not hold, so let such values live shortly.
   */
  getOrLoad(at: CacheKey & { readonly ttlMs: number }, load: () => Promise<string>): Promise<string>;
}

/** `limit` per `periodMs` in the long run, at most `burst` at once; whole numbers from 1. */
export interface LimitRule {
  readonly limit: number;
  readonly periodMs: number;
  readonly burst: number;
}

export interface LimitRequest extends CacheKey, LimitRule {
  /** What this call takes, a whole number; 0 asks without taking. */
  readonly cost: number;
}

export interface LimitOutcome {
  readonly isAllowed: boolean;
  /** What could be taken at once after this call. */
  readonly remaining: number;
  /** After so long the same call is allowed if nobody else takes; 0 where it was, null where it exceeds `burst`. */
  readonly retryAfterMs: number | null;
  /** After so long, nobody taking, `remaining` is `burst` again. */
  readonly resetAfterMs: number;
}

/** What came of several limits that one call meets together. */
export interface LimitsOutcome {
  /** Whether all of them let it pass. */
  readonly isAllowed: boolean;
  /** One each, in the order of the requests. Where one refuses, nothing was taken, and the others say how they stand. */
  readonly outcomes: readonly LimitOutcome[];
  /** Microseconds by the clock of these limits; a correction names it. */
  readonly takenAtUs: number;
}

/** What a call turned out to cost, after `cost` of it was taken from a limit. */
export interface LimitCorrection extends LimitRequest {
  readonly used: number;
  /** Of the outcome by which `cost` was taken. */
  readonly takenAtUs: number;
}

/** Rate limits by GCRA, each call one atomic step. What is refused takes nothing. */
export interface Limits {
  /**
   * Answers at once from memory, by a promise from a server. Rejects with `cache_unavailable` where the server is away:
   * the caller decides whether its class of requests then passes. Throws RangeError for a rule whose numbers don't fit
   * (gcra.ts says which).
   */
  take(request: LimitRequest): LimitOutcome | Promise<LimitOutcome>;
  /** Takes from all of them or from none, in one step and one round trip. 1 to 64 requests, their keys all different. Else like `take`. */
  takeAll(requests: readonly LimitRequest[]): LimitsOutcome | Promise<LimitsOutcome>;
  /**
   * Once a call's real cost is known: more than was taken is owed (up to the burst once more, so that one call blocks a
   * limit for a bounded time), less is given back as far as time has not paid it off (gcra.ts says why). Does nothing where
   * the rule is another by now. Not idempotent: call it once. Rejects like `take`.
   */
  correct(correction: LimitCorrection): void | Promise<void>;
}

/** How many processes do the same thing, as far as this one knows. */
export interface RollCall {
  /**
   * Announces this process under a name (lower-case letters and hyphens), until it leaves; a process that dies is counted
   * for another ten seconds.
   */
  join(name: string): Presence;
}

export interface Presence {
  /** Those last seen, this one among them: it stays as it was while the server is away. Null where none was ever seen. */
  readonly count: number | null;
  /** Resolves when it is no longer counted, or the server is away. Never rejects. */
  leave(): Promise<void>;
}

/** One holding of a lease. Only the latest fence of a name is good; write it beside what the holder changes. */
export interface Lease {
  readonly name: string;
  readonly holder: string;
  /** Larger than that of every earlier holding of this name, also after the server lost its data. */
  readonly fence: number;
}

/**
 * Who may do what only one may do at a time. A lease ends by the server's time; its holder counts `ttlMs` from before
 * its call, and so always believes it to end earlier. All calls reject with `cache_unavailable` where the server is away.
 */
export interface Leases {
  /**
   * Null where another holder has it. The same holder gets it anew with a new fence, so that a lost answer costs nothing.
   * `above`: the largest fence that the caller knows of from elsewhere (the rows that it guards, say); the new one is larger.
   */
  acquire(wanted: {
    readonly name: string;
    readonly holder: string;
    readonly ttlMs: number;
    readonly above?: number;
  }): Promise<Lease | null>;
  /** From now on for another `ttlMs`. False where it ended or is another's: stop working. */
  renew(lease: Lease, ttlMs: number): Promise<boolean>;
  /** False where it had ended or is another's. */
  release(lease: Lease): Promise<boolean>;
}

/** What changed, never the change itself: readers go to the database, which holds the truth. */
export interface BroadcastMessage {
  /** As in `access.key`; names what `key` and `version` mean. */
  readonly topic: string;
  readonly tenantId?: string;
  readonly key?: string;
  /** Of the row that changed; a reader that knows this version or a later one has nothing to do. */
  readonly version: number;
}

export interface BroadcastHandlers {
  onMessage(message: BroadcastMessage): void;
  /** Messages may have been missed up to now: read everything again. Told after each connecting, the first included. */
  onMissed(): void;
}

/**
 * Small messages to every process, the sender's included, at most once each. It makes invalidation quick and never sure:
 * beneath it stands a poll.
 */
export interface Broadcast {
  /** Sends and forgets; never throws. What can't be sent is counted, and the poll of the others finds the change. */
  publish(message: BroadcastMessage): void;
  /** Handlers must not throw; one that does is logged. The answer ends the subscription. */
  subscribe(topic: string, handlers: BroadcastHandlers): () => void;
}
