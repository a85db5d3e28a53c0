import { AppError, CircuitBreaker, type CircuitBreakerSettings, type Clock } from '#kernel';

/**
 * The processes of one role, taken in turn, each behind a breaker of its own.
 *
 * A breaker counts whether the process is there: no connection, no head of an answer in time. What it answers does
 * not count, whatever the status: else the requests of one tenant that always fail could close a role for all. A process
 * that answers 503 says that it starts, drains or is full: it rests for `restMs`, which means that another is preferred where
 * there is one.
 */
export interface Destination {
  /** Scheme, host and port. */
  readonly origin: string;
  /** It answered. */
  succeed(): void;
  /** It did not. */
  fail(): void;
  /** The call tells nothing of it. */
  forget(): void;
  /** It answered that it cannot serve now. */
  rest(): void;
}

export interface Destinations {
  readonly role: string;
  /**
   * The next one in turn that takes calls, or null where none does; exactly one of `succeed`, `fail`, `forget` must follow.
   * @param tried origins that this call has been to
   */
  take(tried: ReadonlySet<string>): Destination | null;
  /** What a caller reads where no process of the role answers. */
  away(cause?: unknown): AppError;
}

const restMs = 1_000;

/** Sooner than for a provider: these are next door, and there is often another. */
const breakerSettings: CircuitBreakerSettings = {
  consecutiveFailures: 5,
  sampleSize: 20,
  failureShare: 0.5,
  openForMs: 1_000,
  maximumOpenForMs: 10_000,
  probePatienceMs: 10_000,
  forgetAfterMs: 60_000,
};

interface Entry {
  readonly origin: string;
  readonly breaker: CircuitBreaker;
  restsUntilMs: number;
}

/** @param origins one for each process of the role */
export function createDestinations(role: string, origins: readonly string[], clock: Clock): Destinations {
  const entries = origins.map(
    (origin): Entry => ({ origin, breaker: new CircuitBreaker(clock, breakerSettings), restsUntilMs: 0 }),
  );
  let turn = 0;
  const retryAfterMs = (): number => {
    const waits = entries.map(({ breaker }) => breaker.retryAfterMs);
    return Math.max(1_000, Math.min(...waits, 10_000));
  };
  return {
    role,
    take(tried) {
      const start = turn;
      turn = (turn + 1) % Math.max(1, entries.length);
      const inTurn = [...entries.slice(start), ...entries.slice(0, start)].filter(
        (entry) => !tried.has(entry.origin) && entry.breaker.isPermitting,
      );
      const nowMs = clock.monotonic();
      const chosen = inTurn.find((entry) => entry.restsUntilMs <= nowMs) ?? inTurn[0];
      if (chosen === undefined) return null;
      const { breaker } = chosen;
      const permit = breaker.admit();
      return {
        origin: chosen.origin,
        succeed: () => breaker.succeed(permit),
        fail: () => breaker.fail(permit),
        forget: () => breaker.forget(permit),
        rest: () => {
          chosen.restsUntilMs = clock.monotonic() + restMs;
        },
      };
    },
    away: (cause) =>
      new AppError('role_unavailable', `The part of the platform named ${role} is away.`, {
        retryAfterMs: retryAfterMs(),
        details: { role },
        ...(cause === undefined ? {} : { cause }),
      }),
  };
}
