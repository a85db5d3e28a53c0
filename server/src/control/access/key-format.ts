import { hash, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * The form of a key: `stoa_sk_<id>_<secret><check>` for a tenant, `stoa_op_...` for the operator.
 *
 * | part | characters | what |
 * | --- | --- | --- |
 * | prefix | 8 | so that scanners for leaked secrets know it |
 * | id | 12 | names the key; the first two characters name the cell that holds its tenant |
 * | secret | 30 | 178.6 random bits |
 * | check | 6 | CRC32 of all before it: a typo is refused without a look-up |
 *
 * Everything after the prefix is base62 (0-9, A-Z, a-z), so a double click selects the whole. The check is no defence:
 * anybody can compute it.
 */
export const keyPrefixes = { tenant: 'stoa_sk_', operator: 'stoa_op_' } as const;
export type KeyPrefix = (typeof keyPrefixes)[keyof typeof keyPrefixes];

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const prefixLength = 8;
const idLength = 12;
const cellLength = 2;
const secretLength = 30;
const checkLength = 6;
const idEnd = prefixLength + idLength;
const checkStart = idEnd + 1 + secretLength;
const keyLength = checkStart + checkLength;
const bodyPattern = /^[0-9A-Za-z]{12}_[0-9A-Za-z]{36}$/;
const idPattern = /^[0-9A-Za-z]{12}$/;

/** Whether text can be the id of a key. */
export function isKeyId(text: string): boolean {
  return idPattern.test(text);
}

/** Random base62 characters, each equally likely: bytes from 248 on are thrown away, since 256 is no multiple of 62. */
function randomBase62(length: number): string {
  let text = '';
  while (text.length < length) {
    for (const byte of randomBytes(length * 2)) {
      if (byte >= 248) continue;
      text += alphabet.charAt(byte % 62);
      if (text.length === length) break;
    }
  }
  return text;
}

/** Six base62 characters of the CRC32 (zlib's) of `text`, with leading zeros. */
export function checkOf(text: string): string {
  let rest = crc32(text);
  let check = '';
  for (let index = 0; index < checkLength; index++) {
    check = alphabet.charAt(rest % 62) + check;
    rest = Math.floor(rest / 62);
  }
  return check;
}

/** SHA-256 of a whole key. */
export function hashOfKey(key: string): Uint8Array {
  return hash('sha256', key, 'buffer');
}

export interface NewKey {
  readonly keyId: string;
  /** The plaintext: to be shown once and never stored. */
  readonly key: string;
  readonly hash: Uint8Array;
  readonly lastFour: string;
}

/** Makes a key. `cell` is two base62 characters. */
export function makeKey(prefix: KeyPrefix, cell: string): NewKey {
  if (!/^[0-9A-Za-z]{2}$/.test(cell)) throw new Error('a cell is named by two base62 characters');
  return makeKeyOfId(prefix, cell + randomBase62(idLength - cellLength));
}

/** Makes a key of an id that exists, with another secret. */
export function makeKeyOfId(prefix: KeyPrefix, keyId: string): NewKey {
  if (!isKeyId(keyId)) throw new Error('no key can have this id');
  const unchecked = `${prefix}${keyId}_${randomBase62(secretLength)}`;
  const key = unchecked + checkOf(unchecked);
  return { keyId, key, hash: hashOfKey(key), lastFour: key.slice(-4) };
}

/** The id in what may be a key, or null where its outer shape is another. Cheap: says nothing of the characters. */
export function keyIdIn(text: string, prefix: KeyPrefix): string | null {
  if (text.length !== keyLength || !text.startsWith(prefix) || text.charCodeAt(idEnd) !== 95) return null;
  return text.slice(prefixLength, idEnd);
}

/** Whether text that has the outer shape of a key is well-formed to the last character. */
export function isWellFormedKey(text: string): boolean {
  return (
    bodyPattern.test(text.slice(prefixLength)) &&
    text.slice(checkStart) === checkOf(text.slice(0, checkStart))
  );
}

/** Whether `key` is the key with this SHA-256; takes the same time wherever they differ. */
export function isKeyWithHash(key: string, expected: Uint8Array): boolean {
  return timingSafeEqual(hashOfKey(key), expected);
}

const bearer = /^bearer +(\S+) *$/i;

/** The credential of an Authorization header, or null where there is none. */
export function bearerToken(authorization: string | undefined): string | null {
  if (authorization === undefined) return null;
  if (authorization.length === 7 + keyLength && authorization.startsWith('Bearer '))
    return authorization.slice(7);
  return bearer.exec(authorization)?.[1] ?? null;
}
