import type { Broadcast, BroadcastMessage } from '#cache';
import { hearChanges } from '#cache';
import type { Logger } from '#kernel';
import type { ChangePoll } from './change-poll.ts';

/**
 * Word of changed keys and tenants, so that the other processes need not wait for their next poll. It is sent after the
 * commit and may be lost; the poll stands beneath it. A message names a row and its version and is never believed further
 * than that: who hears it reads the row.
 */
export const changeTopics = {
  key: 'access.key',
  operator_key: 'access.operator-key',
  tenant: 'access.tenant',
} as const;

export interface ChangedRow {
  readonly kind: keyof typeof changeTopics;
  readonly id: string;
  readonly version: number;
  /** The owner of a key; undefined for the operator's. */
  readonly tenantId?: string;
}

/** Tells the other processes; never throws. */
export function tellChange(broadcast: Broadcast, { kind, id, version, tenantId }: ChangedRow): void {
  const owner = kind === 'tenant' ? id : tenantId;
  broadcast.publish({
    topic: changeTopics[kind],
    key: id,
    version,
    ...(owner === undefined ? {} : { tenantId: owner }),
  });
}

/** Listens until the answer is called, which resolves when nothing is being read any more. */
export function hearKeyChanges(
  deps: { readonly broadcast: Broadcast; readonly logger: Logger },
  poll: ChangePoll,
): () => Promise<void> {
  return hearChanges(deps, Object.values(changeTopics), {
    apply: (messages) => poll.apply(messages.flatMap(changeIn)),
    readAll: () => poll.run(),
  });
}

function changeIn({
  topic,
  key,
  version,
}: BroadcastMessage): { kind: ChangedRow['kind']; id: string; version: bigint }[] {
  if (key === undefined) return [];
  if (topic === changeTopics.key) return [{ kind: 'key', id: key, version: BigInt(version) }];
  if (topic === changeTopics.operator_key)
    return [{ kind: 'operator_key', id: key, version: BigInt(version) }];
  return topic === changeTopics.tenant ? [{ kind: 'tenant', id: key, version: BigInt(version) }] : [];
}
