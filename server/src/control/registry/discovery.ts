import type { Clock, Logger } from '#kernel';
import { toAppError } from '#kernel';
import type { ListedModel, ModelProviders, ProviderKind } from '#models';
import type { UsableProvider } from './catalog.ts';

/**
 * Keeps the lists of models that providers offer. Each provider has a loop of its own: a good listing replaces the list
 * (so a model that vanished is gone) and is repeated every 30 s; a failed one leaves the list as it is and is repeated
 * after 1 s, 2 s, 4 s, up to 30 s. So a server may come up later than Stoa, and one that is down keeps its models.
 */
export interface ListingStatus {
  readonly state: 'off' | 'pending' | 'working' | 'failing';
  readonly models: readonly ListedModel[];
  /** Wall clock of the last good listing, in milliseconds. */
  readonly lastSuccessMs: number | null;
  readonly error: string | null;
}

export interface Discovery {
  /** Starts, changes and ends loops, so that exactly these providers are listed. */
  follow(providers: readonly UsableProvider[]): void;
  statusOf(providerUuid: string): ListingStatus;
  /** The status that a provider has from when it is followed until its first listing has ended. */
  firstStatusOf(provider: { readonly kind: ProviderKind; readonly discover: boolean }): ListingStatus;
  /** Resolves when every provider was tried once, or after so many milliseconds. */
  settled(waitMs: number): Promise<void>;
  /**
   * Lists all providers now, where the last such call began at least 2 s ago; joins one that is going on. Resolves to
   * whether a listing ran, at the latest after 2 s.
   */
  refresh(): Promise<boolean>;
  readonly failures: number;
  stop(): Promise<void>;
}

export interface DiscoveryDeps {
  readonly providers: ModelProviders;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Called when a list is another than before. */
  readonly onChanged: () => void;
}

const everyMs = 30_000;
const firstRetryMs = 1000;
const listingDeadlineMs = 10_000;
const refreshEveryMs = 2000;
const refreshWaitMs = 2000;
const nothing: ListingStatus = { state: 'off', models: [], lastSuccessMs: null, error: null };
const pending: ListingStatus = { ...nothing, state: 'pending' };

export function createDiscovery(deps: DiscoveryDeps): Discovery {
  const loops = new Map<string, ListingLoop>();
  let refreshing: Promise<boolean> | null = null;
  let lastRefresh = Number.NEGATIVE_INFINITY;
  let endedFailures = 0;
  const canList = (kind: ProviderKind): boolean => {
    const provider = deps.providers.get(kind);
    return provider !== undefined && 'listModels' in provider;
  };

  return {
    follow(providers) {
      const wanted = new Map(
        providers
          .filter((one) => one.discover && canList(one.connection.kind))
          .map((provider) => [provider.uuid, provider]),
      );
      for (const [uuid, loop] of loops) {
        if (wanted.has(uuid)) continue;
        endedFailures += loop.failures;
        loop.end().catch(() => undefined);
        loops.delete(uuid);
      }
      for (const [uuid, provider] of wanted) {
        const loop = loops.get(uuid);
        if (loop) loop.change(provider);
        else loops.set(uuid, new ListingLoop(deps, provider));
      }
    },
    statusOf: (uuid) => loops.get(uuid)?.status ?? nothing,
    firstStatusOf: ({ kind, discover }) => (discover && canList(kind) ? pending : nothing),
    settled: (waitMs) => within(waitMs, Promise.all([...loops.values()].map((loop) => loop.firstTry))),
    refresh() {
      if (refreshing) return refreshing;
      const now = deps.clock.monotonic();
      if (now - lastRefresh < refreshEveryMs) return Promise.resolve(false);
      lastRefresh = now;
      const run = async (): Promise<boolean> => {
        await within(refreshWaitMs, Promise.all([...loops.values()].map((loop) => loop.listNow())));
        refreshing = null;
        return true;
      };
      refreshing = run();
      return refreshing;
    },
    get failures() {
      return endedFailures + [...loops.values()].reduce((sum, loop) => sum + loop.failures, 0);
    },
    async stop() {
      const ends = [...loops.values()].map((loop) => loop.end());
      loops.clear();
      await Promise.all(ends);
    },
  };
}

/** Resolves when the work does, or after the time; the work must not reject. */
async function within(waitMs: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeUp = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, waitMs);
  });
  await Promise.race([work, timeUp]);
  clearTimeout(timer);
}

class ListingLoop {
  status: ListingStatus = pending;
  failures = 0;
  readonly firstTry: Promise<void>;
  readonly #deps: DiscoveryDeps;
  #provider: UsableProvider;
  #running: Promise<void> | null = null;
  #abort = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #failedInRow = 0;
  #hasEnded = false;

  constructor(deps: DiscoveryDeps, provider: UsableProvider) {
    this.#deps = deps;
    this.#provider = provider;
    this.firstTry = this.listNow();
  }

  /** Another address or credential is tried at once; anything else waits for its turn. */
  change(provider: UsableProvider): void {
    const before = this.#provider.connection;
    this.#provider = provider;
    if (
      before.credentialId === provider.connection.credentialId &&
      before.baseUrl === provider.connection.baseUrl
    )
      return;
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#running = null;
    this.#failedInRow = 0;
    this.listNow().catch(() => undefined);
  }

  /** Lists once, or joins the listing that is going on. Never rejects. */
  listNow(): Promise<void> {
    if (this.#hasEnded) return Promise.resolve();
    if (this.#running) return this.#running;
    clearTimeout(this.#timer);
    const signal = this.#abort.signal;
    const run = async (): Promise<void> => {
      await this.#list(signal);
      if (signal.aborted) return;
      this.#running = null;
      this.#plan();
    };
    this.#running = run();
    return this.#running;
  }

  async end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    this.#abort.abort();
    await this.#running;
  }

  async #list(signal: AbortSignal): Promise<void> {
    const { connection } = this.#provider;
    try {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(listingDeadlineMs)]);
      const models =
        (await this.#deps.providers.get(connection.kind)?.listModels?.(connection, deadline)) ?? [];
      if (signal.aborted) return;
      this.#succeed(models);
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  #succeed(models: readonly ListedModel[]): void {
    const before = this.status;
    if (before.state !== 'working') {
      const facts = { provider: this.#provider.connection.id, models: models.length };
      this.#deps.logger.info(facts, 'the models of a provider were listed');
    }
    this.#failedInRow = 0;
    this.status = { state: 'working', models, lastSuccessMs: this.#deps.clock.now(), error: null };
    if (JSON.stringify(before.models) !== JSON.stringify(models)) this.#deps.onChanged();
  }

  #fail(error: unknown): void {
    this.failures++;
    this.#failedInRow++;
    const { publicMessage } = toAppError(error);
    if (this.status.state !== 'failing') {
      const facts = { provider: this.#provider.connection.id, reason: publicMessage };
      this.#deps.logger.warn(facts, 'the models of a provider could not be listed; it is tried again');
    }
    this.status = { ...this.status, state: 'failing', error: publicMessage };
  }

  #plan(): void {
    const delayMs =
      this.#failedInRow === 0
        ? everyMs
        : Math.min(everyMs, firstRetryMs * 2 ** Math.min(10, this.#failedInRow - 1));
    this.#timer = setTimeout(() => {
      this.listNow().catch(() => undefined);
    }, delayMs);
    this.#timer.unref();
  }
}
