import type { Database } from '#db';
import type { Logger, OperatorPrincipal, TenantPrincipal } from '#kernel';
import type { CachedKey } from './key-cache.ts';
import type { KeyDirectory } from './key-directory.ts';
import { updateOperatorKeyUses, updateTenantKeyUses } from './lookup.sql.ts';

/**
 * Writes when keys were last used: gathered in memory by authentication, written in batches by a timer, at most once a
 * minute for each key. What a killed process had not written is lost, and a written time may be a minute early: this
 * tells forgotten keys from used ones, and is no record of use.
 */
export interface LastUseDeps {
  readonly db: Database;
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly operatorKeys: KeyDirectory<OperatorPrincipal>;
  readonly logger: Logger;
}

const keysPerStatement = 1000;
/** The smallest time between two writes of one key, milliseconds. The statements have the same minute. */
export const lastUseIntervalMs = 60_000;

/** Writes what was gathered; answers how many keys were written. What can't be written is dropped and logged. */
export async function writeLastUses({ db, tenantKeys, operatorKeys, logger }: LastUseDeps): Promise<number> {
  const ofTenants = tenantKeys.takeUses().flatMap((key) => {
    const { keyId, tenantId, usedAtMs } = key;
    return tenantId === null ? [] : [{ tenantId, keyId, usedAt: new Date(usedAtMs) }];
  });
  const ofOperator = operatorKeys.takeUses().map(useOf);
  let written = 0;
  try {
    for (const batch of batchesOf(ofTenants))
      written += await db.withSystem('key-last-use', (tx) => updateTenantKeyUses(tx, batch));
    for (const batch of batchesOf(ofOperator))
      written += await db.withSystem('key-last-use', (tx) => updateOperatorKeyUses(tx, batch));
  } catch (error) {
    logger.warn(
      { err: error },
      'the last uses of keys could not be written; the next minute writes newer ones',
    );
  }
  return written;
}

function useOf({ keyId, usedAtMs }: CachedKey<unknown>): { keyId: string; usedAt: Date } {
  return { keyId, usedAt: new Date(usedAtMs) };
}

/** Without repeats (an evicted key that came back is there twice), cut into pieces. */
function batchesOf<Use extends { keyId: string }>(uses: readonly Use[]): readonly (readonly Use[])[] {
  const unique = [...new Map(uses.map((use) => [use.keyId, use])).values()];
  const batches: Use[][] = [];
  for (let start = 0; start < unique.length; start += keysPerStatement)
    batches.push(unique.slice(start, start + keysPerStatement));
  return batches;
}
