import type { TenantLimitRule } from '@stoa/contracts';
import { type Broadcast, type Limits, memoryLimits, type Presence, type RollCall } from '#cache';
import type { Database, OperatorHandle, TenantHandle } from '#db';
import type { RequestLimiter, Route } from '#http';
import type { Clock, Femto, HealthPart, Lifecycle, Logger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { createLimitsBook } from './limits/book.ts';
import { limitsRoutes } from './limits/http.ts';
import { createLimiter, type Limiter, type LimitVerdict } from './limits/limiter.ts';
import { hasKeyLimits } from './limits/limits.sql.ts';
import { limitsCounters } from './limits/metrics.ts';
import { createLimitsStore } from './limits/store.ts';
import { createUnknownKeyGuard, type UnknownKeyGuard } from './limits/unknown-keys.ts';
import { createLimitsWatch } from './limits/watch.ts';
import type { Denial, QuotasApi, Reservation, ReservationRequest } from './types.ts';

export interface QuotasDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  readonly limits: Limits;
  readonly rollCall: RollCall;
  /** Between processes. Without one they hear of each other's changes by the poll alone. */
  readonly broadcast?: Broadcast;
}

export interface QuotasSettings {
  /** What holds for tenants that the operator set nothing for; default none. */
  readonly defaultRules?: readonly TenantLimitRule[];
  /** Of each client address; default 600. */
  readonly unknownKeysPerMinute?: number;
  /** Milliseconds; default 1,000. */
  readonly pollEveryMs?: number;
  /** Whether this process answers requests with limits, so that it takes a share of them; default true. */
  readonly isEnforcing?: boolean;
}

export interface QuotasModule {
  readonly api: QuotasApi;
  /** For the edge: the limits of what is no chat and no embedding. */
  readonly limiter: RequestLimiter;
  /** For authentication, before a credential is looked up. */
  readonly unknownKeys: UnknownKeyGuard;
  /** Whether a key has rate limits of its own, beside its tenant's; for whoever lets a key make others. */
  readonly hasKeyLimits: (
    tx: OperatorHandle | TenantHandle,
    tenantId: string,
    keyId: string,
  ) => Promise<boolean>;
  readonly routes: readonly Route[];
  readonly lifecycle: Lifecycle;
  readonly health: HealthPart;
}

/** A process that never reached the shared store does not know how many there are. */
const assumedProcesses = 4;

/** What requests may use: rate limits now; money budgets take their place behind `reserve`. See README.md. */
export function createQuotas(deps: QuotasDeps, settings: QuotasSettings = {}): QuotasModule {
  const { clock, rollCall, metrics, limits } = deps;
  const { defaultRules = [], unknownKeysPerMinute = 600, pollEveryMs = 1_000, isEnforcing = true } = settings;
  let presence: Presence | null = null;
  const processCount = (): number => presence?.count ?? assumedProcesses;
  const counters = limitsCounters(metrics, processCount);
  const ownLimits = memoryLimits(clock);
  const book = createLimitsBook(defaultRules);
  const watch = createLimitsWatch({ ...deps, book }, pollEveryMs);
  const limiter = createLimiter({ book, limits, ownLimits, processCount, counters });
  const onChanged = (tenantId: string, version: number): void => watch.tell(tenantId, version);
  return {
    api: {
      reserve: (request) => reserve(limiter, request),
      hasHardBudget: () => false,
      outputCap: () => 4_096,
    },
    limiter: {
      check: (principal, routeClass, clientAddress) =>
        limiter.check({ principal, routeClass, clientAddress, tokens: 0, tokensAsked: 0 }),
    },
    unknownKeys: createUnknownKeyGuard(
      {
        ownLimits: memoryLimits(clock),
        processCount,
        onWaiting: () => counters.unknownKeys.add(1, { outcome: 'waited' }),
        onRefused: () => counters.unknownKeys.add(1, { outcome: 'refused' }),
      },
      unknownKeysPerMinute,
    ),
    hasKeyLimits,
    routes: limitsRoutes(createLimitsStore({ ...deps, book, onChanged })),
    health: watch.health,
    lifecycle: {
      async start() {
        if (isEnforcing) presence ??= rollCall.join('limits');
        await watch.lifecycle.start();
      },
      async stop() {
        await watch.lifecycle.stop();
        await presence?.leave();
        presence = null;
      },
    },
  };
}

function reserve(
  limiter: Limiter,
  request: ReservationRequest,
): Reservation | Denial | Promise<Reservation | Denial> {
  const { principal, routeClass, clientAddress, expectedTokens, askedTokens, costFemto } = request;
  const verdict = limiter.check({
    principal,
    routeClass,
    clientAddress,
    tokens: expectedTokens,
    tokensAsked: askedTokens,
  });
  if (verdict === null) return unlimited(costFemto);
  if (verdict instanceof Promise) return verdict.then((found) => outcomeOf(found, costFemto));
  return outcomeOf(verdict, costFemto);
}

function unlimited(reservedFemto: Femto | null): Reservation {
  return { isGranted: true, reservedFemto, rateLimit: null, settle: () => undefined };
}

function outcomeOf(
  { refusal, fields, settle }: LimitVerdict,
  reservedFemto: Femto | null,
): Reservation | Denial {
  if (refusal !== null) return { isGranted: false, rateLimit: fields, error: refusal };
  return {
    isGranted: true,
    reservedFemto,
    rateLimit: fields,
    settle: (_usedFemto, inputTokens, outputTokens) => settle?.(inputTokens + outputTokens),
  };
}
