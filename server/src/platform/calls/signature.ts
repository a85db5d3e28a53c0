import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { AppError, asRequestId, type Clock, isUuid, type RequestId } from '#kernel';
import { NonceCache } from './nonces.ts';

/**
 * How processes of one cluster prove themselves to each other: HMAC-SHA256 with the cluster secret.
 *
 * A call signs method, path, time, nonce and the SHA-256 of its body. The digest travels beside the signature, so the head
 * alone can be checked before a byte of the body is read; the body is held against the digest afterwards. A request that the
 * gateway forwards streams its body, of which no digest exists before it ends; there the head is signed alone, with the
 * request id as its nonce, and the caller's own key in it proves the rest.
 *
 * Checked in this order, so that a stranger learns nothing and fills nothing: form, signature (under the current and the
 * previous secret, compared in constant time), age, nonce. A message is taken once per process within `toleranceMs` of its
 * time; what a caller's clock is off by counts against that.
 */
export const toleranceMs = 30_000;
/** Enough for 6,600 calls a second, in about 30 MB. */
const rememberedNonces = 200_000;

export const forwardedHeader = 'x-stoa-forwarded';

export interface ClusterSecrets {
  /** Signs. */
  readonly current: string;
  /** Accepted as well, or null: the other one of a rotation. */
  readonly previous: string | null;
}

/** A request that is forwarded, as both sides see it. */
export interface ForwardedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly requestId: RequestId;
  readonly clientAddress: string;
}

export interface ClusterSigner {
  /** The value of `authorization` for one call. */
  signCall(method: string, path: string, body: string | Buffer): string;
  /** The value of `x-stoa-forwarded`. */
  signForwarded(request: ForwardedRequest): string;
}

export interface ClusterVerifier {
  /**
   * Checks the head of a call.
   * @returns the test that its body must pass
   * @throws AppError `invalid_cluster_signature`; `overloaded` where no more nonces can be remembered
   */
  checkCall(method: string, path: string, authorization: string | undefined): (body: Buffer) => boolean;
  /** What the gateway says of a request, or null where no gateway of this cluster says so. */
  readForwarded(
    method: string,
    path: string,
    header: string | undefined,
  ): { readonly requestId: RequestId; readonly clientAddress: string } | null;
}

export function createClusterSigner(secrets: ClusterSecrets, clock: Clock): ClusterSigner {
  return {
    signCall(method, path, body) {
      const time = clock.now();
      const nonce = randomBytes(16).toString('base64url');
      const digest = digestOf(body);
      const mac = macOf(secrets.current, ['stoa-call-v1', method, path, `${time}`, nonce, digest]);
      return `Stoa-Cluster time=${time},nonce=${nonce},digest=${digest},mac=${mac.toString('base64url')}`;
    },
    signForwarded({ method, path, requestId, clientAddress }) {
      const time = clock.now();
      const from = Buffer.from(clientAddress).toString('base64url');
      const mac = macOf(secrets.current, ['stoa-forward-v1', method, path, `${time}`, requestId, from]);
      return `time=${time},id=${requestId},from=${from},mac=${mac.toString('base64url')}`;
    },
  };
}

const callPattern = /^Stoa-Cluster time=(\d{1,15}),nonce=([\w-]{22}),digest=([\w-]{43}),mac=([\w-]{43})$/;
const forwardPattern = /^time=(\d{1,15}),id=([0-9a-f-]{36}),from=([\w-]{0,80}),mac=([\w-]{43})$/;

export function createClusterVerifier(
  secrets: ClusterSecrets,
  clock: Clock,
  capacity: number = rememberedNonces,
): ClusterVerifier {
  const nonces = new NonceCache(capacity);
  const check = (parts: readonly string[], mac: string, time: number, nonce: string): void => {
    if (!isSigned(secrets, parts, mac)) throw notSigned('The signature of the cluster is not valid.');
    const nowMs = clock.now();
    if (Math.abs(nowMs - time) > toleranceMs) {
      throw notSigned('The message was signed too long ago, or the clocks of the two processes are apart.');
    }
    const taken = nonces.take(nonce, time + toleranceMs, nowMs);
    if (taken === 'seen') throw notSigned('The message was taken before.');
    if (taken === 'full') {
      throw new AppError('overloaded', 'Too many calls between processes.', { retryAfterMs: 1_000 });
    }
  };
  return {
    checkCall(method, path, authorization) {
      const match = callPattern.exec(authorization ?? '');
      if (!match) throw notSigned('The call is not signed.');
      const [, time = '', nonce = '', digest = '', mac = ''] = match;
      check(['stoa-call-v1', method, path, time, nonce, digest], mac, Number(time), nonce);
      return (body) => isEqual(Buffer.from(digestOf(body)), Buffer.from(digest));
    },
    readForwarded(method, path, header) {
      const match = forwardPattern.exec(header ?? '');
      if (!match) return null;
      const [, time = '', id = '', from = '', mac = ''] = match;
      if (!isUuid(id)) return null;
      try {
        check(['stoa-forward-v1', method, path, time, id, from], mac, Number(time), id);
      } catch {
        return null;
      }
      return { requestId: asRequestId(id), clientAddress: Buffer.from(from, 'base64url').toString() };
    },
  };
}

/** Both secrets are always tried, so that the time tells nothing of which one it was. */
function isSigned({ current, previous }: ClusterSecrets, parts: readonly string[], mac: string): boolean {
  const given = Buffer.from(mac, 'base64url');
  const isCurrent = isEqual(given, macOf(current, parts));
  const isPrevious = isEqual(given, macOf(previous ?? current, parts));
  return isCurrent || isPrevious;
}

function isEqual(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

/** No part can hold a line end: heads of HTTP have none, and the rest has patterns. */
function macOf(secret: string, parts: readonly string[]): Buffer {
  return createHmac('sha256', secret).update(parts.join('\n')).digest();
}

function digestOf(body: string | Buffer): string {
  return createHash('sha256').update(body).digest('base64url');
}

function notSigned(message: string): AppError {
  return new AppError('invalid_cluster_signature', message);
}
