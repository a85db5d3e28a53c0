import type { TenantPrincipal } from '#kernel';
import type { TokenStanding } from './revocations.ts';

/** What a token that was verified is worth. Nothing here is the token itself. */
export interface VerifiedToken {
  readonly tenantId: string;
  readonly expiresAtMs: number;
  readonly standing: TokenStanding;
  /** The key that it was made with, or null for an outside issuer's. */
  readonly keyId: string | null;
  /** The principal of the key from which `principal` was narrowed; another one means that it must be narrowed anew. */
  keyPrincipal: TenantPrincipal | null;
  principal: TenantPrincipal;
  /** Of an outside issuer's token: the version of what its tenant grants to such tokens. */
  readonly grantsVersion: number;
  /**
   * Unix milliseconds from which on it is verified anew: an outside issuer may have taken its key away meanwhile. Infinity
   * for our own tokens, which live for ten minutes.
   */
  readonly recheckAtMs: number;
  /** Narrows the key's principal to the token's. */
  readonly narrow: ((key: TenantPrincipal) => TenantPrincipal) | null;
  /** Set at each use but the first; eviction passes by once. */
  isRecent: boolean;
}

/** Where all tokens are in use, one insertion must not pay for a pass over all of them. */
const sparedAtMost = 64;

/**
 * Verified tokens by the SHA-256 of their text, at most `capacity` of them; the least recently used leaves first, by second
 * chance as in the cache of keys. Expired ones leave when they are met, and with `forgetBefore`.
 */
export class TokenCache {
  readonly #capacity: number;
  readonly #tokens = new Map<string, VerifiedToken>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#tokens.size;
  }

  find(digest: string): VerifiedToken | undefined {
    return this.#tokens.get(digest);
  }

  put(digest: string, token: VerifiedToken): void {
    if (this.#tokens.size >= this.#capacity) this.#evictOne();
    this.#tokens.set(digest, token);
  }

  drop(digest: string): void {
    this.#tokens.delete(digest);
  }

  forgetBefore(nowMs: number): void {
    for (const [digest, { expiresAtMs }] of this.#tokens)
      if (expiresAtMs <= nowMs) this.#tokens.delete(digest);
  }

  #evictOne(): void {
    let spared = 0;
    for (const [digest, token] of this.#tokens) {
      this.#tokens.delete(digest);
      if (!token.isRecent || spared === sparedAtMost) return;
      token.isRecent = false;
      spared += 1;
      this.#tokens.set(digest, token);
    }
  }
}
