import type { OperatorHandle, SystemHandle, TenantHandle } from '#db';

export type AnyHandle = TenantHandle | OperatorHandle | SystemHandle;

/** Transactions that have written events; asked after their commit, and gone with them. */
const writers = new WeakSet<AnyHandle>();

/** Notes that this transaction writes events, so that readers are woken once it has committed. */
export function noteWriter(tx: AnyHandle): void {
  writers.add(tx);
}

export function hasWrittenEvents(tx: AnyHandle): boolean {
  return writers.has(tx);
}
