import type { Clock } from '#kernel';
import { checkedCost, gcraLifeUs, gcraScale, type GcraState, gcraStep } from '../gcra.ts';
import { ownedKey } from '../keys.ts';
import type { LimitOutcome, LimitRequest, Limits } from '../types.ts';

export interface MemoryLimitsSettings {
  /** Keys with a debt; default 200,000 (about 40 MB). */
  readonly maximumKeys?: number;
}

/** How many of the first keys each call looks at for ones that are paid off, so that none costs a pass over all. */
const sweptAtOnce = 2;

/**
 * Limits of this process alone. When full, the key that was charged longest ago is forgotten, and with it its debt; what
 * was paid off has gone before.
 */
export function memoryLimits(clock: Clock, settings: MemoryLimitsSettings = {}): Limits {
  const maximumKeys = settings.maximumKeys ?? 200_000;
  /** In order of the last charge where more than half of the keys are taken, else of the first. */
  const states = new Map<string, GcraState>();
  const sweep = (nowUs: number): void => {
    let looks = sweptAtOnce;
    for (const [key, state] of states) {
      if (looks-- === 0) return;
      if (states.size > maximumKeys || nowUs - state.atUs >= gcraLifeUs(state)) states.delete(key);
    }
  };
  return {
    take(request: LimitRequest): LimitOutcome {
      const key = ownedKey(request);
      const cost = checkedCost(request.cost);
      const nowUs = Math.round(clock.monotonic() * 1000);
      const { outcome, state } = gcraStep(states.get(key) ?? null, gcraScale(request), cost, nowUs);
      if (state) {
        // Order matters only where something could be pushed out soon, and moving an entry costs more than all the rest.
        if (states.size * 2 > maximumKeys) states.delete(key);
        states.set(key, state);
        sweep(nowUs);
      }
      return outcome;
    },
  };
}
