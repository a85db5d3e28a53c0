import {
  createHmac,
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
} from 'node:crypto';
import type { WebhookScheme } from '@stoa/contracts';

/**
 * Signatures as Standard Webhooks has them: over `<id>.<seconds>.<body>`, with a version before the base64. Secrets are
 * text: `whsec_` and 32 random bytes for HMAC-SHA256, `whsk_` and the 32 bytes of an Ed25519 private key, whose public
 * half is `whpk_...`.
 */
export interface MadeSecret {
  readonly secret: string;
  readonly publicKey: string | null;
}

const prefixes = { v1: 'whsec_', v1a: 'whsk_' } as const;
/** What stands before the 32 bytes of an Ed25519 private key in PKCS #8 (RFC 8410), all of it fixed. */
const pkcs8Head = Buffer.from('302e020100300506032b657004220420', 'hex');

/** A new secret of a scheme. */
export function makeSecret(scheme: WebhookScheme): MadeSecret {
  if (scheme === 'v1')
    return { secret: `${prefixes.v1}${randomBytes(32).toString('base64')}`, publicKey: null };
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(pkcs8Head.length);
  const point = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  return {
    secret: `${prefixes.v1a}${seed.toString('base64')}`,
    publicKey: `whpk_${point.toString('base64')}`,
  };
}

/** The headers of a message, signed with each of the secrets (one, or two while one replaces the other). */
export function signedHeaders(
  message: { readonly id: string; readonly body: string; readonly timestampSeconds: number },
  secrets: readonly string[],
): readonly string[] {
  const { id, body, timestampSeconds } = message;
  const content = `${id}.${timestampSeconds}.${body}`;
  const signatures = secrets.map((secret) => signatureOf(content, secret));
  return [
    'webhook-id',
    id,
    'webhook-timestamp',
    String(timestampSeconds),
    'webhook-signature',
    signatures.join(' '),
  ];
}

function signatureOf(content: string, secret: string): string {
  if (secret.startsWith(prefixes.v1a))
    return `v1a,${sign(null, Buffer.from(content), privateKeyOf(secret)).toString('base64')}`;
  const key = Buffer.from(secret.slice(prefixes.v1.length), 'base64');
  return `v1,${createHmac('sha256', key).update(content).digest('base64')}`;
}

function privateKeyOf(secret: string): KeyObject {
  const seed = Buffer.from(secret.slice(prefixes.v1a.length), 'base64');
  return createPrivateKey({ key: Buffer.concat([pkcs8Head, seed]), format: 'der', type: 'pkcs8' });
}
