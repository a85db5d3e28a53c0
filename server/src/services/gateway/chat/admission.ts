import type { RequestContext } from '#http';
import { AppError, type Femto, type TenantPrincipal } from '#kernel';
import type { Target } from '#models';
import type { Denial, Reservation } from '#quotas';
import { maximumTries } from './attempts/target-walk.ts';
import type { Intake } from './intake/intake.ts';
import type { Runtime } from './runtime.ts';

/** What admission found: the targets that may still be used, and what was set aside for the request. */
export interface Admission {
  readonly candidates: readonly Target[];
  /** Put into the body where the client set none and a hard budget must hold; else null. */
  readonly addedOutputLimit: number | null;
  readonly reservation: Reservation | Denial | Promise<Reservation | Denial>;
}

/**
 * Reserves what the request may use at most: its input bound and its output limit (the plan's cap where it has none) for
 * each of its choices, at the dearest of its targets, times the tries allowed. Money is bounded only where a hard budget
 * binds; a target without a price is refused there. Rate limits of tokens take what is expected of one try instead, and
 * learn what was used when the request settles.
 * @throws `target_not_priced`, `no_target`
 */
export function admit(
  runtime: Runtime,
  principal: TenantPrincipal,
  { requestId, clientAddress }: Pick<RequestContext, 'requestId' | 'clientAddress'>,
  intake: Intake,
  candidates: readonly Target[],
  nowMs: number,
): Admission {
  if (candidates.length === 0) {
    throw new AppError('no_target', 'No target can answer this request.', { retryAfterMs: 5_000 });
  }
  const { quotas } = runtime;
  const isBudgetHard = quotas.hasHardBudget(principal);
  const usable = isBudgetHard ? candidates.filter((target) => runtime.prices.isPriced(target)) : candidates;
  if (usable.length === 0) {
    throw new AppError(
      'target_not_priced',
      'The target has no price, so it cannot be used under a hard budget.',
    );
  }
  const inputTokens = intake.inputTokensBound * maximumTries;
  const perChoice =
    intake.operation === 'embeddings' ? 0 : (intake.outputLimit ?? quotas.outputCap(principal));
  const outputTokens = perChoice * intake.choices * maximumTries;
  const costFemto = isBudgetHard ? dearest(runtime, usable, inputTokens, outputTokens, nowMs) : null;
  return {
    candidates: usable,
    addedOutputLimit: isBudgetHard && intake.outputLimit === null && perChoice > 0 ? perChoice : null,
    reservation: quotas.reserve({
      principal,
      requestId,
      routeClass: intake.operation === 'embeddings' ? 'embeddings' : 'chat',
      clientAddress,
      inputTokens,
      outputTokens,
      expectedTokens: intake.inputTokensEstimate + perChoice * intake.choices,
      askedTokens:
        intake.inputTokensEstimate + (intake.outputLimit === null ? 0 : perChoice * intake.choices),
      costFemto,
    }),
  };
}

function dearest(
  runtime: Runtime,
  targets: readonly Target[],
  inputTokens: number,
  outputTokens: number,
  nowMs: number,
): Femto | null {
  let highest: Femto | null = null;
  for (const target of targets) {
    const cost = runtime.prices.upperBound(target, inputTokens, outputTokens, nowMs);
    if (cost !== null && (highest === null || cost > highest)) highest = cost;
  }
  return highest;
}
