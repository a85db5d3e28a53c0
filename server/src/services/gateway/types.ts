import type { RequestCompletedV1 } from '@stoa/contracts';
import type { RequestId, TenantId, TenantPrincipal } from '#kernel';
import type { Target } from '#models';

/** The first journal entry of a request, written before the upstream call. */
export interface OpenedEntry {
  readonly requestId: RequestId;
  readonly tenantId: TenantId;
  readonly keyId: string;
  readonly projectId: string | null;
  readonly endUser: string | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly endpoint: RequestCompletedV1['endpoint'];
  readonly requestedModel: string;
  readonly stream: boolean;
  readonly target: string;
  readonly inputTokensEstimate: number;
  readonly reservedFemto: string | null;
  readonly traceId: string;
  readonly createdAtMs: number;
}

/**
 * The journal of this process: what was acknowledged is in it before the client hears of it.
 * Both writes are synchronous write(2) calls; no fsync (see the module's README for what that means).
 */
export interface Journal {
  /** Throws `metering_unavailable` where nothing can be recorded; then no upstream call may be made. */
  open(entry: OpenedEntry): void;
  /**
   * Records the end. After it returns (or its promise resolves, in commit mode) the answer's end may go out.
   * A request that never was opened (refused before the call) may be settled too. Throws only for faults of code.
   */
  settle(record: RequestCompletedV1): void | Promise<void>;
  /** A record settled in this process that is not in the database yet. */
  pending(tenantId: TenantId, requestId: RequestId): RequestCompletedV1 | null;
  /** All records of a tenant that are not in the database yet, oldest first. */
  pendingOf(tenantId: TenantId): readonly RequestCompletedV1[];
  /** Entries not shipped yet. */
  readonly depth: number;
}

/** What the gateway asks of whoever decides; the router's decider fits it, and the composition puts it there. */
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
