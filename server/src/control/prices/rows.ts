import { type Override, parseTerms } from './overrides.ts';
import type { OverrideRow } from './prices.sql.ts';

export function overrideOf(row: OverrideRow): Override {
  return {
    id: row.price_id,
    revision: Number(row.revision),
    target: row.target,
    provider: row.provider,
    model: row.model,
    terms: row.terms === null ? null : parseTerms(row.terms),
    validFromMs: row.valid_from.getTime(),
    note: row.note,
    createdBy: row.created_by,
  };
}
