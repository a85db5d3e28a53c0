import type { TenantPrincipal } from '#kernel';
import type { Target } from '#models';

export interface DecisionRequest {
  readonly principal: TenantPrincipal;
  /** What the client wrote in `model`: a target's id, or `auto`. */
  readonly requestedModel: string;
  /** For `auto`: the tenant's targets in its policy order; for a named model the one target. */
  readonly candidates: readonly Target[];
  /** Whether an attempt at the target would be let through now (its breaker is not open). */
  readonly isHealthy: (target: Target) => boolean;
}

export interface Decision {
  readonly target: Target;
  /** Of this target being chosen, 0 to 1. */
  readonly probability: number;
  /** For people and for the record: `named`, `first_healthy`, `all_unhealthy`. */
  readonly reason: string;
  /** Where to go when the target fails, best first; empty for a named model. */
  readonly fallbacks: readonly Target[];
}

/** Decides within the process, from memory, without waiting. */
export interface Decider {
  /** Null where there is no candidate at all. */
  decide(request: DecisionRequest): Decision | null;
}
