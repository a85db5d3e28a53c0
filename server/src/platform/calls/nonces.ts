/**
 * The nonces that were used lately, so that a signed message is taken once. An entry is kept until its message would be
 * refused as too old anyway. Only messages whose signature holds get here, so strangers cannot fill it; when it is full all
 * the same, new messages are refused rather than old nonces forgotten.
 */
export class NonceCache {
  /** When each may be forgotten, oldest first. */
  readonly #expiries = new Map<string, number>();
  readonly #capacity: number;

  /** @param capacity entries, about 150 bytes each */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#expiries.size;
  }

  /** Takes a nonce down. `seen`: it was used before; `full`: there is no room to remember it. */
  take(nonce: string, expiresAtMs: number, nowMs: number): 'new' | 'seen' | 'full' {
    this.#forget(nowMs);
    if (this.#expiries.has(nonce)) return 'seen';
    if (this.#expiries.size >= this.#capacity) return 'full';
    this.#expiries.set(nonce, expiresAtMs);
    return 'new';
  }

  /** One of a caller whose clock is ahead is kept longer, and with it what came after: at most twice the tolerance. */
  #forget(nowMs: number): void {
    for (const [nonce, expiresAtMs] of this.#expiries) {
      if (expiresAtMs >= nowMs) return;
      this.#expiries.delete(nonce);
    }
  }
}
