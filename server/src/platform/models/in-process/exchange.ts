import type { AnswerSink, ModelExchange, ProviderFault } from '../types.ts';

/** Runs `fn` after so many milliseconds; the returned function takes it back. A port, so that tests move time. */
export type StartTimer = (fn: () => void, delayMs: number) => () => void;

export const systemTimer: StartTimer = (fn, delayMs) => {
  const timer = setTimeout(fn, delayMs);
  return () => clearTimeout(timer);
};

/** What an engine inside this process says to its sink. Every method throws or rejects once the call was cancelled. */
export interface Answering {
  wait(delayMs: number): Promise<void>;
  /** Never resolves; ends by the caller's cancelling. */
  waitForever(): Promise<never>;
  head(contentType: string): void;
  /** Hands bytes over; resolves in another turn of the event loop, and not before the sink wants more. */
  data(bytes: Buffer): Promise<void>;
}

export type FaultFacts = Pick<ProviderFault, 'kind' | 'detail'> & Partial<ProviderFault>;

/** Thrown by a script to end its answer with a fault. */
export class ScriptFault extends Error {
  readonly fault: ProviderFault;

  constructor(facts: FaultFacts) {
    super(facts.detail);
    this.fault = { status: null, retryAfterMs: null, rejection: null, providerRequestId: null, ...facts };
  }
}

const cancelled = new ScriptFault({ kind: 'cancelled', detail: 'cancelled by the caller' });

/**
 * Runs the script of one answer, from the next turn of the event loop on. When the script returns the sink is told the
 * end, when it throws a ScriptFault that fault, else `unreadable`; when the caller cancels, `cancelled`, and whatever
 * the script waits for ends.
 */
export function startExchange(
  sink: AnswerSink,
  startTimer: StartTimer,
  script: (answering: Answering) => Promise<void>,
): ModelExchange {
  return new InProcessExchange(sink, startTimer, script);
}

class InProcessExchange implements ModelExchange, Answering {
  readonly #sink: AnswerSink;
  readonly #startTimer: StartTimer;
  #isOver = false;
  #isPaused = false;
  /** Ends what the script waits for: with a fault, or, for a pause, without one. */
  #endWait: ((fault: ScriptFault | null) => void) | null = null;

  constructor(sink: AnswerSink, startTimer: StartTimer, script: (answering: Answering) => Promise<void>) {
    this.#sink = sink;
    this.#startTimer = startTimer;
    setImmediate(() => {
      if (this.#isOver) return;
      script(this).then(
        () => this.#finish(() => this.#sink.onEnd()),
        (error: unknown) => this.#finish(() => this.#sink.onFault(faultOf(error))),
      );
    });
  }

  cancel(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    queueMicrotask(() => this.#sink.onFault(cancelled.fault));
    this.#endWait?.(cancelled);
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#endWait?.(null);
  }

  wait(delayMs: number): Promise<void> {
    return this.#until((resolve) => this.#startTimer(resolve, delayMs));
  }

  async waitForever(): Promise<never> {
    await this.#until(() => () => undefined);
    throw cancelled;
  }

  head(contentType: string): void {
    if (this.#isOver) throw cancelled;
    this.#sink.onHead({ status: 200, contentType, providerRequestId: null });
  }

  async data(bytes: Buffer): Promise<void> {
    if (this.#isOver) throw cancelled;
    this.#isPaused = true;
    if (this.#sink.onData(bytes)) this.#isPaused = false;
    if (this.#isPaused) await this.#until(() => () => undefined);
    await this.#until((resolve) => {
      const turn = setImmediate(resolve);
      return () => clearImmediate(turn);
    });
  }

  #until(start: (resolve: () => void) => () => void): Promise<void> {
    if (this.#isOver) return Promise.reject(cancelled);
    return new Promise((resolve, reject) => {
      const stop = start(() => this.#endWait?.(null));
      this.#endWait = (fault) => {
        this.#endWait = null;
        stop();
        if (fault) reject(fault);
        else resolve();
      };
    });
  }

  #finish(tell: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    tell();
  }
}

function faultOf(error: unknown): ProviderFault {
  if (error instanceof ScriptFault) return error.fault;
  return new ScriptFault({ kind: 'unreadable', detail: String(error).slice(0, 500) }).fault;
}
