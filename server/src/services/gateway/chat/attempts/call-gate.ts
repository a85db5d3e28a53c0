import type { AppError, Bulkhead } from '#kernel';
import type { Account } from '../account.ts';
import { queueWaitMs } from '../deadlines.ts';
import type { Runtime } from '../runtime.ts';
import type { CallStep } from './target-walk.ts';

export interface CallGateOwner {
  /** The call may be made; it holds a place in the bulkhead. */
  onPlace(step: CallStep, bulkhead: Bulkhead): void;
  /** The provider has no place for it. */
  onCrowded(): void;
  /** Nothing can be recorded, so no call may be made. */
  onRefused(refusal: AppError): void;
}

interface Queued {
  readonly step: CallStep;
  readonly bulkhead: Bulkhead;
  readonly onEnter: () => void;
  /** Monotonic milliseconds. */
  readonly dueMs: number;
}

/**
 * What a step passes on its way to its call: its line in the journal (the first step of a request only), then a place in
 * the provider's bulkhead. One step at a time. Who leaves it early gives the breaker's permit back.
 */
export class CallGate {
  readonly #runtime: Runtime;
  readonly #account: Account;
  readonly #owner: CallGateOwner;
  readonly #guard: (work: () => void) => void;
  #opening: CallStep | null = null;
  #queued: Queued | null = null;

  /** @param guard runs what is called back later, and ends the request where it throws */
  constructor(runtime: Runtime, account: Account, owner: CallGateOwner, guard: (work: () => void) => void) {
    this.#runtime = runtime;
    this.#account = account;
    this.#owner = owner;
    this.#guard = guard;
  }

  /** @throws `metering_unavailable` where that is known at once */
  enter(step: CallStep): void {
    if (this.#account.isOpened) {
      this.#enterBulkhead(step);
      return;
    }
    this.#opening = step;
    try {
      this.#account.open(step.target, (refusal) => this.#guard(() => this.#onOpened(refusal)));
    } catch (thrown) {
      this.abandon();
      throw thrown;
    }
  }

  /** Tells the owner where the step has waited for its place for too long. */
  sweep(nowMs: number): void {
    if (this.#queued === null || nowMs < this.#queued.dueMs) return;
    this.abandon();
    this.#owner.onCrowded();
  }

  /** Takes the step out, wherever it waits. */
  abandon(): void {
    const queued = this.#queued;
    const step = this.#opening ?? queued?.step;
    this.#opening = null;
    this.#queued = null;
    queued?.bulkhead.leave(queued.onEnter);
    step?.circuit.breaker.forget(step.permit);
  }

  #onOpened(refusal: AppError | null): void {
    const step = this.#opening;
    if (step === null) return;
    if (refusal !== null) {
      this.abandon();
      this.#owner.onRefused(refusal);
      return;
    }
    this.#opening = null;
    this.#enterBulkhead(step);
  }

  #enterBulkhead(step: CallStep): void {
    const { provider } = step.target;
    const bulkhead = this.#runtime.circuits.bulkhead(provider);
    if (bulkhead.tryEnter(provider.maxConcurrency)) {
      this.#owner.onPlace(step, bulkhead);
      return;
    }
    const onEnter = (): void => {
      this.#queued = null;
      this.#guard(() => this.#owner.onPlace(step, bulkhead));
    };
    if (bulkhead.join(onEnter)) {
      const dueMs = this.#runtime.clock.monotonic() + queueWaitMs;
      this.#queued = { step, bulkhead, onEnter, dueMs };
    } else {
      step.circuit.breaker.forget(step.permit);
      this.#owner.onCrowded();
    }
  }
}
