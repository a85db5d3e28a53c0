import type { PriceDiff } from '@stoa/contracts';
import { shownDiffEntries } from '@stoa/contracts';
import { canonicalText } from './book-document.ts';
import type { Subject } from './overrides.ts';

/** Something that is priced, before or after: what its prices are, as the operator reads them. */
export interface Priced extends Subject {
  readonly id: string;
  /** Compared by canonical text. */
  readonly prices: unknown;
}

export type DiffParts = Omit<PriceDiff, 'object' | 'dry_run' | 'price_version_before' | 'price_version'>;

/** What lies between two sets, by id. The lists are cut to what is shown, the counts are whole. */
export function diffOf(before: readonly Priced[], after: readonly Priced[]): DiffParts {
  const old = new Map(before.map((priced) => [priced.id, priced]));
  const fresh = new Map(after.map((priced) => [priced.id, priced]));
  const added = [...fresh.values()].filter(({ id }) => !old.has(id));
  const removed = [...old.values()].filter(({ id }) => !fresh.has(id));
  const kept = [...fresh.values()].filter(({ id }) => old.has(id));
  const changed = kept.filter(
    ({ id, prices }) => canonicalText(old.get(id)?.prices) !== canonicalText(prices),
  );
  const entry = ({ id, target, provider, model }: Priced) => ({
    id,
    target,
    provider,
    model,
    before: old.get(id)?.prices ?? null,
    after: fresh.get(id)?.prices ?? null,
  });
  return {
    added_count: added.length,
    changed_count: changed.length,
    removed_count: removed.length,
    unchanged_count: kept.length - changed.length,
    added: added.slice(0, shownDiffEntries).map(entry),
    changed: changed.slice(0, shownDiffEntries).map(entry),
    removed: removed.slice(0, shownDiffEntries).map(entry),
  };
}
