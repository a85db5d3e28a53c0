import { CircuitState, ConsecutiveBreaker, CountBreaker } from 'cockatiel';
import type { Clock } from '../clock.ts';

/**
 * A circuit breaker for callers that work with callbacks.
 *
 * Problem: while a provider is down, every call to it costs its caller a wait and the provider a load that keeps it down.
 *
 * States: `closed` lets every call through and counts how they end. It opens when `consecutiveFailures` in a row failed,
 * or more than `failureShare` of the last `sampleSize` calls. `open` refuses for `openForMs`, doubled each time a probe
 * fails, up to `maximumOpenForMs`. Then `half_open`: one probe at a time is let through; its success closes the breaker,
 * its failure opens it again. A probe that says nothing for `probePatienceMs` is no longer waited for: the next call
 * becomes the probe.
 *
 * A call that began before the breaker opened says nothing about the provider's recovery, so what it ends in is dropped
 * while the breaker is open. After `forgetAfterMs` without a call the samples are dropped too.
 *
 * When to open is cockatiel's (`ConsecutiveBreaker`, `CountBreaker`); its policy around them wraps a promise, which costs
 * several times the breaker itself, and has neither a clock to inject nor a way to say "this call told nothing".
 */
export interface CircuitBreakerSettings {
  readonly consecutiveFailures: number;
  readonly sampleSize: number;
  /** Above 0, below 1. */
  readonly failureShare: number;
  readonly openForMs: number;
  readonly maximumOpenForMs: number;
  readonly probePatienceMs: number;
  readonly forgetAfterMs: number;
}

export const defaultCircuitBreakerSettings: CircuitBreakerSettings = {
  consecutiveFailures: 10,
  sampleSize: 20,
  failureShare: 0.5,
  openForMs: 1_000,
  maximumOpenForMs: 30_000,
  probePatienceMs: 10_000,
  forgetAfterMs: 60_000,
};

export type CircuitStateName = 'closed' | 'open' | 'half_open';

/** What a call may do: be refused, go, or go as the one probe. Hand it back with the call's end. */
export type Permit = 'refused' | 'call' | 'probe';

export class CircuitBreaker {
  readonly #clock: Clock;
  readonly #settings: CircuitBreakerSettings;
  #consecutive: ConsecutiveBreaker;
  #sampled: CountBreaker;
  #isOpen = false;
  #openUntilMs = 0;
  #openForMs = 0;
  #probeStartedMs: number | null = null;
  #lastCallMs = 0;

  constructor(clock: Clock, settings: CircuitBreakerSettings = defaultCircuitBreakerSettings) {
    this.#clock = clock;
    this.#settings = settings;
    this.#consecutive = new ConsecutiveBreaker(settings.consecutiveFailures);
    this.#sampled = this.#newSample();
  }

  get state(): CircuitStateName {
    if (!this.#isOpen) return 'closed';
    return this.#clock.monotonic() < this.#openUntilMs ? 'open' : 'half_open';
  }

  /** Whether `admit` would let a call through now. Changes nothing. */
  get isPermitting(): boolean {
    return !this.#isOpen || this.#isProbeDue(this.#clock.monotonic());
  }

  /** Milliseconds until a call may be let through; 0 where one may now. */
  get retryAfterMs(): number {
    if (this.isPermitting) return 0;
    const nowMs = this.#clock.monotonic();
    if (nowMs < this.#openUntilMs) return this.#openUntilMs - nowMs;
    return (this.#probeStartedMs ?? nowMs) + this.#settings.probePatienceMs - nowMs;
  }

  /** Asks to make a call. Unless it was refused, exactly one of `succeed`, `fail`, `forget` must follow. */
  admit(): Permit {
    const nowMs = this.#clock.monotonic();
    if (!this.#isOpen) {
      if (nowMs - this.#lastCallMs > this.#settings.forgetAfterMs) this.#reset();
      this.#lastCallMs = nowMs;
      return 'call';
    }
    if (!this.#isProbeDue(nowMs)) return 'refused';
    this.#probeStartedMs = nowMs;
    return 'probe';
  }

  /** The provider answered. */
  succeed(permit: Permit): void {
    if (permit === 'probe') this.#close();
    else if (!this.#isOpen) {
      this.#consecutive.success();
      this.#sampled.success(CircuitState.Closed);
    }
  }

  /** The provider is at fault. */
  fail(permit: Permit): void {
    if (permit === 'probe') {
      this.#open(Math.min(this.#openForMs * 2, this.#settings.maximumOpenForMs));
      return;
    }
    if (this.#isOpen) return;
    const isRowTooLong = this.#consecutive.failure();
    const isShareTooHigh = this.#sampled.failure(CircuitState.Closed);
    if (isRowTooLong || isShareTooHigh) this.#open(this.#settings.openForMs);
  }

  /** The call ended in a way that tells nothing about the provider: cancelled, refused for the client's fault. */
  forget(permit: Permit): void {
    if (permit === 'probe') this.#probeStartedMs = null;
  }

  #isProbeDue(nowMs: number): boolean {
    if (nowMs < this.#openUntilMs) return false;
    return this.#probeStartedMs === null || nowMs - this.#probeStartedMs >= this.#settings.probePatienceMs;
  }

  #open(forMs: number): void {
    this.#isOpen = true;
    this.#openForMs = forMs;
    this.#openUntilMs = this.#clock.monotonic() + forMs;
    this.#probeStartedMs = null;
  }

  #close(): void {
    this.#isOpen = false;
    this.#probeStartedMs = null;
    this.#reset();
  }

  #reset(): void {
    this.#consecutive = new ConsecutiveBreaker(this.#settings.consecutiveFailures);
    this.#sampled = this.#newSample();
  }

  #newSample(): CountBreaker {
    return new CountBreaker({ threshold: this.#settings.failureShare, size: this.#settings.sampleSize });
  }
}
