import type { AttemptRecord } from '@stoa/contracts';
import type { AppError, Permit } from '#kernel';
import type { AnswerSink, ModelCall, ModelExchange, ModelProvider, ProviderFault, Target } from '#models';
import type { Span } from '#telemetry';
import type { Circuit } from './circuits.ts';
import { isProviderFault } from './fault-errors.ts';

export interface AttemptPorts {
  readonly target: Target;
  readonly circuit: Circuit;
  readonly permit: Permit;
  /** Of this attempt; null where nothing is traced. */
  readonly span: Span | null;
  /** Gives the place in the provider's bulkhead back. */
  leaveBulkhead(): void;
  readonly startedMs: number;
  readonly startedAt: string;
}

/**
 * One call of one target. It keeps what the record says of it, and tells its breaker and bulkhead how it ended, exactly
 * once. What is done with the answer is its sub-classes'.
 */
export abstract class Attempt implements AnswerSink {
  readonly ports: AttemptPorts;
  /** Monotonic milliseconds of the first token, null before it. */
  firstTokenMs: number | null = null;
  /** Coarse monotonic milliseconds of the last frame, or of the start. */
  lastFrameMs: number;
  /** Called once when the provider is done with us, where that comes after the request's own end. */
  onUpstreamOver: (() => void) | null = null;
  #exchange: ModelExchange | null = null;
  #status: number | null = null;
  #providerRequestId: string | null = null;
  #isConcluded = false;
  #isUpstreamOver = false;
  #permit: Permit;

  constructor(ports: AttemptPorts) {
    this.ports = ports;
    this.#permit = ports.permit;
    this.lastFrameMs = ports.startedMs;
  }

  get isConcluded(): boolean {
    return this.#isConcluded;
  }

  /** Whether the provider is done with us, so that nothing is left to cancel. */
  get isUpstreamOver(): boolean {
    return this.#isUpstreamOver;
  }

  protected markUpstreamOver(): void {
    this.#isUpstreamOver = true;
    this.onUpstreamOver?.();
  }

  /** The provider's media type of the answer, lower case; empty before the head. */
  protected contentType = '';

  /**
   * Whether one of the target's deadlines has passed.
   * @param _isPaused whether the provider waits for us, because the client is slow
   */
  isPastDeadline(nowMs: number, _isPaused: boolean): boolean {
    return nowMs - this.ports.startedMs >= this.ports.target.deadlines.wholeMs;
  }

  start(provider: ModelProvider, call: ModelCall): void {
    this.#exchange = provider.call(call, this);
  }

  /** Ends the call at the provider. */
  cancel(): void {
    if (!this.#isUpstreamOver) this.#exchange?.cancel();
  }

  resume(): void {
    this.#exchange?.resume();
  }

  onHead(head: { status: number; contentType: string; providerRequestId: string | null }): void {
    this.#status = head.status;
    this.#providerRequestId = head.providerRequestId;
    this.contentType = head.contentType;
  }

  abstract onData(chunk: Buffer): boolean;
  abstract onEnd(): void;
  abstract onFault(fault: ProviderFault): void;
  /** Nothing more of this attempt is told to its owner. */
  abstract silence(): void;

  /**
   * The first token reached us. A probe has shown by that what it was for: the provider works again, and the calls of
   * others need not wait for the end of this stream. How the stream ends is counted as any call's.
   */
  markFirstToken(nowMs: number): void {
    this.firstTokenMs = nowMs;
    if (this.#permit !== 'probe') return;
    this.ports.circuit.breaker.succeed('probe');
    this.#permit = 'call';
  }

  /**
   * Closes the attempt and tells what is recorded of it; null where it was closed already.
   * @param error what the tenant reads of it in the explanation; null where the attempt succeeded
   */
  conclude(fault: ProviderFault | null, error: AppError | null, nowMs: number): AttemptRecord | null {
    if (this.#isConcluded) return null;
    this.#isConcluded = true;
    const { breaker } = this.ports.circuit;
    if (fault !== null && !isProviderFault(fault)) breaker.forget(this.#permit);
    else if (fault === null) breaker.succeed(this.#permit);
    else breaker.fail(this.#permit);
    this.ports.leaveBulkhead();
    this.ports.span?.end(error ?? undefined);
    return this.#makeRecord(fault, error, nowMs);
  }

  #makeRecord(fault: ProviderFault | null, error: AppError | null, nowMs: number): AttemptRecord {
    const { target, startedMs, startedAt } = this.ports;
    return {
      target: target.id,
      provider: target.provider.id,
      started_at: startedAt,
      duration_ms: roundMs(nowMs - startedMs),
      time_to_first_token_ms: this.firstTokenMs === null ? null : roundMs(this.firstTokenMs - startedMs),
      status: this.#status ?? fault?.status ?? null,
      error: error === null ? null : { code: error.code, message: error.publicMessage },
      provider_request_id: this.#providerRequestId ?? fault?.providerRequestId ?? null,
    };
  }
}

/** Milliseconds with three places: finer than any clock here, shorter than a double's text. */
function roundMs(ms: number): number {
  return Math.max(0, Math.round(ms * 1_000) / 1_000);
}
