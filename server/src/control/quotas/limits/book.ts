import { type KeyLimitRule, keyLimits, tenantLimits, type TenantLimitRule } from '@stoa/contracts';
import { type CompiledRules, compileRules } from './rules.ts';
import type { ChangedLimitsRow } from './limits.sql.ts';

interface KeyEntry {
  readonly version: number;
  readonly rules: readonly KeyLimitRule[];
  readonly compiled: CompiledRules | null;
}

interface TenantEntry {
  readonly version: number;
  /** Null where the defaults hold. */
  readonly rules: readonly TenantLimitRule[] | null;
  readonly compiled: CompiledRules | null;
  readonly keys: Map<string, KeyEntry>;
}

/**
 * Every limit that is set, in memory: whoever has none costs a look into one map, and no request ever waits for the
 * database. About 1 KiB for each tenant or key with limits; those without take no room.
 */
export interface LimitsBook {
  /** The limits of a request, or null where it meets none. */
  find(tenantId: string, keyId: string): CompiledRules | null;
  /** What holds for a tenant, its keys' own limits apart. */
  rulesOf(rules: readonly TenantLimitRule[] | null): readonly TenantLimitRule[];
  /** Takes over a row unless a newer one is known. */
  put(row: ChangedLimitsRow): void;
  /** Takes over all there is: what is not among the rows is gone. */
  replace(rows: readonly ChangedLimitsRow[]): void;
  /** Tenants and keys with limits. */
  readonly size: number;
}

export function createLimitsBook(defaults: readonly TenantLimitRule[]): LimitsBook {
  const ofDefaults = compileRules(defaults, []);
  let tenants = new Map<string, TenantEntry>();

  const rulesOf = (rules: readonly TenantLimitRule[] | null): readonly TenantLimitRule[] => rules ?? defaults;

  const putInto = (into: Map<string, TenantEntry>, row: ChangedLimitsRow): void => {
    const { tenant_id: tenantId, key_id: keyId } = row;
    const version = Number(row.version);
    const known = into.get(tenantId);
    const entry = known ?? {
      version: 0,
      rules: null,
      compiled: ofDefaults,
      keys: new Map<string, KeyEntry>(),
    };
    if (keyId !== '') {
      if ((entry.keys.get(keyId)?.version ?? -1) >= version) return;
      const rules = keyRulesIn(row.rules);
      entry.keys.set(keyId, { version, rules, compiled: compileRules(rulesOf(entry.rules), rules) });
      if (!known) into.set(tenantId, entry);
      return;
    }
    if (known && known.version >= version) return;
    const rules = tenantRulesIn(row.rules);
    const keys = new Map(
      entry.keys
        .entries()
        .map(([id, key]) => [id, { ...key, compiled: compileRules(rulesOf(rules), key.rules) }] as const),
    );
    into.set(tenantId, { version, rules, compiled: compileRules(rulesOf(rules), []), keys });
  };

  return {
    rulesOf,
    find(tenantId, keyId) {
      const entry = tenants.get(tenantId);
      if (entry === undefined) return ofDefaults;
      const ofKey = entry.keys.size === 0 ? undefined : entry.keys.get(keyId);
      return ofKey === undefined ? entry.compiled : ofKey.compiled;
    },
    put: (row) => putInto(tenants, row),
    replace(rows) {
      const next = new Map<string, TenantEntry>();
      for (const row of rows) putInto(next, row);
      tenants = next;
    },
    get size() {
      return tenants.size;
    },
  };
}

/** Rules of the database, which were checked when they were set. */
export function tenantRulesIn(text: string | null): readonly TenantLimitRule[] | null {
  return text === null ? null : tenantLimits.shape.effective.parse(JSON.parse(text));
}

export function keyRulesIn(text: string | null): readonly KeyLimitRule[] {
  return text === null ? [] : keyLimits.shape.rules.parse(JSON.parse(text));
}
