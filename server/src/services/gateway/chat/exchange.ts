import type { ServerResponse } from 'node:http';
import type { Outcome, Usage } from '@stoa/contracts';
import { type RawExchange, type RequestContext, setRateLimitFields } from '#http';
import { AppError, type Bulkhead, type RosterPlace, type TenantPrincipal, toAppError } from '#kernel';
import { type ProviderFault, providerFault, type Target } from '#models';
import type { Denial, Reservation } from '#quotas';
import { Account } from './account.ts';
import { admit } from './admission.ts';
import { ClientStream } from './answers/client-stream.ts';
import { inWantedEncoding } from './answers/embedding-encoding.ts';
import { estimatedUsage, noUsage, undeliveredUsage } from './answers/token-usage.ts';
import { type CheckedAnswer, estimateOutputTokens } from './answers/whole-answer.ts';
import type { Attempt, AttemptPorts } from './attempts/attempt.ts';
import { CallGate, type CallGateOwner } from './attempts/call-gate.ts';
import { errorOfFault, interruptionError } from './attempts/fault-errors.ts';
import { StreamAttempt, type StreamAttemptOwner } from './attempts/stream-attempt.ts';
import { type CallStep, type Step, TargetWalk } from './attempts/target-walk.ts';
import { WholeAttempt, type WholeAttemptOwner } from './attempts/whole-attempt.ts';
import { findCandidates } from './candidates.ts';
import { isoTime } from './completed-record.ts';
import { callerTimeoutError, commentAfterMs, slowReaderMs } from './deadlines.ts';
import { logFault } from './fault-log.ts';
import { estimateTokens } from './intake/input-bounds.ts';
import { bodyFor, type Intake } from './intake/intake.ts';
import { linger } from './linger.ts';
import type { Drainable } from './running.ts';
import type { Runtime } from './runtime.ts';
import type { Swept } from './sweep.ts';

/**
 * One request, from its admission to its record.
 *
 * Phases: `admitting` (targets and quota are looked up; mostly within one call) -> `entering` (its line in the journal, a
 * place in the provider's bulkhead) -> `calling` -> `pausing` (before another try) -> `entering` ... -> `streaming`
 * (frames reached the client; no try any more) -> `over`.
 *
 * Whatever happens, exactly one of these ends it, and later ones find it over: an answer, `[DONE]`, an error, the client's
 * leaving, a revoked key, a drain. The end concludes the attempt, settles the account, and only then lets the last bytes
 * of the answer go.
 */
type Phase = 'admitting' | 'entering' | 'calling' | 'pausing' | 'streaming' | 'over';

export class Exchange implements Swept, WholeAttemptOwner, StreamAttemptOwner, CallGateOwner, Drainable {
  readonly #runtime: Runtime;
  readonly #response: ServerResponse;
  readonly #principal: TenantPrincipal;
  readonly #context: RequestContext;
  readonly #account: Account;
  /** What the caller gives us, for each deadline and for the whole; infinite without a header. */
  readonly #callerTimeoutMs: number;
  readonly #client: ClientStream | null;
  readonly #gate: CallGate;
  /** Null once no further try can need the body, so that a long stream does not hold it. */
  #raw: RawExchange | null;
  #intake: Intake | null;
  #phase: Phase = 'admitting';
  #sweepPlace: RosterPlace<Swept> | null = null;
  #runningPlace: RosterPlace<Drainable> | null = null;
  #dueMs = 0;
  #addedOutputLimit: number | null = null;
  #walk: TargetWalk | null = null;
  #attempt: WholeAttempt | StreamAttempt | null = null;
  #calledTarget: Target | null = null;

  constructor(runtime: Runtime, raw: RawExchange, intake: Intake, callerTimeoutMs: number) {
    this.#runtime = runtime;
    this.#raw = raw;
    this.#intake = intake;
    this.#response = raw.response;
    this.#principal = raw.principal;
    this.#context = raw.context;
    this.#callerTimeoutMs = callerTimeoutMs;
    this.#account = new Account(runtime, raw.principal, raw.context, intake);
    this.#gate = new CallGate(runtime, this.#account, this, (work) => this.#guard(work));
    this.#client = intake.stream ? new ClientStream(raw.response, this.#account.startedMs) : null;
  }

  /** Whether the client takes no more for now. */
  get isBlocked(): boolean {
    return this.#client?.isBlocked ?? false;
  }

  get #isOver(): boolean {
    return this.#phase === 'over';
  }

  /** Runs the request; returns at once. */
  begin(): void {
    this.#runningPlace = this.#runtime.running.add(this);
    this.#sweepPlace = this.#runtime.sweep.join(this);
    this.#response.once('close', () => this.#guard(() => this.#onClientGone()));
    if (this.#response.destroyed) this.#onClientGone();
    else this.#guard(() => this.#findTargets());
  }

  #findTargets(): void {
    const intake = this.#intake;
    if (intake === null) return;
    const found = findCandidates(this.#runtime, this.#principal, intake.operation, intake.model);
    this.#whenReady(found, (candidates) => this.#admit(intake, candidates));
  }

  #admit(intake: Intake, candidates: readonly Target[]): void {
    if (this.#isOver) return;
    const { createdAtMs } = this.#account;
    const admission = admit(this.#runtime, this.#principal, this.#context, intake, candidates, createdAtMs);
    this.#addedOutputLimit = admission.addedOutputLimit;
    this.#whenReady(admission.reservation, (reservation) => {
      this.#decide(intake, admission.candidates, reservation);
    });
  }

  #decide(intake: Intake, candidates: readonly Target[], reservation: Reservation | Denial): void {
    setRateLimitFields(this.#response, reservation.rateLimit);
    if (!reservation.isGranted) {
      this.#fail(reservation.error);
      return;
    }
    if (this.#isOver) {
      reservation.settle(null, 0, 0);
      return;
    }
    this.#account.reservation = reservation;
    const decision = this.#runtime.decider.decide({
      principal: this.#principal,
      requestedModel: intake.model,
      candidates,
      isHealthy: (target) => this.#runtime.circuits.isHealthy(target),
    });
    if (decision === null) throw new AppError('no_target', 'No target can answer this request.');
    this.#account.decision = decision;
    this.#walk = new TargetWalk(this.#runtime, [decision.target, ...decision.fallbacks]);
    this.#take(this.#walk.enter());
  }

  #take(step: Step): void {
    if (step.kind === 'end') this.#fail(step.error);
    else if (step.kind === 'call') {
      this.#phase = 'entering';
      this.#gate.enter(step);
    } else {
      this.#phase = 'pausing';
      this.#dueMs = this.#runtime.clock.monotonic() + step.forMs;
    }
  }

  onCrowded(): void {
    if (this.#walk !== null) this.#take(this.#walk.afterCrowding());
  }

  onRefused(refusal: AppError): void {
    this.#fail(refusal);
  }

  onPlace(step: CallStep, bulkhead: Bulkhead): void {
    const intake = this.#intake;
    const provider = this.#runtime.providers.get(step.target.provider.kind);
    if (intake === null || provider === undefined) {
      bulkhead.release();
      step.circuit.breaker.forget(step.permit);
      throw new AppError('no_target', 'No target can answer this request.');
    }
    const attempt = this.#newAttempt(step, bulkhead, intake);
    this.#attempt = attempt;
    this.#calledTarget = step.target;
    this.#phase = 'calling';
    this.#walk?.countTry();
    attempt.start(provider, {
      operation: intake.operation,
      target: step.target,
      body: bodyFor(intake, step.target, this.#addedOutputLimit),
      json: intake.json,
      stream: intake.stream,
      inputTokensEstimate: intake.inputTokensEstimate,
      traceparent: (attempt.ports.span ?? this.#account.span).traceparent,
      publicRequestId: this.#context.publicRequestId,
    });
  }

  #newAttempt(step: CallStep, bulkhead: Bulkhead, intake: Intake): WholeAttempt | StreamAttempt {
    const ports: AttemptPorts = {
      target: step.target,
      circuit: step.circuit,
      permit: step.permit,
      span: this.#account.startAttemptSpan(step.target),
      leaveBulkhead: () => bulkhead.release(),
      startedMs: this.#runtime.clock.monotonic(),
      startedAt: isoTime(this.#runtime.clock.now()),
    };
    if (!intake.stream) return new WholeAttempt(ports, intake.operation, this);
    const { isUsageWanted } = intake;
    const settings = { isUsageWanted, connection: step.target.provider };
    return new StreamAttempt(ports, settings, this.#runtime.gathering, this);
  }

  onAnswer(attempt: WholeAttempt, answer: CheckedAnswer): void {
    const intake = this.#intake;
    if (this.#isOver || intake === null) return;
    this.#conclude(attempt, null, null);
    const usage =
      answer.usage ?? estimatedUsage(this.#account.inputTokensEstimate, estimateOutputTokens(answer.json));
    const body =
      intake.operation === 'embeddings' ? inWantedEncoding(answer, intake.encodingFormat) : answer.body;
    const { target } = attempt.ports;
    this.#end('completed', null, usage, target, () => {
      if (this.#response.destroyed) return;
      this.#response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': body.length,
        'x-stoa-target': target.id,
      });
      this.#response.end(body);
      linger(this.#runtime, attempt, this.#response);
    });
  }

  onFrames(attempt: StreamAttempt, pieces: readonly Buffer[], isLast: boolean): void {
    const client = this.#client;
    if (this.#isOver || client === null) return;
    if (attempt.firstTokenMs === null) {
      attempt.markFirstToken(this.#runtime.clock.monotonic());
      this.#account.firstTokenMs = attempt.firstTokenMs;
      this.#phase = 'streaming';
      this.#releaseBody();
      client.sendHead(attempt.ports.target.id);
    }
    const { nowMs } = this.#runtime.sweep;
    attempt.lastFrameMs = nowMs;
    // The end comes as soon as the record is written, mostly within this turn: the last frames wait for it.
    if (isLast) client.holdForEnd();
    for (const piece of pieces) client.write(piece, nowMs, this.#onDrain);
  }

  onDone(attempt: StreamAttempt): void {
    if (this.#isOver) return;
    this.#conclude(attempt, null, null);
    this.#end('completed', null, this.#streamUsage(attempt), attempt.ports.target, () => {
      this.#client?.endWithDone();
      linger(this.#runtime, attempt, this.#response);
    });
  }

  onAttemptFault(attempt: Attempt, fault: ProviderFault): void {
    if (this.#isOver || attempt !== this.#attempt) return;
    this.#logFault(attempt.ports.target, fault);
    this.#afterFault(fault);
  }

  onCrash(thrown: unknown): void {
    const error = toAppError(thrown);
    if (error.code === 'internal_error') {
      this.#runtime.logger.error(
        { request_id: this.#context.publicRequestId, err: thrown },
        'a request failed inside',
      );
    }
    this.#stop(error);
  }

  #afterFault(fault: ProviderFault): void {
    const attempt = this.#attempt;
    const walk = this.#walk;
    if (attempt === null || walk === null) return;
    const hasDelivered = attempt.firstTokenMs !== null;
    const error = hasDelivered ? interruptionError(fault) : errorOfFault(fault, false);
    this.#conclude(attempt, fault, error);
    if (hasDelivered) {
      this.#endWithError(error, this.#deliveredUsage());
      return;
    }
    this.#attempt = null;
    const elapsedMs = this.#runtime.clock.monotonic() - this.#account.startedMs;
    this.#take(walk.afterFault(fault, attempt.ports.circuit, elapsedMs));
  }

  #conclude(attempt: Attempt, fault: ProviderFault | null, error: AppError | null): void {
    const record = attempt.conclude(fault, error, this.#runtime.clock.monotonic());
    if (record === null) return;
    this.#account.attempts.push(record);
    this.#runtime.metrics.attemptEnded(attempt.ports.target.provider.id, fault?.kind ?? null);
  }

  #fail(error: AppError): void {
    this.#endWithError(error, noUsage);
  }

  /** Ends a running request from outside: a revoked key, a drain, a fault of our own. */
  #stop(error: AppError): void {
    if (this.#isOver) return;
    const usage = this.#deliveredUsage();
    this.#abandonAttempt(error);
    this.#endWithError(error, usage);
  }

  #onClientGone(): void {
    if (this.#isOver) return;
    const usage = this.#deliveredUsage();
    const error = new AppError('client_closed', 'The client went away.');
    this.#abandonAttempt(error);
    this.#end('client_cancelled', error, usage, this.#calledTarget, () => undefined);
  }

  /** Leaves the queue, or cancels the call, without a verdict on the provider. */
  #abandonAttempt(error: AppError): void {
    this.#gate.abandon();
    const attempt = this.#attempt;
    if (attempt === null || attempt.isConcluded) return;
    attempt.silence();
    attempt.cancel();
    this.#conclude(attempt, providerFault('cancelled', error.code), error);
  }

  /** Of a request that got no whole answer: refused before any call, failed after one. */
  #endWithError(error: AppError, usage: Usage): void {
    const raw = this.#raw;
    const outcome = this.#account.attempts.length === 0 ? 'refused' : 'failed';
    this.#end(outcome, error, usage, this.#calledTarget, () => {
      if (this.#client?.isHeadSent) this.#client.endWithError(error);
      else raw?.fail(error);
    });
  }

  /** Settles, then sends what is last. Only the first call does anything. */
  #end(
    outcome: Outcome,
    error: AppError | null,
    usage: Usage,
    target: Target | null,
    send: () => void,
  ): void {
    if (this.#isOver) return;
    this.#phase = 'over';
    if (this.#sweepPlace !== null) this.#runtime.sweep.leave(this.#sweepPlace);
    try {
      this.#account.settle(outcome, error, usage, target, (refusal) => {
        if (refusal !== null) {
          this.#endUnsettled(refusal);
          return;
        }
        this.#leaveRunning();
        this.#releaseBody();
        send();
      });
    } catch (thrown) {
      this.#endUnsettled(thrown);
    }
  }

  #leaveRunning(): void {
    if (this.#runningPlace !== null) this.#runtime.running.delete(this.#runningPlace);
  }

  /** The record could not be written, so what was promised must not look complete. */
  #endUnsettled(thrown: unknown): void {
    const error = toAppError(thrown);
    this.#leaveRunning();
    this.#runtime.logger.error(
      { request_id: this.#context.publicRequestId, err: thrown },
      'a request could not be settled',
    );
    if (this.#client?.isHeadSent) this.#client.endWithError(error);
    else this.#raw?.fail(error);
    this.#releaseBody();
  }

  /** Looks at what has become due. */
  sweep(nowMs: number): void {
    this.#guard(() => this.#sweep(nowMs));
  }

  endForDrain(): void {
    const error = new AppError('draining', 'This process is shutting down.', {
      wasMoneySpent: this.#attempt !== null || this.#walk?.wasMoneySpent === true,
    });
    this.#guard(() => this.#stop(error));
  }

  #sweep(nowMs: number): void {
    const { refusal } = this.#principal.standing;
    if (refusal !== null) this.#stop(refusal);
    else if (nowMs - this.#account.startedMs >= this.#callerTimeoutMs) this.#stop(callerTimeoutError());
    else if (this.#phase === 'entering') this.#gate.sweep(nowMs);
    else if (this.#phase === 'pausing' && nowMs >= this.#dueMs && this.#walk) this.#take(this.#walk.enter());
    else if (this.#attempt !== null) this.#watchAttempt(this.#attempt, nowMs);
    if (!this.#isOver) this.#watchClient(nowMs);
  }

  #watchAttempt(attempt: WholeAttempt | StreamAttempt, nowMs: number): void {
    if (!attempt.isPastDeadline(nowMs, this.isBlocked)) return;
    attempt.silence();
    attempt.cancel();
    const fault = providerFault('timeout', 'no answer before the deadline');
    this.#logFault(attempt.ports.target, fault);
    this.#afterFault(fault);
  }

  #watchClient(nowMs: number): void {
    const client = this.#client;
    if (client === null) return;
    if (client.isBlocked) {
      if (nowMs - client.blockedSinceMs >= slowReaderMs) client.destroy();
      return;
    }
    if (nowMs - client.lastWriteMs < commentAfterMs) return;
    const isTargetSure = this.#walk !== null && !this.#walk.hasFallback;
    client.sendHead(isTargetSure ? (this.#calledTarget?.id ?? null) : null);
    client.sendComment(nowMs);
  }

  readonly #onDrain = (): void => {
    const attempt = this.#attempt;
    if (attempt === null || this.#isOver) return;
    // The provider was paused, so its silence until now was ours.
    attempt.lastFrameMs = this.#runtime.sweep.nowMs;
    attempt.resume();
  };

  #streamUsage(attempt: StreamAttempt): Usage {
    const { relay } = attempt;
    return (
      relay.usage ?? estimatedUsage(this.#account.inputTokensEstimate, estimateTokens(relay.contentBytes))
    );
  }

  /** Of an answer that ends early: what was delivered is billed. */
  #deliveredUsage(): Usage {
    const attempt = this.#attempt;
    if (attempt instanceof StreamAttempt && attempt.firstTokenMs !== null) return this.#streamUsage(attempt);
    return attempt === null || attempt.isConcluded ? noUsage : undeliveredUsage;
  }

  #releaseBody(): void {
    this.#raw?.releaseBody();
    this.#raw = null;
    this.#intake = null;
  }

  #logFault(target: Target, fault: ProviderFault): void {
    const { tenantId } = this.#principal;
    const { publicRequestId } = this.#context;
    const request = { publicRequestId, tenantId, traceId: this.#account.span.traceId };
    logFault(this.#runtime.logger, request, target, fault);
  }

  #whenReady<Value>(value: Value | Promise<Value>, next: (value: Value) => void): void {
    if (value instanceof Promise) {
      value.then(
        (found) => this.#guard(() => next(found)),
        (thrown: unknown) => this.onCrash(thrown),
      );
    } else next(value);
  }

  /** Whatever is thrown ends the request with its code, and nobody else's. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      this.onCrash(thrown);
    }
  }
}
