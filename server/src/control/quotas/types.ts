import type { RouteClass } from '@stoa/contracts';
import type { AppError, Femto, TenantPrincipal } from '#kernel';
import type { RateLimitFields } from './limits/headers.ts';

/** What a request may use at most, known before the call (design, section 5, step 2). */
export interface ReservationRequest {
  readonly principal: TenantPrincipal;
  readonly requestId: string;
  readonly routeClass: RouteClass;
  /** As in `RequestContext`. */
  readonly clientAddress: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** What the request will probably use, input and output, of one try: what rate limits of tokens take until it is known. */
  readonly expectedTokens: number;
  /** The part of `expectedTokens` that the caller asked for itself: its input and the output limit that it named. */
  readonly askedTokens: number;
  /** Null where a target has no price. */
  readonly costFemto: Femto | null;
}

export interface Reservation {
  readonly isGranted: true;
  readonly reservedFemto: Femto | null;
  /** For the answer's head; null where no rate limit applies. */
  readonly rateLimit: RateLimitFields | null;
  /** Gives back what was not used. Called exactly once. */
  settle(usedFemto: Femto | null, inputTokens: number, outputTokens: number): void;
}

export interface Denial {
  readonly isGranted: false;
  readonly rateLimit: RateLimitFields | null;
  readonly error: AppError;
}

export type { RateLimitFields } from './limits/headers.ts';
export type { UnknownKeyGuard } from './limits/unknown-keys.ts';

export interface QuotasApi {
  /** Synchronous where the process holds enough of the budget itself. */
  reserve(request: ReservationRequest): Reservation | Denial | Promise<Reservation | Denial>;
  /** Whether a hard money budget binds this principal, so that targets without a price are refused. */
  hasHardBudget(principal: TenantPrincipal): boolean;
  /** The plan's cap on output tokens, used where the request names none and a hard budget binds. */
  outputCap(principal: TenantPrincipal): number;
}
