import { createHash } from 'node:crypto';

/** Numbers from 0 up to 1, 1 excluded, always the same for the same name. */
export type Chance = () => number;

/**
 * A generator named by a text: SHA-256 of the name seeds mulberry32. So what the n-th call of a rule draws depends on
 * nothing but the seed, the rule and n, whatever else runs at the same time.
 */
export function chanceOf(name: string): Chance {
  let state = createHash('sha256').update(name).digest().readUInt32LE(0);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Milliseconds, as a rule of the script describes them. */
export type Delay =
  | { readonly distribution: 'fixed'; readonly ms: number }
  | { readonly distribution: 'uniform'; readonly min_ms: number; readonly max_ms: number }
  | { readonly distribution: 'lognormal'; readonly median_ms: number; readonly sigma: number };

/** The longest that a lognormal may draw. */
const longestMs = 600_000;

/** One draw in milliseconds. */
export function drawDelay(delay: Delay, chance: Chance): number {
  if (delay.distribution === 'fixed') return delay.ms;
  if (delay.distribution === 'uniform') return delay.min_ms + chance() * (delay.max_ms - delay.min_ms);
  // Box and Muller's normal; 1 - chance() is never 0.
  const normal = Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance());
  return Math.min(longestMs, delay.median_ms * Math.exp(delay.sigma * normal));
}

/** A vector of length 1, always the same for the same name. */
export function unitVector(name: string, dimensions: number): number[] {
  const chance = chanceOf(name);
  const raw = Array.from({ length: dimensions }, () => chance() * 2 - 1);
  const length = Math.hypot(...raw) || 1;
  return raw.map((value) => Math.fround(value / length));
}
