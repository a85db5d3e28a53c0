/** A request that can be told to end. */
export interface Drainable {
  /** Ends now, in band where the answer has begun. */
  endForDrain(): void;
}

/** The requests that are not over. */
export class RunningRequests {
  readonly #members = new Set<Drainable>();
  #onEmpty: (() => void) | null = null;

  get size(): number {
    return this.#members.size;
  }

  add(request: Drainable): void {
    this.#members.add(request);
  }

  delete(request: Drainable): void {
    this.#members.delete(request);
    if (this.#members.size === 0) this.#onEmpty?.();
  }

  /** Waits until all are over, for at most `deadlineMs`; then ends those that are left and waits for their records. */
  async drain(deadlineMs: number): Promise<void> {
    if (this.#members.size === 0) return;
    const empty = new Promise<void>((resolve) => {
      this.#onEmpty = resolve;
    });
    const timer = setTimeout(() => {
      for (const request of this.#members) request.endForDrain();
    }, deadlineMs);
    await empty;
    clearTimeout(timer);
  }
}
