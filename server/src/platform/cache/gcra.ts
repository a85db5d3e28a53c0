import type { LimitOutcome, LimitRule } from './types.ts';

/**
 * The generic cell rate algorithm, in whole numbers.
 *
 * A limit of `limit` per period is a debt that time pays off evenly, and a call passes if the debt with its cost does not
 * exceed the burst. (The usual form keeps the "theoretical arrival time", which is now plus the time to pay off the debt;
 * in whole microseconds that time can't be written down for most limits: 3 per second is one each 333,333.33 of them.)
 *
 * So the debt is counted in a unit in which both are whole: a cost of 1 weighs `weight`, and a microsecond pays off
 * `drain`, with weight / drain = period / limit in lowest terms. Nothing is ever rounded in the state; times that are
 * answered are rounded up, and what remains is rounded down.
 *
 * Bounds: Lua and JavaScript count in the same doubles, which hold whole numbers to 2^53 and whose quotient, rounded down,
 * is exact while numerators stay below 2^52. The largest debt is twice burst x weight (after a correction), so a rule
 * whose burst x weight exceeds 2^51 is refused. After reduction that is far away: 10^9 tokens a minute weigh 3, 100,000 a day 864,000.
 *
 * A call whose cost is known only afterwards takes an estimate and is corrected (`gcraCorrection`). What it used beyond the
 * estimate is owed, up to the burst once more. What it did not use can't simply be given back: time has paid off the whole
 * estimate meanwhile, and paid twice it would let more than the limit pass. Had the true cost been taken at once, the debt
 * would now be smaller by what was not used, but at most by what of the estimate can't have been paid off since: all that
 * came later stands on top of it. So no more than that is given back, and the debt is never smaller than that of the
 * true costs: over any window, what was used is at most the burst and what the window pays off.
 *
 * A clock that goes back pays nothing off for that once, and time counts from there: the step that finds it writes the new
 * time down even where it refuses, or a full debt would block its key until the clock has come back to where it was.
 *
 * A rule may change under a debt (a plan, an operator). The debt is paid off by the old rule up to now and then taken over
 * in requests, rounded up and at most the new burst.
 *
 * redis/limits.ts holds the same steps in Lua; limits.contract.ts holds both to one exact oracle.
 */
export interface GcraScale {
  readonly weight: number;
  readonly drain: number;
  readonly burst: number;
}

/** What is kept of one key. */
export interface GcraState {
  readonly debt: number;
  /** Microseconds at which the debt was this. */
  readonly atUs: number;
  readonly weight: number;
  readonly drain: number;
}

export interface GcraStep {
  readonly outcome: LimitOutcome;
  /** Null where nothing was taken and what is kept stays as it is. */
  readonly state: GcraState | null;
}

const largest = 2 ** 51;
/** How many bursts a correction may make a key owe. */
const burstsOwedAtMost = 2;

/** The rule in whole numbers; RangeError where they are none, are below 1, or get too large. */
export function gcraScale({ limit, periodMs, burst }: LimitRule): GcraScale {
  if (!isCount(limit) || !isCount(periodMs) || !isCount(burst))
    throw new RangeError('limit, periodMs and burst must be whole numbers from 1');
  const periodUs = periodMs * 1000;
  const divisor = greatestCommonDivisor(periodUs, limit);
  const [weight, drain] = [periodUs / divisor, limit / divisor];
  if (periodUs > largest || drain > largest || burst > largest / weight)
    throw new RangeError('the numbers of this limit are too large together; choose rounder or smaller ones');
  return { weight, drain, burst };
}

/** What is wrong with a rule, for whoever set it; null where nothing is. */
export function limitRuleFault(rule: LimitRule): string | null {
  try {
    gcraScale(rule);
    return null;
  } catch (error) {
    if (error instanceof RangeError) return error.message;
    throw error;
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

export function checkedCost(cost: number): number {
  if (!Number.isSafeInteger(cost) || cost < 0) throw new RangeError('cost must be a whole number from 0');
  return cost;
}

/** One call at `nowUs`. Costs about 0.1 us. */
export function gcraStep(kept: GcraState | null, scale: GcraScale, cost: number, nowUs: number): GcraStep {
  const { weight, drain, burst } = scale;
  const capacity = burst * weight;
  const debt = kept === null ? 0 : debtAt(kept, scale, nowUs);
  const untaken = kept !== null && kept.atUs > nowUs ? { ...kept, atUs: nowUs } : null;
  if (cost > burst) return { outcome: outcomeOf(scale, debt, null), state: untaken };
  const wanted = debt + cost * weight;
  if (wanted > capacity)
    return { outcome: outcomeOf(scale, debt, millisecondsFor(wanted - capacity, drain)), state: untaken };
  const state = cost === 0 ? untaken : { debt: wanted, atUs: nowUs, weight, drain };
  return { outcome: outcomeOf(scale, wanted, 0), state };
}

/**
 * What is kept once a call that took `cost` at `takenAtUs` is known to have used `used`; null where that stays as it is.
 * Costs about 0.1 us.
 */
export function gcraCorrection(
  kept: GcraState | null,
  scale: GcraScale,
  { cost, used, takenAtUs }: { readonly cost: number; readonly used: number; readonly takenAtUs: number },
  nowUs: number,
): GcraState | null {
  const { weight, drain, burst } = scale;
  if (used === cost || (kept !== null && (kept.weight !== weight || kept.drain !== drain))) return null;
  const debt = kept === null ? 0 : debtAt(kept, scale, nowUs);
  if (used > cost) {
    const owed = debt + Math.min(used - cost, burst) * weight;
    return { debt: Math.min(owed, burstsOwedAtMost * burst * weight), atUs: nowUs, weight, drain };
  }
  const taken = Math.min(cost, burst) * weight;
  const elapsedUs = Math.max(0, nowUs - takenAtUs);
  const unpaid = elapsedUs >= Math.ceil(taken / drain) ? 0 : taken - elapsedUs * drain;
  const back = Math.min((cost - used) * weight, unpaid, debt);
  return back === 0 ? null : { debt: debt - back, atUs: nowUs, weight, drain };
}

/** Microseconds until nothing is left to pay off, from `atUs`; what is kept means nothing after that. */
export function gcraLifeUs({ debt, drain }: GcraState): number {
  return Math.ceil(debt / drain);
}

function debtAt(kept: GcraState, { weight, drain, burst }: GcraScale, nowUs: number): number {
  const elapsedUs = Math.max(0, nowUs - kept.atUs);
  // Compared as times, since the product could leave the bounds.
  const debt = elapsedUs >= gcraLifeUs(kept) ? 0 : kept.debt - elapsedUs * kept.drain;
  if (kept.weight === weight && kept.drain === drain)
    return Math.min(debt, burstsOwedAtMost * burst * weight);
  return Math.min(Math.ceil(debt / kept.weight), burst) * weight;
}

function outcomeOf(
  { weight, drain, burst }: GcraScale,
  debt: number,
  retryAfterMs: number | null,
): LimitOutcome {
  return {
    isAllowed: retryAfterMs === 0,
    // After a correction more than the burst may be owed.
    remaining: Math.max(0, Math.floor((burst * weight - debt) / weight)),
    retryAfterMs,
    resetAfterMs: millisecondsFor(debt, drain),
  };
}

function millisecondsFor(debt: number, drain: number): number {
  return Math.ceil(Math.ceil(debt / drain) / 1000);
}

function greatestCommonDivisor(first: number, second: number): number {
  let [larger, smaller] = [first, second];
  while (smaller !== 0) [larger, smaller] = [smaller, larger % smaller];
  return larger;
}
