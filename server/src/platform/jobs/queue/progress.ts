import type { Database } from '#db';
import type { Logger } from '#kernel';
import { type TakenJob, writeProgress } from './jobs.sql.ts';

const betweenMs = 1000;
const longestNote = 200;

/** What a run says of itself: written at most once a second, the last word before the attempt ends. */
export class Progress {
  readonly #db: Pick<Database, 'withSystem'>;
  readonly #logger: Logger;
  readonly #taken: TakenJob;
  #waiting: { readonly value: number; readonly note: string | null } | null = null;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(deps: { db: Pick<Database, 'withSystem'>; logger: Logger }, taken: TakenJob) {
    this.#db = deps.db;
    this.#logger = deps.logger;
    this.#taken = taken;
  }

  report(value: number, note?: string): void {
    const within = Math.min(1, Math.max(0, Number.isFinite(value) ? value : 0));
    const text = note?.toWellFormed().replaceAll('\0', '').slice(0, longestNote).toWellFormed() ?? null;
    this.#waiting = { value: within, note: text };
    if (this.#timer !== undefined) return;
    this.#write();
    this.#timer = setInterval(() => {
      if (this.#waiting !== null) return this.#write();
      clearInterval(this.#timer);
      this.#timer = undefined;
    }, betweenMs);
    this.#timer.unref();
  }

  /** Writes what waits, and nothing afterwards. */
  async end(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#waiting !== null) this.#write();
    await this.#writing;
  }

  #write(): void {
    const waiting = this.#waiting;
    if (waiting === null) return;
    this.#waiting = null;
    this.#writing = this.#writing
      .then(() =>
        this.#db.withSystem('jobs', (tx) => writeProgress(tx, this.#taken, waiting.value, waiting.note)),
      )
      .catch((error: unknown) => {
        this.#logger.debug({ err: error, job: this.#taken.name }, "a job's progress could not be written");
      });
  }
}
