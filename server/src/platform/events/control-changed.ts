import type { ControlChangedV1 } from '@stoa/contracts';
import { newUuid } from '#kernel';
import type { TypedEvent } from './types.ts';

/**
 * The event of a change of a tenant's resource, written in the transaction of the change. The resource's own version is
 * the key's: it grows by one with each change, under the lock of the row.
 */
export function controlChanged(
  resource: { readonly tenantId: string; readonly changedAt: Date },
  data: ControlChangedV1,
): TypedEvent {
  return {
    tenantId: resource.tenantId,
    eventId: newUuid(),
    type: 'control.changed.v1',
    keyversion: BigInt(data.version),
    occurredAt: resource.changedAt,
    data,
  };
}

/** The names of the fields that differ, in the order of `after`. Values that JSON writes alike are the same. */
export function changedFields<Name extends string>(
  before: Readonly<Record<Name, unknown>>,
  after: Readonly<Record<Name, unknown>>,
): Name[] {
  return Object.keys(after).filter(
    (name): name is Name => JSON.stringify(valueOf(before, name)) !== JSON.stringify(valueOf(after, name)),
  );
}

function valueOf(values: Readonly<Record<string, unknown>>, name: string): unknown {
  return values[name] ?? null;
}
