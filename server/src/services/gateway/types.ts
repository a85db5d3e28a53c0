import type { RequestCompletedV1 } from '@stoa/contracts';
import type { AppError, RequestId, TenantId, TenantPrincipal } from '#kernel';
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

/** A request that the journal knows to be open. */
export interface OpenedRequest {
  readonly requestId: RequestId;
}

/** Told once, at the end of a turn of the event loop: null where the line is written, else why the request must end. */
export type Written = (refusal: AppError | null) => void;

/**
 * The journal of this process: what was acknowledged is in it before the client hears of it. The lines of all requests
 * in one turn of the event loop go out in one write(2); no fsync (see the module's README for what that means).
 */
export interface Journal {
  /**
   * Begins a request. No provider may be called before `onWritten` said null; it says `metering_unavailable` where
   * nothing can be recorded, and that is thrown at once where it is known at once.
   */
  open(entry: OpenedEntry, onWritten: Written): OpenedRequest;
  /**
   * Records the end. The answer's end may go out when `onWritten` said null (in commit mode: once the database has it).
   * @param opened null for a request that was refused before any call. Settling twice throws: a fault of code
   */
  settle(record: RequestCompletedV1, opened: OpenedRequest | null, onWritten: Written): void;
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
