import type { RouteClass } from '@stoa/contracts';
import type { LimitOutcome, LimitRequest, Limits, LimitsOutcome, MemoryLimits } from '#cache';
import { AppError, type TenantPrincipal } from '#kernel';
import type { LimitsBook } from './book.ts';
import { type RateLimitFields, rateLimitFields } from './headers.ts';
import type { LimitsCounters } from './metrics.ts';
import { type CompiledRule, subjectOf } from './rules.ts';
import { shareOf } from './share.ts';
import { sourceOf } from './source.ts';

/** A request as its limits see it. */
export interface LimitedRequest {
  readonly principal: TenantPrincipal;
  readonly routeClass: RouteClass;
  /** As in `RequestContext`. */
  readonly clientAddress: string;
  /** What it will use as far as can be told; 0 for what uses none. */
  readonly tokens: number;
  /** The part of it that the caller asked for itself (its input, its own output limit). */
  readonly tokensAsked: number;
}

export interface LimitVerdict {
  /** Null where the request may go on. */
  readonly refusal: AppError | null;
  readonly fields: RateLimitFields | null;
  /** Told once the tokens that were really used are known; null where nothing is to be told. */
  readonly settle: ((usedTokens: number) => void) | null;
}

/**
 * Whether requests may pass. All limits of a request are asked in one step: it takes from all of them or, where one
 * refuses, from none, so that whoever is refused by one limit does not lose what another still allows.
 */
export interface Limiter {
  /** Null where no limit applies. At once from memory, by a promise where the limits are shared. */
  check(request: LimitedRequest): LimitVerdict | null | Promise<LimitVerdict>;
}

/**
 * What happens to requests with a limit while the shared store is away: `share` lets them pass within this process's share
 * of each limit, `closed` refuses them.
 */
const whenAway: Readonly<Record<RouteClass, 'share' | 'closed'>> = {
  chat: 'share',
  embeddings: 'share',
  read: 'share',
  write: 'share',
  auth: 'closed',
};

export interface LimiterDeps {
  readonly book: Pick<LimitsBook, 'find'>;
  readonly limits: Limits;
  /** Of this process alone, for while the others are away. */
  readonly ownLimits: MemoryLimits;
  /** How many processes share a limit, those last seen. */
  readonly processCount: () => number;
  readonly counters: LimitsCounters;
}

/** A limit and what the request takes from it. */
interface Charge {
  readonly rules: readonly CompiledRule[];
  readonly requests: readonly LimitRequest[];
}

export function createLimiter(deps: LimiterDeps): Limiter {
  const { book, limits } = deps;
  return {
    check(request) {
      const { tenantId, keyId } = request.principal;
      const compiled = book.find(tenantId, keyId);
      const rules = compiled === null ? null : compiled[request.routeClass];
      if (rules === null || rules.length === 0) return null;
      const charge = chargeOf(rules, request);
      if (charge.requests.length === 0) return null;
      const taken = limits.takeAll(charge.requests);
      if (taken instanceof Promise)
        return taken.then(
          (outcome) => verdict(deps, request, charge, outcome, limits),
          (error: unknown) => withoutStore(deps, request, charge, error),
        );
      return verdict(deps, request, charge, taken, limits);
    },
  };
}

function chargeOf(rules: readonly CompiledRule[], request: LimitedRequest): Charge {
  const { principal, clientAddress } = request;
  const { tenantId, keyId, memberId = null } = principal;
  const caller = { keyId, memberId, source: sourceOf(clientAddress) };
  const requests: LimitRequest[] = [];
  const applied: CompiledRule[] = [];
  for (const compiled of rules) {
    const subject = subjectOf(compiled.per, caller);
    if (subject === null) continue;
    applied.push(compiled);
    const cost = compiled.meter === 'requests' ? 1 : tokenCost(request, compiled.rule.burst);
    requests.push({ tenantId, key: `${compiled.name} ${subject}`, ...compiled.rule, cost });
  }
  // The same list where all apply, which the text of the policies is remembered by.
  return { rules: applied.length === rules.length ? rules : applied, requests };
}

/** What is only assumed of a request (its output, where it names no limit) never makes it too large for a limit. */
function tokenCost({ tokens, tokensAsked }: LimitedRequest, burst: number): number {
  return Math.max(tokensAsked, Math.min(tokens, burst));
}

function verdict(
  { counters }: LimiterDeps,
  { routeClass }: LimitedRequest,
  { rules, requests }: Charge,
  { isAllowed, outcomes, takenAtUs }: LimitsOutcome,
  from: Limits,
): LimitVerdict {
  const fields = rateLimitFields(rules, outcomes);
  if (!isAllowed) {
    counters.refusals.add(1, { route_class: routeClass });
    return { refusal: refusalOf(rules, outcomes), fields, settle: null };
  }
  const ofTokens = requests.filter((_, index) => rules[index]?.meter === 'tokens');
  if (ofTokens.length === 0) return { refusal: null, fields, settle: null };
  const settle = (used: number): void => {
    for (const request of ofTokens) {
      if (used === request.cost) continue;
      const corrected = from.correct({ ...request, used, takenAtUs });
      // What was taken stays taken, which time pays off.
      if (corrected instanceof Promise) corrected.catch(() => counters.lostCorrections.add(1));
    }
  };
  return { refusal: null, fields, settle };
}

function withoutStore(
  deps: LimiterDeps,
  request: LimitedRequest,
  charge: Charge,
  error: unknown,
): LimitVerdict {
  if (!(error instanceof AppError) || error.code !== 'cache_unavailable') throw error;
  const { routeClass } = request;
  const behaviour = whenAway[routeClass];
  deps.counters.withoutStore.add(1, { route_class: routeClass, behaviour });
  if (behaviour === 'closed') {
    const message = 'The limits of this request cannot be checked at the moment.';
    const refusal = new AppError('limits_unavailable', message, { retryAfterMs: 1_000, cause: error });
    return { refusal, fields: null, settle: null };
  }
  const count = deps.processCount();
  const requests = charge.requests.map((one) => shareOf(one, count));
  const own = { rules: charge.rules, requests };
  return verdict(deps, request, own, deps.ownLimits.takeAll(requests), deps.ownLimits);
}

function refusalOf(rules: readonly CompiledRule[], outcomes: readonly LimitOutcome[]): AppError {
  const [tooLarge] = rules.filter((_, index) => outcomes[index]?.retryAfterMs === null);
  if (tooLarge) {
    const message = `The request needs more ${tooLarge.meter} than ${describe(tooLarge)} allows at once (${tooLarge.rule.burst}).`;
    return new AppError('request_exceeds_limit', message);
  }
  const retryAfterMs = Math.max(1, ...outcomes.map((outcome) => outcome.retryAfterMs ?? 0));
  const [first] = rules.filter((_, index) => outcomes[index]?.isAllowed === false);
  const which = first ? describe(first) : 'a limit';
  const message = `${which.charAt(0).toUpperCase()}${which.slice(1)} is reached; try again in ${Math.ceil(retryAfterMs / 1000)} s.`;
  return new AppError('rate_limit_exceeded', message, { retryAfterMs });
}

const subjects: Readonly<Record<CompiledRule['per'], string>> = {
  tenant: 'this tenant',
  key: 'each key',
  member: 'each member',
  ip: 'each client address',
  own: 'this key',
};

function describe({ name, rule, periodS, meter, per }: CompiledRule): string {
  return `the limit ${name} of ${rule.limit} ${meter} in ${periodS} s for ${subjects[per]}`;
}
