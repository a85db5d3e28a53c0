import { crc32 } from 'node:zlib';

/** How many partitions there are, in every carrier and for ever: a consumer's places go by their numbers. */
export const partitionCount = 64;

/** The partition of a key, 0 to 63. All events of one key of one tenant are in one partition. */
export function partitionOf(tenantId: string, key: string): number {
  return crc32(`${tenantId}\n${key}`) % partitionCount;
}
