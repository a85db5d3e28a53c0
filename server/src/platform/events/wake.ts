import { randomUUID } from 'node:crypto';
import { sql } from 'kysely';
import type { Database } from '#db';
import type { Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { eventLogMetrics } from './metrics.ts';
import { createWakeListener, type WakeListener, wakeChannel } from './wake-listener.ts';
import { hasWrittenEvents } from './writers.ts';

/**
 * Wake-ups: a hint that events were committed, here or in another process, so that nobody has to poll fast.
 *
 * Between processes it is a NOTIFY, which takes a lock of the whole server when its transaction commits. So no writer
 * sends one: it goes out afterwards in a transaction of its own, at most one each 20 ms for all that happened. It may be
 * lost (a pooler between, a connection that broke, a full queue): every listener is also woken each 250 to 500 ms.
 */
export interface WakeUps extends Lifecycle {
  /** Something was committed. Returns at once and never throws. */
  announce(): void;
  /** Called within milliseconds of a commit, and when nothing happened too. Answers how to stop it. */
  onWake(listener: () => void): () => void;
}

export interface WakeUpDeps {
  readonly db: Database;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** 0 up to 1, 1 excluded; default Math.random. */
  readonly random?: () => number;
}

export interface WakeUpSettings {
  /** Where others are heard, on PostgreSQL: any login's URL, past a pooler in transaction mode. Null: only polled. */
  readonly listenUrl: string | null;
  /** Between two notices of this process at least, in milliseconds; default 20. */
  readonly gapMs?: number;
  /** Between two polls at least, and at most twice of it, in milliseconds; default 250. */
  readonly pollMs?: number;
}

/** On PGlite there is one process, and nothing is sent or heard. */
export function createWakeUps(deps: WakeUpDeps, settings: WakeUpSettings): WakeUps {
  return new Waker(deps, settings);
}

class Waker implements WakeUps {
  readonly #deps: WakeUpDeps;
  readonly #gapMs: number;
  readonly #pollMs: number;
  readonly #listeners = new Set<() => void>();
  /** In every notice, so that a process passes over its own. */
  readonly #sender = randomUUID();
  readonly #ear: WakeListener | null;
  readonly #sent: (outcome: 'sent' | 'failed') => void;
  #notice: NodeJS.Timeout | undefined;
  #poll: NodeJS.Timeout | undefined;
  #lastAtMs = -Infinity;
  #isWanted = false;
  #isStopped = false;
  #sending: Promise<void> | null = null;

  constructor(deps: WakeUpDeps, settings: WakeUpSettings) {
    this.#deps = deps;
    this.#gapMs = settings.gapMs ?? 20;
    this.#pollMs = settings.pollMs ?? 250;
    const { listenUrl } = settings;
    const hear = (sender: string | null): void => {
      if (sender !== this.#sender) this.#wake();
    };
    this.#ear = listenUrl === null ? null : createWakeListener(listenUrl, deps.logger, hear);
    const notices = deps.metrics.counter(eventLogMetrics.notices);
    this.#sent = (outcome) => notices.add(1, { outcome });
    deps.metrics.observedGauge(eventLogMetrics.isListening, () => (this.#ear?.isListening === true ? 1 : 0));
  }

  async start(): Promise<void> {
    this.#planPoll();
    this.#ear?.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#poll);
    clearTimeout(this.#notice);
    await this.#sending;
    // What the last writers committed: their process goes, and others would learn of it by their poll only.
    if (this.#isWanted) await this.#send();
    await this.#ear?.stop();
  }

  announce(): void {
    this.#isWanted = true;
    this.#plan();
  }

  onWake(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #plan(): void {
    if (this.#notice !== undefined || this.#sending !== null || this.#isStopped) return;
    const delayMs = Math.max(0, this.#lastAtMs + this.#gapMs - performance.now());
    this.#notice = setTimeout(() => {
      this.#notice = undefined;
      this.#lastAtMs = performance.now();
      this.#wake();
      this.#sending = this.#send().then(() => {
        this.#sending = null;
        if (this.#isWanted) this.#plan();
      });
    }, delayMs);
  }

  async #send(): Promise<void> {
    this.#isWanted = false;
    if (this.#deps.db.adapter === 'pglite') return;
    try {
      await this.#deps.db.withSystem('relay', (tx) =>
        sql`select pg_notify(${wakeChannel}::text, ${this.#sender}::text)`.execute(tx),
      );
      this.#sent('sent');
    } catch (error) {
      // Others poll.
      this.#sent('failed');
      this.#deps.logger.debug({ err: error }, 'a wake-up could not be sent');
    }
  }

  #planPoll(): void {
    if (this.#isStopped) return;
    const random = this.#deps.random ?? Math.random;
    this.#poll = setTimeout(
      () => {
        this.#wake();
        this.#planPoll();
      },
      this.#pollMs * (1 + random()),
    );
    this.#poll.unref();
  }

  #wake(): void {
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch (error) {
        this.#deps.logger.error({ err: error }, 'a listener of wake-ups threw');
      }
    }
  }
}

/** The database as it is, but that each commit of a transaction that wrote events is announced. */
export function announceCommits(db: Database, announce: () => void): Database {
  /** Runs a door; `fn` is wrapped by the caller because each door has a handle of its own. */
  async function announced<T>(run: (noteWritten: (hasWritten: boolean) => void) => Promise<T>): Promise<T> {
    let isWritten = false;
    const result = await run((hasWritten) => {
      isWritten = hasWritten;
    });
    if (isWritten) announce();
    return result;
  }
  return {
    ...db,
    withTenant: (context, fn, options) =>
      announced((noteWritten) =>
        db.withTenant(
          context,
          async (tx) => fn(tx).finally(() => noteWritten(hasWrittenEvents(tx))),
          options,
        ),
      ),
    withOperator: (context, reason, fn, options) =>
      announced((noteWritten) =>
        db.withOperator(
          context,
          reason,
          async (tx) => fn(tx).finally(() => noteWritten(hasWrittenEvents(tx))),
          options,
        ),
      ),
    withSystem: (job, fn, options) =>
      announced((noteWritten) =>
        db.withSystem(job, async (tx) => fn(tx).finally(() => noteWritten(hasWrittenEvents(tx))), options),
      ),
  };
}
