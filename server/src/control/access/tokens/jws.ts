import type { KeyObject } from 'node:crypto';
import { compactVerify, errors } from 'jose';
import { memberOf, parseStrictObject } from './strict-json.ts';

/**
 * From the text of a bearer token to a signature that holds: what stands before `jose`, which checks the signature itself.
 *
 * A token is three parts of base64url without padding, each in its one canonical spelling, 8 KiB at the most. Its header
 * names the algorithm and the key, and nothing that would bring a key along (`jwk`, `jku`, `x5u`, `x5c`), change what is
 * signed (`b64`) or ask for what we do not know (`crit`). The algorithm must be one that is allowed here and the one that
 * the key is for, so that no key is ever used in another way than its owner meant.
 */
const maximumTokenBytes = 8192;

export interface ReadToken {
  readonly text: string;
  readonly algorithm: string;
  readonly keyId: string;
  /** The header `typ`, or null where it is none or no text. */
  readonly type: string | null;
  readonly payload: Buffer;
}

/** A public key and the algorithms that it may be used with. */
export interface VerificationKey {
  readonly algorithms: readonly string[];
  readonly key: KeyObject;
}

const threeParts = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$/;
const keyIdPattern = /^[\x21-\x7e]{1,256}$/;
const refusedHeaders = ['jwk', 'jku', 'x5u', 'x5c', 'crit', 'b64'] as const;

/** Whether text could be a token, for the price of a comparison: every header begins with `{"`. */
export function looksLikeToken(text: string): boolean {
  return text.startsWith('eyJ') && text.length <= maximumTokenBytes;
}

/** What a token says of itself, not verified yet; null where its form is not to the letter. */
export function readToken(text: string): ReadToken | null {
  if (text.length > maximumTokenBytes || !threeParts.test(text)) return null;
  const [headerText = '', payloadText = '', signatureText = ''] = text.split('.');
  const headerBytes = canonicalBytes(headerText);
  const payload = canonicalBytes(payloadText);
  if (headerBytes === null || payload === null || canonicalBytes(signatureText) === null) return null;
  const header = parseStrictObject(headerBytes);
  if (header === null || refusedHeaders.some((name) => Object.hasOwn(header, name))) return null;
  const algorithm = memberOf(header, 'alg');
  const keyId = memberOf(header, 'kid');
  const type = memberOf(header, 'typ');
  if (typeof algorithm !== 'string' || typeof keyId !== 'string' || !keyIdPattern.test(keyId)) return null;
  return { text, algorithm, keyId, type: typeof type === 'string' ? type : null, payload };
}

/** Whether the signature is the key's. A fault of another kind than a wrong token is thrown on. */
export async function isSignedBy(token: ReadToken, { algorithms, key }: VerificationKey): Promise<boolean> {
  if (!algorithms.includes(token.algorithm)) return false;
  try {
    await compactVerify(token.text, key, { algorithms: [token.algorithm] });
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof TypeError) return false;
    throw error;
  }
}

/** Decodes only the one canonical spelling, so that no two texts are the same token. */
function canonicalBytes(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : null;
}
