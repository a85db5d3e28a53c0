import type { AttemptRecord, Outcome, Usage } from '@stoa/contracts';
import type { RequestContext } from '#http';
import { type AppError, type TenantPrincipal, toTypeId } from '#kernel';
import type { Target } from '#models';
import type { Reservation } from '#quotas';
import type { Span } from '#telemetry';
import { completedRecord, isoTime, type RecordedIntake, tagsOf } from './completed-record.ts';
import type { Runtime } from './runtime.ts';
import type { Decision, OpenedRequest, Written } from '../types.ts';

/**
 * What is kept of one request for its record, and the only place that opens and settles it: in the journal, with the
 * quota, in the metrics and the trace. `settle` happens once.
 */
export class Account {
  readonly startedMs: number;
  readonly createdAtMs: number;
  readonly span: Span;
  decision: Decision | null = null;
  reservation: Reservation | null = null;
  /** Monotonic milliseconds of the first frame that reached the client. */
  firstTokenMs: number | null = null;
  readonly attempts: AttemptRecord[] = [];
  readonly #runtime: Runtime;
  readonly #principal: TenantPrincipal;
  readonly #context: RequestContext;
  readonly #intake: RecordedIntake;
  #opened: OpenedRequest | null = null;

  constructor(runtime: Runtime, principal: TenantPrincipal, context: RequestContext, intake: RecordedIntake) {
    this.#runtime = runtime;
    this.#principal = principal;
    this.#context = context;
    // A copy, so that the body is not held for as long as the record is.
    this.#intake = {
      operation: intake.operation,
      model: intake.model,
      stream: intake.stream,
      endUser: intake.endUser,
      tags: intake.tags,
      inputTokensEstimate: intake.inputTokensEstimate,
    };
    this.startedMs = runtime.clock.monotonic();
    this.createdAtMs = runtime.clock.now();
    this.span = runtime.tracer.startRequest(intake.operation, context.traceparent ?? undefined);
    context.traceId = this.span.traceId;
  }

  /** Whether the journal has been told of a call. */
  get isOpened(): boolean {
    return this.#opened !== null;
  }

  get inputTokensEstimate(): number {
    return this.#intake.inputTokensEstimate;
  }

  /**
   * Writes that the request is about to call a provider, before its first call. None may be made before `onWritten`
   * said null.
   * @throws `metering_unavailable`: then no provider may be called at all
   */
  open(target: Target, onWritten: Written): void {
    const intake = this.#intake;
    const entry = {
      requestId: this.#context.requestId,
      tenantId: this.#principal.tenantId,
      keyId: this.#principal.keyId,
      projectId: this.#principal.projectId,
      endUser: intake.endUser,
      tags: tagsOf(this.#principal, intake),
      endpoint: intake.operation,
      requestedModel: intake.model,
      stream: intake.stream,
      target: target.id,
      inputTokensEstimate: intake.inputTokensEstimate,
      reservedFemto: this.reservation?.reservedFemto?.toString() ?? null,
      traceId: this.span.traceId,
      createdAtMs: this.createdAtMs,
    };
    this.#opened = this.#runtime.journal.open(entry, (refusal) => {
      if (refusal !== null) this.#opened = null;
      onWritten(refusal);
    });
  }

  /** A span of one call of a provider; null where nothing is traced. */
  startAttemptSpan(target: Target): Span | null {
    const { tracer } = this.#runtime;
    if (!tracer.isEnabled) return null;
    const span = tracer.startChild(this.span, 'provider.call');
    span.setAttribute('stoa.target', target.id);
    span.setAttribute('stoa.provider', target.provider.id);
    return span;
  }

  /**
   * Prices the usage, gives the rest of the reservation back and writes the record. The answer's end may go out when
   * `onWritten` said null.
   * @param target whose price applies; null where no provider was called, and then nothing is priced
   */
  settle(
    outcome: Outcome,
    error: AppError | null,
    usage: Usage,
    target: Target | null,
    onWritten: Written,
  ): void {
    const { clock, prices, journal, metrics } = this.#runtime;
    const rated = target === null ? null : prices.rate(target, usage, this.createdAtMs);
    this.reservation?.settle(rated?.costFemto ?? null, usage.input_tokens, usage.output_tokens);
    const record = completedRecord({
      principal: this.#principal,
      context: this.#context,
      intake: this.#intake,
      outcome,
      error,
      decision: this.decision,
      attempts: this.attempts,
      usage,
      rated,
      reservedFemto: this.reservation?.reservedFemto ?? null,
      traceId: this.span.traceId,
      createdAt: isoTime(this.createdAtMs),
      completedAt: isoTime(clock.now()),
    });
    this.reservation = null;
    const firstTokenMs = this.firstTokenMs === null ? null : this.firstTokenMs - this.startedMs;
    metrics.requestEnded(record, clock.monotonic() - this.startedMs, firstTokenMs);
    if (this.#runtime.tracer.isEnabled) this.#describeSpan(outcome, usage);
    this.span.end(error ?? undefined);
    // Nothing was opened, and nothing can be recorded: waiting for a record would only delay the refusal.
    if (error?.code === 'metering_unavailable' && this.#opened === null) onWritten(null);
    else journal.settle(record, this.#opened, onWritten);
  }

  #describeSpan(outcome: Outcome, usage: Usage): void {
    this.span.setAttribute('stoa.request_id', this.#context.publicRequestId);
    this.span.setAttribute('stoa.tenant_id', toTypeId('ten', this.#principal.tenantId));
    this.span.setAttribute('stoa.outcome', outcome);
    this.span.setAttribute('gen_ai.request.model', this.#intake.model);
    this.span.setAttribute('gen_ai.usage.input_tokens', usage.input_tokens);
    this.span.setAttribute('gen_ai.usage.output_tokens', usage.output_tokens);
  }
}
