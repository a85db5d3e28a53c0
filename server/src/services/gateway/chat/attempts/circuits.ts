import {
  BoundedMap,
  Bulkhead,
  CircuitBreaker,
  type CircuitStateName,
  type Clock,
  RetryBudget,
} from '#kernel';
import type { ProviderConnection, Target } from '#models';

/**
 * What this process has learnt about providers, shared by all requests.
 *
 * A circuit is keyed by provider credential and model: an outage is learnt once for all tenants, and a tenant's own bad
 * credential hurts only itself. A bulkhead is keyed by provider: it bounds what one process asks of it at once.
 * Both are kept for the 10,000 most recently used keys; what is forgotten starts anew.
 */
export interface Circuit {
  readonly breaker: CircuitBreaker;
  readonly retries: RetryBudget;
  /** Monotonic milliseconds until which the provider asked to be left alone; in the past where it did not. */
  throttledUntilMs: number;
}

const maximumKeys = 10_000;
/** Calls that may wait for a place at one provider; the next ones go on to the next target. */
const queueCapacity = 1_000;
/** Without a Retry-After, and where it says less: asking again at once only lengthens the throttling. */
const throttleFloorMs = 1_000;
/** A provider that asks for more is believed this far, then asked again. */
export const throttleCeilingMs = 300_000;

export class Circuits {
  readonly #clock: Clock;
  readonly #circuits: BoundedMap<string, Circuit>;
  readonly #bulkheads: BoundedMap<string, Bulkhead>;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#circuits = new BoundedMap(maximumKeys, () => ({
      breaker: new CircuitBreaker(clock),
      retries: new RetryBudget(clock),
      throttledUntilMs: Number.NEGATIVE_INFINITY,
    }));
    this.#bulkheads = new BoundedMap(maximumKeys, () => new Bulkhead(queueCapacity));
  }

  of(target: Target): Circuit {
    return this.#circuits.get(keyOf(target));
  }

  bulkhead(provider: ProviderConnection): Bulkhead {
    return this.#bulkheads.get(provider.id);
  }

  /** Whether an attempt at the target would be let through now. */
  isHealthy(target: Target): boolean {
    const circuit = this.#circuits.peek(keyOf(target));
    return circuit === undefined || (circuit.breaker.isPermitting && this.throttledForMs(circuit) === 0);
  }

  /** Milliseconds until the provider wants to hear from us again; 0 where it does now. */
  throttledForMs(circuit: Circuit): number {
    return Math.max(0, circuit.throttledUntilMs - this.#clock.monotonic());
  }

  /** Leaves the target alone for as long as its provider asked, within the floor and the ceiling. Returns that time. */
  throttle(circuit: Circuit, retryAfterMs: number | null): number {
    const forMs = Math.min(Math.max(retryAfterMs ?? 0, throttleFloorMs), throttleCeilingMs);
    circuit.throttledUntilMs = Math.max(circuit.throttledUntilMs, this.#clock.monotonic() + forMs);
    return forMs;
  }

  /** How many circuits are in each state, for the metrics. */
  countByState(): Readonly<Record<CircuitStateName, number>> {
    const counts = { closed: 0, open: 0, half_open: 0 };
    for (const { breaker } of this.#circuits.values()) counts[breaker.state] += 1;
    return counts;
  }
}

function keyOf(target: Target): string {
  return `${target.provider.credentialId}\n${target.model}`;
}
