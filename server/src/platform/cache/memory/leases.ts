import type { Clock } from '#kernel';
import { checkedTtl } from '../keys.ts';
import type { Lease, Leases } from '../types.ts';

interface Held {
  readonly holder: string;
  readonly fence: number;
  expiresAtMs: number;
}

/** Leases among the parts of one process. The names are few and stated in code; they are kept for good. */
export function memoryLeases(clock: Clock): Leases {
  const held = new Map<string, Held>();
  const fences = new Map<string, number>();
  const current = ({ name, holder, fence }: Lease): Held | null => {
    const found = held.get(name);
    if (!found || found.expiresAtMs <= clock.monotonic()) return null;
    return found.holder === holder && found.fence === fence ? found : null;
  };
  return {
    async acquire({ name, holder, ttlMs, above = 0 }) {
      checkedTtl(ttlMs);
      const now = clock.monotonic();
      const found = held.get(name);
      if (found && found.expiresAtMs > now && found.holder !== holder) return null;
      // Of the time, so that it grows over restarts of the process too.
      const fence = Math.max(Math.floor(clock.now() * 1000), (fences.get(name) ?? 0) + 1, above + 1);
      fences.set(name, fence);
      held.set(name, { holder, fence, expiresAtMs: now + ttlMs });
      return { name, holder, fence };
    },
    async renew(lease, ttlMs) {
      checkedTtl(ttlMs);
      const found = current(lease);
      if (found) found.expiresAtMs = clock.monotonic() + ttlMs;
      return found !== null;
    },
    async release(lease) {
      return current(lease) !== null && held.delete(lease.name);
    },
  };
}
