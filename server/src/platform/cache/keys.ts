import { isUuid } from '#kernel';
import type { CacheKey, Owner } from './types.ts';

const keyCharacters = 256;
const maximumValueBytes = 1024 * 1024;
export const maximumTtlMs = 24 * 60 * 60 * 1000;

/**
 * The owner and the key as one text. No two pairs have the same: an owner holds no colon. RangeError for an owner that is
 * none and for a key without or with too many characters.
 */
export function ownedKey({ tenantId, key }: CacheKey): string {
  if (key.length < 1 || key.length > keyCharacters)
    throw new RangeError(`a key has 1 to ${keyCharacters} characters`);
  if (!key.isWellFormed()) throw new RangeError('a key is well-formed text');
  return `${checkedOwner(tenantId)}:${key}`;
}

const groupAtMost = 64;

/** The texts of several limits that are taken together; RangeError where two are one, and for none or too many. */
export function checkedGroup(requests: readonly CacheKey[]): readonly string[] {
  if (requests.length < 1 || requests.length > groupAtMost)
    throw new RangeError(`1 to ${groupAtMost} limits are taken together`);
  const keys = requests.map(ownedKey);
  for (const [index, key] of keys.entries())
    if (keys.indexOf(key) !== index)
      throw new RangeError('limits that are taken together have different keys');
  return keys;
}

export function checkedOwner(tenantId: Owner): Owner {
  if (tenantId !== 'platform' && !isUuid(tenantId))
    throw new RangeError('an owner is the UUID of a tenant or `platform`');
  return tenantId;
}

/** Milliseconds that an entry or a lease may live; RangeError for any other number. */
export function checkedTtl(ttlMs: number): number {
  if (!Number.isInteger(ttlMs) || ttlMs < 1 || ttlMs > maximumTtlMs)
    throw new RangeError(`a time to live is 1 to ${maximumTtlMs} whole milliseconds`);
  return ttlMs;
}

/** Whether a value may be stored; RangeError for text that UTF-8 can't hold. */
export function isStorable(value: string): boolean {
  if (!value.isWellFormed()) throw new RangeError('a value is well-formed text');
  return value.length <= maximumValueBytes && Buffer.byteLength(value) <= maximumValueBytes;
}
