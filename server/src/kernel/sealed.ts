import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { AppError } from './error.ts';

/**
 * Secrets at rest: AES-256-GCM under a subkey of the master key.
 *
 * A record is text: `v1.<key id>.<nonce>.<ciphertext and tag>`, the last two in base64url. Everything before the
 * ciphertext and the caller's additional data (which names the place: `platform:providers:credential:<row id>`) are
 * authenticated, so a record that was altered, or moved to another row, column, table or tenant, does not open.
 * The nonce is 96 random bits: one key seals up to 2^32 records (NIST SP 800-38D), far beyond any number of credentials.
 */
export interface Sealer {
  /** Eight hex digits that name the master key; they say nothing of its bytes. */
  readonly keyId: string;
  /** The record for `plaintext` (at most 1 MiB), bound to `aad`; two calls never give the same record. */
  seal(plaintext: string, aad: string): string;
  /** The plaintext of a record. Throws `internal_error`, which says nothing of why, unless key, aad and record fit. */
  open(sealed: string, aad: string): string;
}

const version = 'v1';
const nonceBytes = 12;
const tagBytes = 16;
const maximumBytes = 1024 * 1024;

/**
 * A sealer under the given master key of exactly 32 bytes. The key itself encrypts nothing: HKDF-SHA-256 derives a
 * subkey for this use, so that another use of the same master key shares no key with it.
 * @throws AppError `internal_error` where the key is not 32 bytes long
 */
export function createSealer(masterKey: Uint8Array): Sealer {
  if (masterKey.byteLength !== 32) throw new AppError('internal_error', 'The master key must be 32 bytes.');
  const subkey = Buffer.from(hkdfSync('sha256', masterKey, '', 'stoa sealed secrets v1', 32));
  const keyId = createHash('sha256')
    .update('stoa master key id v1')
    .update(masterKey)
    .digest('hex')
    .slice(0, 8);

  const authenticated = (head: string, aad: string): Buffer => Buffer.from(`${head}\n${aad}`, 'utf8');

  return {
    keyId,
    seal(plaintext, aad) {
      const bytes = Buffer.from(plaintext, 'utf8');
      if (bytes.byteLength > maximumBytes) throw unopened('the plaintext is over 1 MiB');
      const nonce = randomBytes(nonceBytes);
      const head = `${version}.${keyId}.${nonce.toString('base64url')}`;
      const cipher = createCipheriv('aes-256-gcm', subkey, nonce, { authTagLength: tagBytes });
      cipher.setAAD(authenticated(head, aad));
      const sealed = Buffer.concat([cipher.update(bytes), cipher.final(), cipher.getAuthTag()]);
      return `${head}.${sealed.toString('base64url')}`;
    },
    open(sealed, aad) {
      const [foundVersion, foundKeyId, nonceText = '', body = '', ...rest] = sealed.split('.');
      if (foundVersion !== version || rest.length > 0) throw unopened('the record has another form');
      if (foundKeyId !== keyId) throw unopened('the record was sealed under another master key');
      const nonce = strictBase64Url(nonceText);
      const bytes = strictBase64Url(body);
      if (nonce.byteLength !== nonceBytes || bytes.byteLength < tagBytes)
        throw unopened('the record has another form');
      try {
        const decipher = createDecipheriv('aes-256-gcm', subkey, nonce, { authTagLength: tagBytes });
        decipher.setAAD(authenticated(`${version}.${keyId}.${nonceText}`, aad));
        decipher.setAuthTag(bytes.subarray(-tagBytes));
        return Buffer.concat([decipher.update(bytes.subarray(0, -tagBytes)), decipher.final()]).toString(
          'utf8',
        );
      } catch (cause) {
        throw unopened('the record, its place or the key do not fit', cause);
      }
    },
  };
}

/** Decodes only the one canonical spelling, so that no two texts are the same record. */
function strictBase64Url(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) throw unopened('the record has another form');
  return bytes;
}

function unopened(reason: string, cause?: unknown): AppError {
  return new AppError('internal_error', 'A stored secret could not be read.', {
    cause: new Error(reason, cause === undefined ? undefined : { cause }),
  });
}
