import { AppError, type TenantPrincipal } from '#kernel';
import type { ModelOperation, Target } from '#models';
import type { TargetPolicy, TargetSnapshot } from '#registry';
import type { Runtime } from './runtime.ts';

/** The name that lets the platform choose. */
const automatic = 'auto';

/**
 * The targets that a request may go to: the named one, or for `auto` the tenant's in its order. Synchronous where the
 * process knows the model and the tenant's policy.
 * @throws (or rejects) `model_not_found` for a model that does not exist, and for one that the tenant may not use: the two
 *   cannot be told apart; and for `auto` where no embedding model is open to the tenant
 */
export function findCandidates(
  runtime: Runtime,
  principal: TenantPrincipal,
  operation: ModelOperation,
  model: string,
): readonly Target[] | Promise<readonly Target[]> {
  const policy = runtime.registry.policyFor(principal.tenantId);
  if (policy instanceof Promise) {
    return policy.then((found) => candidatesUnder(runtime, found, operation, model));
  }
  return candidatesUnder(runtime, policy, operation, model);
}

function candidatesUnder(
  runtime: Runtime,
  policy: TargetPolicy,
  operation: ModelOperation,
  model: string,
): readonly Target[] | Promise<readonly Target[]> {
  const snapshot = runtime.registry.snapshot();
  if (model === automatic) {
    return operation === 'embeddings' ? embeddingTargets(runtime, policy) : policy.chatOrder;
  }
  const target = snapshot.byId.get(model);
  if (target !== undefined) return [allowed(target, policy, operation, model)];
  return runtime.registry.refresh(model).then((found) => [allowed(found, policy, operation, model)]);
}

function allowed(
  target: Target | null,
  policy: TargetPolicy,
  operation: ModelOperation,
  model: string,
): Target {
  if (target === null || !policy.isAllowed(target) || !mayServe(target, operation)) {
    throw new AppError('model_not_found', `The model "${model}" does not exist or is not open to you.`, {
      param: 'model',
    });
  }
  return target;
}

/** What a discovered model is for is a guess from its name, so there the provider itself is asked. */
function mayServe(target: Target, operation: ModelOperation): boolean {
  const isDiscovered = target.provider.kind === 'openai-compatible';
  return isDiscovered || target.kind === (operation === 'embeddings' ? 'embedding' : 'chat');
}

/** Where none is known, providers that list their models are asked once; that there is none stays so, and is final. */
function embeddingTargets(
  runtime: Runtime,
  policy: TargetPolicy,
): readonly Target[] | Promise<readonly Target[]> {
  const known = knownEmbeddingTargets(runtime.registry.snapshot(), policy);
  if (known.length > 0) return known;
  return runtime.registry.refresh(automatic).then(() => {
    const found = knownEmbeddingTargets(runtime.registry.snapshot(), policy);
    if (found.length > 0) return found;
    throw new AppError(
      'model_not_found',
      'No embedding model is open to you, so "auto" cannot choose one. Ask the operator to add one.',
      { param: 'model' },
    );
  });
}

function knownEmbeddingTargets(snapshot: TargetSnapshot, policy: TargetPolicy): readonly Target[] {
  return [...snapshot.byId.values()].filter(
    (target) => target.kind === 'embedding' && policy.isAllowed(target),
  );
}
