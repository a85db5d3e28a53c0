/**
 * Sessions over PGlite. It has one session, so doors queue first come first served: at most 1,000 wait, each at most
 * its own deadline; the next one is refused with `overloaded`.
 *
 * A statement past its deadline ends the thread (nothing else stops it). Its caller gets `deadline_exceeded` at once,
 * the transaction is gone as after a crash, and the next door waits for a new thread to open the same folder: about
 * 0.3 s. A database in memory starts again from its snapshot, or empty: only tests use one.
 */

import { AppError } from '#kernel';
import {
  defaultIdleLimitMs,
  type Door,
  type EncodedParameter,
  type Session,
  type SessionSource,
  type StatementResult,
} from '../session.ts';
import { deadlineExceeded } from '../sql-error.ts';
import type { PgliteSettings } from '../types.ts';
import { Checkpoints } from './checkpoints.ts';
import { WorkerClient } from './worker-client.ts';

const largestQueue = 1000;
const closeDeadlineMs = 10_000;
const longestDoorMs = 600_000;

interface Waiter {
  readonly resolve: () => void;
}

export interface PgliteSource extends SessionSource {
  /** The whole data directory as a tar, for tests to start from. No door may be open. */
  dump(): Promise<Uint8Array>;
}

class PgliteSession implements Session {
  readonly #client: WorkerClient;
  readonly #giveBack: (isClean: boolean) => void;

  constructor(client: WorkerClient, giveBack: (isClean: boolean) => void) {
    this.#client = client;
    this.#giveBack = giveBack;
  }

  async script(sql: string, deadlineMs: number): Promise<void> {
    await this.#client.send({ kind: 'script', sql }, deadlineMs);
  }

  async query(
    sql: string,
    parameters: readonly EncodedParameter[],
    deadlineMs: number,
  ): Promise<StatementResult> {
    return this.#client.send({ kind: 'query', sql, parameters }, deadlineMs);
  }

  isUsable(): boolean {
    return !this.#client.hasEnded;
  }

  release(isClean: boolean): void {
    this.#giveBack(isClean);
  }
}

class SingleSessionSource implements PgliteSource {
  readonly adapter = 'pglite';
  readonly idleLimitMs: number;
  readonly #settings: PgliteSettings;
  readonly #checkpoints: Checkpoints;
  #client: WorkerClient;
  #isBusy = false;
  #isClosed = false;
  #waiters: Waiter[] = [];
  #reopening: Promise<void> | null = null;

  constructor(settings: PgliteSettings) {
    this.#settings = settings;
    this.#checkpoints = new Checkpoints(settings.checkpoints);
    this.idleLimitMs = settings.idleLimitMs ?? defaultIdleLimitMs;
    this.#client = this.#newClient();
  }

  async opened(): Promise<void> {
    await this.#client.opened();
  }

  begin(door: Door): string {
    return `begin; set local role stoa_${door}`;
  }

  async acquire(_door: Door, deadlineMs: number, signal: AbortSignal | undefined): Promise<Session> {
    if (this.#isClosed) throw new AppError('database_unavailable', 'The database is closed.');
    if (this.#isBusy) await this.#wait(deadlineMs, signal);
    else this.#isBusy = true;
    if (this.#isClosed) throw new AppError('database_unavailable', 'The database is closed.');
    try {
      if (this.#client.hasEnded) await this.#reopen();
    } catch (error) {
      this.#next();
      throw error;
    }
    return new PgliteSession(this.#client, (isClean) => this.#takeBack(isClean));
  }

  async dump(): Promise<Uint8Array> {
    const session = await this.acquire('migration', closeDeadlineMs, undefined);
    try {
      const { dump } = await this.#client.send({ kind: 'dump' }, closeDeadlineMs);
      if (dump === null) throw new Error('the database thread sent no dump');
      return dump;
    } finally {
      session.release(true);
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    try {
      // Taking the session waits for open doors, each of which ends by its own deadlines.
      await this.acquire('migration', longestDoorMs, undefined);
      this.#isClosed = true;
      await this.#client.send({ kind: 'close' }, closeDeadlineMs);
    } finally {
      this.#isClosed = true;
      await this.#client.terminate();
      for (const waiter of this.#waiters.splice(0)) waiter.resolve();
    }
  }

  #newClient(): WorkerClient {
    const { directory, snapshot } = this.#settings;
    return new WorkerClient({ directory: directory ?? null, snapshot: snapshot ?? null });
  }

  async #reopen(): Promise<void> {
    this.#reopening ??= this.#replaceClient().finally(() => {
      this.#reopening = null;
    });
    await this.#reopening;
  }

  async #replaceClient(): Promise<void> {
    // The old thread must be gone before another opens its files.
    await this.#client.terminate();
    this.#client = this.#newClient();
    await this.#client.opened();
  }

  async #wait(deadlineMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiters.length >= largestQueue) {
      throw new AppError('overloaded', 'Too many transactions wait for the database.', {
        retryAfterMs: 1000,
      });
    }
    const turn = Promise.withResolvers<void>();
    const waiter: Waiter = { resolve: turn.resolve };
    const leave = (error: unknown): void => {
      const index = this.#waiters.indexOf(waiter);
      // Not in the queue any more: the turn has come, and the session is this caller's to use.
      if (index === -1) return;
      this.#waiters.splice(index, 1);
      turn.reject(error);
    };
    this.#waiters.push(waiter);
    const timer = setTimeout(() => leave(deadlineExceeded('waiting for its turn')), deadlineMs);
    const onAbort = (): void => leave(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await turn.promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #takeBack(isClean: boolean): void {
    if (isClean && this.#checkpoints.isDue && !this.#isClosed && !this.#client.hasEnded) {
      // Where it fails, the thread is in a state that nobody knows, as after a transaction that did not end well.
      this.#checkpoints.run(this.#client).then(
        () => this.#next(),
        () => this.#takeBack(false),
      );
      return;
    }
    if (isClean || this.#client.hasEnded) {
      this.#next();
      return;
    }
    // The transaction's state is unknown: the thread is replaced before anybody else runs in it.
    const goOn = (): void => this.#next();
    this.#client.terminate().then(goOn, goOn);
  }

  #next(): void {
    const waiter = this.#waiters.shift();
    if (waiter === undefined) this.#isBusy = false;
    else waiter.resolve();
  }
}

/** Opens PGlite. Resolves when it answers; rejects with `database_unavailable` where the folder can't be opened. */
export async function openPglite(settings: PgliteSettings): Promise<PgliteSource> {
  const source = new SingleSessionSource(settings);
  await source.opened();
  return source;
}
