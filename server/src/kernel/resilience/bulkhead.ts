/**
 * A bound on simultaneous calls, with a bounded queue in order of arrival. It holds no timer: who waits too long leaves
 * by `leave`.
 */
export class Bulkhead {
  readonly #queueCapacity: number;
  readonly #waiting = new Set<() => void>();
  #inFlight = 0;

  constructor(queueCapacity: number) {
    this.#queueCapacity = queueCapacity;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Takes a place where fewer than `limit` are taken and nobody waits. True where it was taken; then `release` must
   * follow once.
   */
  tryEnter(limit: number): boolean {
    if (this.#inFlight >= limit || this.#waiting.size > 0) return false;
    this.#inFlight += 1;
    return true;
  }

  /**
   * Joins the queue. `onEnter` is called once, by somebody's `release`, holding a place. False where the queue is full.
   */
  join(onEnter: () => void): boolean {
    if (this.#waiting.size >= this.#queueCapacity) return false;
    this.#waiting.add(onEnter);
    return true;
  }

  /** Leaves the queue without a place; nothing happens where `onEnter` was called already. */
  leave(onEnter: () => void): void {
    this.#waiting.delete(onEnter);
  }

  /** Gives a place back: to the first who waits, if any. */
  release(): void {
    const first = this.#waiting.values().next();
    if (first.done === true) {
      this.#inFlight -= 1;
      return;
    }
    this.#waiting.delete(first.value);
    first.value();
  }
}
