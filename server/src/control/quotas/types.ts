import type { AppError, Femto, TenantPrincipal } from '#kernel';

/** What a request may use at most, known before the call (design, section 5, step 2). */
export interface ReservationRequest {
  readonly principal: TenantPrincipal;
  readonly requestId: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** Null where a target has no price. */
  readonly costFemto: Femto | null;
}

export interface Reservation {
  readonly isGranted: true;
  readonly reservedFemto: Femto | null;
  /** Gives back what was not used. Called exactly once. */
  settle(usedFemto: Femto | null, inputTokens: number, outputTokens: number): void;
}

export interface Denial {
  readonly isGranted: false;
  readonly error: AppError;
}

export interface QuotasApi {
  /** Synchronous where the process holds enough of the budget itself. */
  reserve(request: ReservationRequest): Reservation | Denial | Promise<Reservation | Denial>;
  /** Whether a hard money budget binds this principal, so that targets without a price are refused. */
  hasHardBudget(principal: TenantPrincipal): boolean;
  /** The plan's cap on output tokens, used where the request names none and a hard budget binds. */
  outputCap(principal: TenantPrincipal): number;
}
