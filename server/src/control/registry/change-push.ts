import type { Broadcast } from '#cache';
import { hearChanges } from '#cache';
import type { Logger } from '#kernel';
import type { PolicyStore } from './policies.ts';
import type { RegistryState } from './state.ts';

/**
 * Word of changed providers, models and policies between processes, sent after the commit. It may be lost; the poll
 * stands beneath it.
 */
const topics = { registry: 'registry.changed', policy: 'registry.policy' } as const;

/** Beyond so many policies at once the poll's one query is cheaper. */
const policiesReadSingly = 20;

/** Tells the others that this process has just read a change of its own. Never throws. */
export function tellRegistryChange(broadcast: Broadcast | undefined, version: number): void {
  broadcast?.publish({ topic: topics.registry, version });
}

export function tellPolicyChange(broadcast: Broadcast | undefined, tenantId: string, version: number): void {
  broadcast?.publish({ topic: topics.policy, tenantId, version });
}

/** Listens until the answer is called, which resolves when nothing is being read any more. */
export function hearRegistryChanges(
  deps: { readonly broadcast: Broadcast; readonly logger: Logger },
  state: RegistryState,
  policies: PolicyStore,
): () => Promise<void> {
  return hearChanges(deps, Object.values(topics), {
    async apply(messages) {
      const revision = Math.max(
        -1,
        ...messages.filter(({ topic }) => topic === topics.registry).map(({ version }) => version),
      );
      if (revision > Number(state.revision())) await state.reload('if-changed');
      const changed = new Map(
        messages.flatMap(({ topic, tenantId, version }) =>
          topic === topics.policy && tenantId !== undefined ? [[tenantId, version] as const] : [],
        ),
      );
      if (changed.size > policiesReadSingly) await policies.poll();
      else for (const [tenantId, version] of changed) await policies.readChange(tenantId, version);
    },
    async readAll() {
      await state.reload('if-changed');
      await policies.poll();
    },
  });
}
