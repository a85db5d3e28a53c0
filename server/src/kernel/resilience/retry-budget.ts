import type { Clock } from '../clock.ts';

/**
 * How many retries are affordable: a share of the requests, and a small floor so that rare traffic may retry at all.
 * Without it an outage multiplies its own load by the number of tries.
 *
 * A bucket of at most `capacity`: every request puts `share` in, every second `perSecond`, every retry takes 1 out.
 */
export interface RetryBudgetSettings {
  readonly share: number;
  readonly perSecond: number;
  readonly capacity: number;
}

const defaultRetryBudgetSettings: RetryBudgetSettings = { share: 0.1, perSecond: 1, capacity: 20 };

export class RetryBudget {
  readonly #clock: Clock;
  readonly #settings: RetryBudgetSettings;
  #balance: number;
  #updatedMs: number;

  constructor(clock: Clock, settings: RetryBudgetSettings = defaultRetryBudgetSettings) {
    this.#clock = clock;
    this.#settings = settings;
    this.#balance = settings.capacity;
    this.#updatedMs = clock.monotonic();
  }

  /** Counts a request that is no retry. */
  deposit(): void {
    this.#balance = Math.min(this.#settings.capacity, this.#balance + this.#settings.share);
  }

  /** Takes one retry out; false where there is none left, and then nothing is taken. */
  withdraw(): boolean {
    const nowMs = this.#clock.monotonic();
    const earned = ((nowMs - this.#updatedMs) / 1_000) * this.#settings.perSecond;
    this.#updatedMs = nowMs;
    this.#balance = Math.min(this.#settings.capacity, this.#balance + earned);
    if (this.#balance < 1) return false;
    this.#balance -= 1;
    return true;
  }
}
