import { isPermission, type Permission, type Role, roles } from '@stoa/contracts';
import { sign, type KeyObject } from 'node:crypto';
import { asTenantId, fromTypeId, type TenantId, toTypeId, uuidTimeMs } from '#kernel';
import { isKeyId } from '../key-format.ts';
import { type Claims, readTenantAndRole } from './claims.ts';
import { memberOf } from './strict-json.ts';

/**
 * The tokens that Stoa signs itself, in the terms of RFC 9068.
 *
 * | claim | what |
 * | --- | --- |
 * | `iss`, `aud` | this Stoa, to the letter |
 * | `jti` | `tok_...`; its time, to the millisecond, is when the token was issued |
 * | `tid` | the tenant, `ten_...` |
 * | `client_id` | the id of the key that it was made with |
 * | `sub` | the member of that key, `mem_...`, else `key:` and its id |
 * | `role`, `scope` | what it may do at the most; without `scope`, all of the role |
 * | `end_user` | the end user that it is fixed to, where it is |
 * | `iat`, `exp` | whole seconds, at most 600 apart |
 *
 * A token only ever narrows its key: role and scopes are those that both have at the moment of the request.
 */
export const ownTokenType = 'at+jwt';
export const ownAlgorithm = 'EdDSA';

export interface OwnClaims {
  readonly tenantId: TenantId;
  /** `tok_...` */
  readonly tokenId: string;
  /** From the id, so to the millisecond. */
  readonly issuedAtMs: number;
  readonly keyId: string;
  readonly role: Role;
  readonly scopes: readonly Permission[] | null;
  readonly endUser: string | null;
}

/** What the claims of a token of ours say beyond those that every token has; null where their shape is another. */
export function readOwnClaims(claims: Claims): OwnClaims | null {
  const grant = readTenantAndRole(claims, tenantFrom, roles);
  const tokenId = memberOf(claims, 'jti');
  const tokenUuid = typeof tokenId === 'string' ? fromTypeId('tok', tokenId) : null;
  const keyId = memberOf(claims, 'client_id');
  const scope = memberOf(claims, 'scope');
  const endUser = memberOf(claims, 'end_user') ?? null;
  if (grant === null || typeof tokenId !== 'string' || tokenUuid === null) return null;
  if (typeof keyId !== 'string' || !isKeyId(keyId)) return null;
  if (scope !== undefined && (typeof scope !== 'string' || scope === '')) return null;
  if (endUser !== null && (typeof endUser !== 'string' || endUser === '')) return null;
  return {
    ...grant,
    tokenId,
    issuedAtMs: uuidTimeMs(tokenUuid),
    keyId,
    // One that this version does not know is left out, which only narrows.
    scopes: scope === undefined ? null : scope.split(' ').filter(isPermission),
    endUser,
  };
}

function tenantFrom(text: string): TenantId | null {
  const uuid = fromTypeId('ten', text);
  return uuid === null ? null : asTenantId(uuid);
}

export interface NewToken extends OwnClaims {
  readonly issuer: string;
  readonly memberId: string | null;
  /** Whole seconds since the Unix epoch. */
  readonly issuedAtS: number;
  readonly expiresAtS: number;
}

/** The token's text. */
export function signToken(
  token: NewToken,
  signing: { readonly keyId: string; readonly key: KeyObject },
): string {
  const { tenantId, memberId, scopes, endUser } = token;
  const header = { alg: ownAlgorithm, typ: ownTokenType, kid: signing.keyId };
  const payload = {
    iss: token.issuer,
    aud: token.issuer,
    sub: memberId === null ? `key:${token.keyId}` : toTypeId('mem', memberId),
    client_id: token.keyId,
    tid: toTypeId('ten', tenantId),
    role: token.role,
    ...(scopes === null ? {} : { scope: scopes.join(' ') }),
    ...(endUser === null ? {} : { end_user: endUser }),
    iat: token.issuedAtS,
    exp: token.expiresAtS,
    jti: token.tokenId,
  };
  const signed = `${base64url(header)}.${base64url(payload)}`;
  return `${signed}.${sign(null, Buffer.from(signed), signing.key).toString('base64url')}`;
}

function base64url(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
