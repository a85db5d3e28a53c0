import { AppError, type Permit } from '#kernel';
import type { ProviderFault, Target } from '#models';
import type { Circuit, Circuits } from './circuits.ts';
import {
  errorOfFault,
  isWorthFallback,
  isWorthRetrying,
  mayHaveCost,
  throttledError,
  unavailableError,
} from './fault-errors.ts';

/**
 * Which target a request calls next, from its decision and what has happened so far.
 *
 * The targets are tried in order. One whose breaker is open, or whose provider asked to be left alone, is passed over
 * without a try. A target that failed is tried once more (without a fallback: twice more) after a pause with jitter, where
 * its retry budget allows; then the next target has its turn. A throttled one is marked and passed over at once, since
 * asking again only lengthens the throttling. A rejection is the client's to mend: it ends the walk.
 * Three tries in all, and no new one later than 30 seconds after the request began, so that a fault that shows itself is
 * answered within that time.
 */
export interface CallStep {
  readonly kind: 'call';
  readonly target: Target;
  readonly circuit: Circuit;
  /** Never `refused`; whoever takes the step hands it back to the circuit's breaker. */
  readonly permit: Permit;
}

export type Step =
  | CallStep
  | { readonly kind: 'pause'; readonly forMs: number }
  | { readonly kind: 'end'; readonly error: AppError };

export const maximumTries = 3;
export const tryWithinMs = 30_000;

const firstPauseMs = 100;
const longestPauseMs = 2_000;

export interface WalkPorts {
  readonly circuits: Circuits;
  /** 0 (included) to 1 (excluded). */
  readonly random: () => number;
}

export class TargetWalk {
  readonly #ports: WalkPorts;
  readonly #targets: readonly Target[];
  #index = 0;
  #tries = 0;
  #triesHere = 0;
  #lastFault: ProviderFault | null = null;
  #throttledForMs = Number.POSITIVE_INFINITY;
  #openForMs = Number.POSITIVE_INFINITY;
  #wasMoneySpent = false;

  constructor(ports: WalkPorts, targets: readonly Target[]) {
    this.#ports = ports;
    this.#targets = targets;
  }

  /** Whether another target may still be called, so that nobody can say yet who answers. */
  get hasFallback(): boolean {
    return this.#index + 1 < this.#targets.length;
  }

  /** Whether any attempt so far may have cost money. */
  get wasMoneySpent(): boolean {
    return this.#wasMoneySpent;
  }

  /** The first target that lets a call through, from where the walk stands; also after a pause. */
  enter(): Step {
    for (; this.#index < this.#targets.length; this.#goOn()) {
      const target = this.#targets[this.#index];
      if (target === undefined) break;
      const circuit = this.#ports.circuits.of(target);
      const throttledForMs = this.#ports.circuits.throttledForMs(circuit);
      if (throttledForMs > 0) {
        this.#throttledForMs = Math.min(this.#throttledForMs, throttledForMs);
        continue;
      }
      const permit = circuit.breaker.admit();
      if (permit === 'refused') {
        this.#openForMs = Math.min(this.#openForMs, circuit.breaker.retryAfterMs);
        continue;
      }
      if (this.#tries === 0) circuit.retries.deposit();
      return { kind: 'call', target, circuit, permit };
    }
    return this.#end();
  }

  /** The call was made. */
  countTry(): void {
    this.#tries += 1;
    this.#triesHere += 1;
  }

  /** The provider has no place for the call: on to the next target. */
  afterCrowding(): Step {
    this.#openForMs = Math.min(this.#openForMs, 1_000);
    this.#goOn();
    return this.enter();
  }

  /**
   * What follows an attempt that failed before a byte reached the client.
   * @param elapsedMs since the request began
   */
  afterFault(fault: ProviderFault, circuit: Circuit, elapsedMs: number): Step {
    this.#lastFault = fault;
    if (mayHaveCost(fault)) this.#wasMoneySpent = true;
    if (fault.kind === 'throttled' || fault.retryAfterMs !== null) {
      const forMs = this.#ports.circuits.throttle(circuit, fault.retryAfterMs);
      if (fault.kind === 'throttled') this.#throttledForMs = Math.min(this.#throttledForMs, forMs);
    }
    if (!isWorthFallback(fault) || this.#tries >= maximumTries) return this.#end();
    if (this.#mayRetryHere(fault, circuit)) {
      const forMs = this.#pauseMs();
      if (elapsedMs + forMs < tryWithinMs) return { kind: 'pause', forMs };
    }
    if (elapsedMs >= tryWithinMs) return this.#end();
    this.#goOn();
    return this.enter();
  }

  #mayRetryHere(fault: ProviderFault, circuit: Circuit): boolean {
    if (!isWorthRetrying(fault)) return false;
    const mostHere = this.hasFallback ? 2 : maximumTries;
    if (this.#triesHere >= mostHere || !circuit.breaker.isPermitting) return false;
    return this.#ports.circuits.throttledForMs(circuit) === 0 && circuit.retries.withdraw();
  }

  /** Half of an exponential delay and a random half on top, so that nobody retries at once. */
  #pauseMs(): number {
    const full = Math.min(longestPauseMs, firstPauseMs * 2 ** this.#triesHere);
    return (full / 2) * (1 + this.#ports.random());
  }

  #goOn(): void {
    this.#index += 1;
    this.#triesHere = 0;
  }

  #end(): Step {
    return { kind: 'end', error: this.#error() };
  }

  #error(): AppError {
    const fault = this.#lastFault;
    if (fault !== null && fault.kind !== 'throttled') return errorOfFault(fault, this.#wasMoneySpent);
    if (Number.isFinite(this.#throttledForMs))
      return throttledError(this.#throttledForMs, this.#wasMoneySpent);
    if (Number.isFinite(this.#openForMs)) return unavailableError(this.#openForMs, this.#wasMoneySpent);
    return new AppError('no_target', 'No target can answer this request.', { retryAfterMs: 1_000 });
  }
}
