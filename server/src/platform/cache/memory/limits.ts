import type { Clock } from '#kernel';
import {
  checkedCost,
  gcraCorrection,
  gcraLifeUs,
  gcraScale,
  type GcraState,
  type GcraStep,
  gcraStep,
} from '../gcra.ts';
import { checkedGroup, ownedKey } from '../keys.ts';
import type { LimitCorrection, LimitOutcome, LimitRequest, Limits, LimitsOutcome } from '../types.ts';

export interface MemoryLimitsSettings {
  /** Keys with a debt; default 200,000 (about 40 MB). */
  readonly maximumKeys?: number;
}

/** How many of the first keys each call looks at for ones that are paid off, so that none costs a pass over all. */
const sweptAtOnce = 2;

/** Limits that answer at once. */
export interface MemoryLimits extends Limits {
  take(request: LimitRequest): LimitOutcome;
  takeAll(requests: readonly LimitRequest[]): LimitsOutcome;
  correct(correction: LimitCorrection): void;
}

/**
 * Limits of this process alone. When full, the key that was charged longest ago is forgotten, and with it its debt; what
 * was paid off has gone before.
 */
export function memoryLimits(clock: Clock, settings: MemoryLimitsSettings = {}): MemoryLimits {
  const maximumKeys = settings.maximumKeys ?? 200_000;
  /** In order of the last charge where more than half of the keys are taken, else of the first. */
  const states = new Map<string, GcraState>();
  const now = (): number => Math.round(clock.monotonic() * 1000);
  const sweep = (nowUs: number): void => {
    let looks = sweptAtOnce;
    for (const [key, state] of states) {
      if (looks-- === 0) return;
      if (states.size > maximumKeys || nowUs - state.atUs >= gcraLifeUs(state)) states.delete(key);
    }
  };
  const step = (key: string, request: LimitRequest, cost: number, nowUs: number): GcraStep =>
    gcraStep(states.get(key) ?? null, gcraScale(request), cost, nowUs);
  const keep = (key: string, state: GcraState | null): void => {
    if (!state) return;
    // Order matters only where something could be pushed out soon, and moving an entry costs more than all the rest.
    if (states.size * 2 > maximumKeys) states.delete(key);
    states.set(key, state);
    sweep(state.atUs);
  };
  return {
    take(request) {
      const key = ownedKey(request);
      const { outcome, state } = step(key, request, checkedCost(request.cost), now());
      keep(key, state);
      return outcome;
    },
    takeAll(requests) {
      const nowUs = now();
      const keys = checkedGroup(requests);
      const steps = requests.map((request, index) =>
        step(keys[index] ?? '', request, checkedCost(request.cost), nowUs),
      );
      const isAllowed = steps.every(({ outcome }) => outcome.isAllowed);
      const outcomes = steps.map(({ outcome, state }, index) => {
        const [key, request] = [keys[index] ?? '', requests[index]];
        if (isAllowed || !outcome.isAllowed || !request) {
          keep(key, state);
          return outcome;
        }
        const asked = step(key, request, 0, nowUs);
        keep(key, asked.state);
        return { ...asked.outcome, isAllowed: true, retryAfterMs: 0 };
      });
      return { isAllowed, outcomes, takenAtUs: nowUs };
    },
    correct(correction) {
      const key = ownedKey(correction);
      checkedCost(correction.cost);
      checkedCost(correction.used);
      keep(key, gcraCorrection(states.get(key) ?? null, gcraScale(correction), correction, now()));
    },
  };
}
