/**
 * Webhooks of Stoa, and of everyone who signs by https://www.standardwebhooks.com: whether a message is what its sender
 * wrote, and fresh. Runs wherever WebCrypto does.
 */

/** Why a message is not to be believed. */
export type WebhookErrorCode =
  | 'header_missing'
  | 'timestamp_invalid'
  | 'timestamp_too_old'
  | 'timestamp_too_new'
  | 'secret_invalid'
  | 'signature_invalid';

export class WebhookError extends Error {
  readonly code: WebhookErrorCode;

  constructor(code: WebhookErrorCode, message: string) {
    super(message);
    this.name = 'WebhookError';
    this.code = code;
  }
}

export interface WebhookMessage {
  /** The body as it came, byte for byte: parsed and written again it is another message. */
  readonly payload: string | Uint8Array;
  /** Of the request; names in any case. */
  readonly headers: Headers | Readonly<Record<string, string | readonly string[] | undefined>>;
  /** `whsec_...` for v1 or `whpk_...` for v1a; several while one replaces another. */
  readonly secret: string | readonly string[];
  /** How old or how far ahead the message may be, this very second included; default 300. */
  readonly toleranceSeconds?: number;
  /** Default now. */
  readonly now?: Date;
}

export interface VerifiedWebhook {
  /** The same in every attempt to deliver the message: what to remember so that it has its effect once. */
  readonly id: string;
  /** When this attempt was signed. */
  readonly timestamp: Date;
}

const prefixes = { v1: 'whsec_', v1a: 'whpk_' } as const;
const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const signaturesAtMost = 64;

/**
 * Resolves where one of the message's signatures is one of the secrets' and it is within the tolerance.
 * @throws WebhookError with the reason; nothing of the message is to be used then
 */
export async function verifyWebhook(message: WebhookMessage): Promise<VerifiedWebhook> {
  const { payload, headers, secret, toleranceSeconds = 300, now = new Date() } = message;
  const id = headerOf(headers, 'webhook-id');
  const timestamp = headerOf(headers, 'webhook-timestamp');
  const signatures = headerOf(headers, 'webhook-signature').split(' ').slice(0, signaturesAtMost);
  const seconds = requireFresh(timestamp, Math.floor(now.getTime() / 1000), toleranceSeconds);
  const content = contentOf(id, timestamp, payload);
  const secrets = typeof secret === 'string' ? [secret] : secret;
  const verifiers = await Promise.all(secrets.map((one) => verifierOf(one)));
  for (const signature of signatures) {
    // One after the other: the first is the right one unless a secret is being replaced.
    for (const verify of verifiers) {
      if (await verify(signature, content)) return { id, timestamp: new Date(seconds * 1000) };
    }
  }
  throw new WebhookError('signature_invalid', 'none of the signatures is the sender’s');
}

function headerOf(headers: WebhookMessage['headers'], name: string): string {
  const value = headers instanceof Headers ? headers.get(name) : recordValue(headers, name);
  if (typeof value === 'string' && value !== '') return value;
  throw new WebhookError('header_missing', `the header ${name} is missing`);
}

function recordValue(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  name: string,
): string | null {
  const found = Object.entries(headers).filter(([key]) => key.toLowerCase() === name);
  const values = found.flatMap(([, value]) => value ?? []);
  return values.length === 1 ? (values[0] ?? null) : null;
}

function requireFresh(timestamp: string, nowSeconds: number, toleranceSeconds: number): number {
  if (!/^\d{1,12}$/.test(timestamp))
    throw new WebhookError('timestamp_invalid', 'the timestamp is no number of seconds');
  const seconds = Number(timestamp);
  // Asked so that a tolerance or a time that is no number lets nothing pass.
  if (!(seconds >= nowSeconds - toleranceSeconds))
    throw new WebhookError('timestamp_too_old', 'the message is too old');
  if (!(seconds <= nowSeconds + toleranceSeconds))
    throw new WebhookError('timestamp_too_new', 'the message comes from the future');
  return seconds;
}

function contentOf(id: string, timestamp: string, payload: string | Uint8Array): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const head = encoder.encode(`${id}.${timestamp}.`);
  const body = typeof payload === 'string' ? encoder.encode(payload) : payload;
  const content = new Uint8Array(head.length + body.length);
  content.set(head);
  content.set(body, head.length);
  return content;
}

type Verifier = (signature: string, content: Uint8Array<ArrayBuffer>) => Promise<boolean>;

async function verifierOf(secret: string): Promise<Verifier> {
  const isPublicKey = secret.startsWith(prefixes.v1a);
  const bytes = bytesOf(withoutPrefix(secret));
  if (bytes === null || bytes.length === 0 || (isPublicKey && bytes.length !== 32))
    throw new WebhookError('secret_invalid', 'the secret must be whsec_ or whpk_ and base64');
  const [version, algorithm, size] = isPublicKey
    ? (['v1a', { name: 'Ed25519' }, 64] as const)
    : (['v1', { name: 'HMAC', hash: 'SHA-256' }, 32] as const);
  const key = await crypto.subtle
    .importKey('raw', bytes, algorithm, false, ['verify'])
    .catch(() => Promise.reject(new WebhookError('secret_invalid', 'the key cannot be used')));
  return async (signature, content) => {
    if (!signature.startsWith(`${version},`)) return false;
    const given = bytesOf(signature.slice(version.length + 1));
    if (given === null || given.length !== size) return false;
    return crypto.subtle.verify(algorithm.name, key, given, content);
  };
}

function withoutPrefix(secret: string): string {
  const prefix = Object.values(prefixes).find((known) => secret.startsWith(known)) ?? '';
  return secret.slice(prefix.length);
}

/** Null where the text is no base64 in its one form. */
function bytesOf(text: string): Uint8Array<ArrayBuffer> | null {
  if (!base64.test(text)) return null;
  const binary = atob(text);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
