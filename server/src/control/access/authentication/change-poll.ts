import type { Clock, Logger, OperatorPrincipal, TenantPrincipal } from '#kernel';
import type { KeyDirectory } from './key-directory.ts';
import type { ChangeRow } from './lookup.sql.ts';

/**
 * How a process hears of what others changed: revoked keys, changed roles, suspended tenants. Every half second one
 * query asks for the rows that changed in the last 30 seconds, and keys that are known here in an older version are read
 * anew. What this very process changes is announced to it directly, what others change by a push where they share a Redis
 * (change-push.ts); neither waits for the poll, which finds what a push lost.
 *
 * Why a window and no cursor: neither a sequence nor a time orders commits. A transaction that took its number or time
 * first may commit last, and a cursor that has gone by never sees it. A window that is longer than any transaction of
 * the control plane can take (a statement 5 s, standing still 10 s) sees every commit several times, and applying a
 * version twice changes nothing. After an outage the window reaches back to the last poll that went well.
 *
 * While polls fail, cached keys are served for at most `maximumAgeMs` since the last good one.
 */
export interface ChangePollSettings {
  /** Milliseconds between polls; default 500. */
  readonly pollIntervalMs?: number;
  /** Milliseconds that each poll looks back beyond the last good one; default 30,000. */
  readonly overlapMs?: number;
  /** Milliseconds for which cached keys are served without a good poll; default 900,000. */
  readonly maximumAgeMs?: number;
}

export interface ChangePollDeps {
  /** What changed in the last so many milliseconds, by the database's clock. */
  readonly loadChanges: (windowMs: number) => Promise<readonly ChangeRow[]>;
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly operatorKeys: KeyDirectory<OperatorPrincipal>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onFailure: () => void;
}

export class ChangePoll {
  readonly #deps: ChangePollDeps;
  readonly #settings: Required<ChangePollSettings>;
  #lastGoodMs: number;
  #isFailing = false;
  #isStopped = true;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;

  constructor(deps: ChangePollDeps, settings: ChangePollSettings) {
    this.#deps = deps;
    this.#settings = {
      pollIntervalMs: settings.pollIntervalMs ?? 500,
      overlapMs: settings.overlapMs ?? 30_000,
      maximumAgeMs: settings.maximumAgeMs ?? 900_000,
    };
    this.#lastGoodMs = deps.clock.monotonic();
  }

  /** False once cached keys are too old to be trusted. */
  isFresh(): boolean {
    return this.ageMs() <= this.#settings.maximumAgeMs;
  }

  /** Milliseconds since the last good poll began. */
  ageMs(): number {
    return this.#deps.clock.monotonic() - this.#lastGoodMs;
  }

  /** False where the last poll failed. */
  get isHealthy(): boolean {
    return !this.#isFailing;
  }

  /** Polls at once and from then on regularly; one poll begins after the one before has ended. */
  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#pollLater(0);
  }

  /** Resolves when the poll that runs has ended. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  /** One poll; never rejects. Concurrent calls share one. */
  async run(): Promise<void> {
    this.#running ??= this.#poll().finally(() => {
      this.#running = null;
    });
    await this.#running;
  }

  #pollLater(delayMs: number): void {
    const next = (): void => {
      if (!this.#isStopped) this.#pollLater(this.#settings.pollIntervalMs);
    };
    this.#timer = setTimeout(() => {
      this.run().then(next, next);
    }, delayMs);
  }

  async #poll(): Promise<void> {
    const { clock, logger, loadChanges, onFailure, tenantKeys, operatorKeys } = this.#deps;
    tenantKeys.expire();
    operatorKeys.expire();
    const startedMs = clock.monotonic();
    try {
      await this.#read(await loadChanges(this.#settings.overlapMs + startedMs - this.#lastGoodMs));
      this.#lastGoodMs = startedMs;
      if (this.#isFailing) logger.info({}, 'changes of keys and tenants are read again');
      this.#isFailing = false;
    } catch (error) {
      onFailure();
      // Once for each outage: a line every half second would bury what matters.
      if (!this.#isFailing)
        logger.warn({ err: error }, 'changes of keys and tenants cannot be read; serving what is known');
      this.#isFailing = true;
    }
  }

  /**
   * Reads what somebody says has changed and is not known here in that version. Look-ups under way ask again: they may have
   * read what was before. Rejects where the database can't be asked; what is behind is then dropped from the cache.
   */
  async apply(changes: readonly ChangeRow[]): Promise<void> {
    const { tenantKeys, operatorKeys } = this.#deps;
    if (changes.some(({ kind }) => kind !== 'operator_key')) await tenantKeys.refresh([]);
    if (changes.some(({ kind }) => kind === 'operator_key')) await operatorKeys.refresh([]);
    await this.#read(changes);
  }

  async #read(changes: readonly ChangeRow[]): Promise<void> {
    const tenantKeyIds = new Set<string>();
    const operatorKeyIds: string[] = [];
    for (const { kind, id, version } of changes) {
      const changed = { id, version: Number(version) };
      if (kind === 'tenant') {
        for (const keyId of this.#deps.tenantKeys.behindOfTenant(changed)) tenantKeyIds.add(keyId);
      } else if (kind === 'key') {
        if (this.#deps.tenantKeys.isBehind(changed)) tenantKeyIds.add(id);
      } else if (this.#deps.operatorKeys.isBehind(changed)) operatorKeyIds.push(id);
    }
    if (tenantKeyIds.size > 0) await this.#deps.tenantKeys.refresh([...tenantKeyIds]);
    if (operatorKeyIds.length > 0) await this.#deps.operatorKeys.refresh(operatorKeyIds);
  }
}
