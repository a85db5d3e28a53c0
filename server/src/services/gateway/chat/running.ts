import { Roster, type RosterPlace } from '#kernel';

/** A request that can be told to end. */
export interface Drainable {
  /** Ends now, in band where the answer has begun. */
  endForDrain(): void;
}

/** The requests that are not over. */
export class RunningRequests {
  readonly #members = new Roster<Drainable>();
  #onEmpty: (() => void) | null = null;

  get size(): number {
    return this.#members.size;
  }

  add(request: Drainable): RosterPlace<Drainable> {
    return this.#members.add(request);
  }

  delete(place: RosterPlace<Drainable>): void {
    this.#members.remove(place);
    if (this.#members.size === 0) this.#onEmpty?.();
  }

  /** Waits until all are over, for at most `deadlineMs`; then ends those that are left and waits for their records. */
  async drain(deadlineMs: number): Promise<void> {
    if (this.#members.size === 0) return;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    const timer = setTimeout(() => {
      this.#members.forEach((request) => request.endForDrain());
    }, deadlineMs);
    await empty;
    clearTimeout(timer);
  }
}
