import { automaticModel, type ListedModelObject } from '@stoa/contracts';
import type { Target } from '#models';
import type { PriceOf } from './models.ts';
import type { TargetPolicy, TargetSnapshot } from './types.ts';

/** What one tenant can write in `model`, in OpenAI's shape: `auto` first where it can choose, then every target. */
export function modelList(
  snapshot: TargetSnapshot,
  policy: TargetPolicy,
  priceOf: PriceOf,
): ListedModelObject[] {
  const targets = [...snapshot.byId.values()].filter((target) => policy.isAllowed(target));
  const automatic = automaticObject(policy, priceOf);
  return [...(automatic ? [automatic] : []), ...targets.map((target) => targetObject(target, priceOf))];
}

/** One model by its name; null where the tenant can't use it. */
export function modelNamed(
  id: string,
  snapshot: TargetSnapshot,
  policy: TargetPolicy,
  priceOf: PriceOf,
): ListedModelObject | null {
  if (id === automaticModel) return automaticObject(policy, priceOf);
  const target = snapshot.byId.get(id);
  return target && policy.isAllowed(target) ? targetObject(target, priceOf) : null;
}

function targetObject(target: Target, priceOf: PriceOf): ListedModelObject {
  const price = priceOf(target);
  return {
    id: target.id,
    object: 'model',
    created: target.createdAt,
    owned_by: target.ownedBy,
    kind: target.kind,
    generative: target.isGenerative,
    priced: price !== null,
    price,
  };
}

/** `auto` is as generative as what it prefers, and priced where all that it may choose is. */
function automaticObject({ chatOrder }: TargetPolicy, priceOf: PriceOf): ListedModelObject | null {
  const [first] = chatOrder;
  if (!first) return null;
  return {
    id: automaticModel,
    object: 'model',
    created: first.createdAt,
    owned_by: 'stoa',
    kind: 'chat',
    generative: first.isGenerative,
    priced: chatOrder.every((target) => priceOf(target) !== null),
    price: null,
  };
}
