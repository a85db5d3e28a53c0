import { hash } from 'node:crypto';
import { maximumTokenSeconds, type Permission } from '@stoa/contracts';
import { AppError, type Clock, type TenantPrincipal } from '#kernel';
import type { KnownRefused } from '../authentication/authenticator.ts';
import { type CachedKey, refuseAsExpired } from '../authentication/key-cache.ts';
import type { KeyDirectory } from '../authentication/key-directory.ts';
import {
  allUnknownCredentials,
  lookUpUnknown,
  type UnknownCredentials,
} from '../authentication/unknown-credentials.ts';
import { narrowerRole } from '../members/member-role.ts';
import {
  addressNotAllowed,
  invalidApiKey,
  keysUnavailable,
  tokenExpired,
  tooManyTokens,
} from '../refusals.ts';
import { checkClaims, type Claims, type ClaimRules, hasPlainNames } from './claims.ts';
import { isSignedBy, readToken, type ReadToken } from './jws.ts';
import { type OwnClaims, ownTokenType, readOwnClaims } from './own-token.ts';
import { type Revocations, TokenStanding } from './revocations.ts';
import type { SigningKeys } from './signing-keys.ts';
import { memberOf, parseStrictObject } from './strict-json.ts';
import type { TokenCache, VerifiedToken } from './token-cache.ts';

/**
 * From the text of an access token to a principal.
 *
 * A token that was seen before is found by the SHA-256 of its text: one hash, a look-up of its key, and a comparison of
 * versions, without a promise. What may have changed since is looked at each time: the expiry, whether the key (for an
 * outside issuer's: the tenant, the member, the issuer) still stands, whether anything revoked it; and where the key may
 * do other things than before, the token is narrowed anew. A running answer is ended by a revocation and by what ends the
 * key, not by the token's own expiry: an answer of eleven minutes would otherwise be out of reach of a token.
 *
 * Anything else is read strictly (jws.ts), held to our own rules (claims.ts), and its signature checked; the same token is
 * checked once, whoever waits for it, and at most `pendingTokens` at a time. Those of outside issuers have a bound of their
 * own, since their keys may have to be fetched from wherever a tenant says: that must not end Stoa's own tokens. Only a token
 * whose signature holds learns why else it is refused.
 */
export interface TokenAuthenticatorDeps {
  readonly clock: Clock;
  readonly tenantKeys: KeyDirectory<TenantPrincipal>;
  readonly signingKeys: Pick<SigningKeys, 'find'>;
  readonly revocations: Revocations;
  readonly cache: TokenCache;
  /** Tokens of others; never called with those that name `issuer`. */
  readonly outside: OutsideTokens;
  /** The claims `iss` and `aud` of our own. */
  readonly issuer: () => string;
  /** False once what is cached is too old to be trusted. */
  readonly isFresh: () => boolean;
  /** Reads what revokes tokens, where the process has not yet. Rejects where it can't. */
  readonly loadRevocations: () => Promise<void>;
  /** Told of tokens that were refused though they are right: revoked, from elsewhere, their key revoked. Must not throw. */
  readonly onKnownRefused?: ((refused: KnownRefused) => void) | undefined;
  /** By default all are looked up. */
  readonly unknownCredentials?: UnknownCredentials | undefined;
}

export interface OutsideTokens {
  /** What the token is worth; throws why it is worth nothing. */
  verify(token: ReadToken, claims: Claims, issuer: string): Promise<VerifiedToken>;
}

export interface TokenAuthenticatorSettings {
  /** Tokens of our own whose signatures are being checked; default 1,000. */
  readonly pendingTokens?: number;
  /**
   * Tokens of outside issuers that are; default 4,000, more than all issuers of one tenant can have waiting (20 of 64 each, see
   * key-set-store.ts).
   */
  readonly pendingOutsideTokens?: number;
}

/** Tokens that are being verified, by the SHA-256 of their text. */
interface Pending {
  readonly atMost: number;
  readonly tokens: Map<string, Promise<VerifiedToken>>;
}

/** That a token has run out is no act of anybody: it happens to each of them. */
const untold: ReadonlySet<AppError> = new Set([invalidApiKey, keysUnavailable, tokenExpired]);

/** For the clocks of processes. */
const toleranceS = 5;

export class TokenAuthenticator {
  readonly #deps: TokenAuthenticatorDeps;
  readonly #own: Pending;
  readonly #outside: Pending;

  constructor(deps: TokenAuthenticatorDeps, settings: TokenAuthenticatorSettings = {}) {
    this.#deps = deps;
    this.#own = { atMost: settings.pendingTokens ?? 1000, tokens: new Map() };
    this.#outside = { atMost: settings.pendingOutsideTokens ?? 4000, tokens: new Map() };
  }

  /** Throws or rejects like `Authenticator.tenant`. */
  authenticate(text: string, clientAddress: string | null): TenantPrincipal | Promise<TenantPrincipal> {
    const { cache } = this.#deps;
    const digest = hash('sha256', text, 'base64');
    const known = cache.find(digest);
    if (known !== undefined) {
      const principal = this.#admit(known, clientAddress);
      if (principal !== null) {
        known.isRecent = true;
        return principal;
      }
      cache.drop(digest);
    }
    return lookUpUnknown(this.#deps.unknownCredentials ?? allUnknownCredentials, clientAddress, () =>
      this.#verifyAndAdmit(digest, text, clientAddress),
    );
  }

  /** The principal of a token that was verified, or null where it must be verified anew. */
  #admit(token: VerifiedToken, clientAddress: string | null): TenantPrincipal | null {
    try {
      return this.#principalOf(token, clientAddress);
    } catch (error) {
      if (error instanceof AppError && !untold.has(error))
        this.#deps.onKnownRefused?.({ principal: token.principal, error, clientAddress });
      throw error;
    }
  }

  #principalOf(token: VerifiedToken, clientAddress: string | null): TenantPrincipal | null {
    const { clock, tenantKeys, revocations } = this.#deps;
    const nowMs = clock.now();
    if (!this.#deps.isFresh()) throw keysUnavailable;
    if (token.expiresAtMs <= nowMs) throw tokenExpired;
    if (token.keyId === null) {
      const isOld = nowMs >= token.recheckAtMs;
      if (isOld || token.grantsVersion !== revocations.grantsVersionOf(token.tenantId)) return null;
      throwIf(token.standing.refusal);
      return token.principal;
    }
    const key = tenantKeys.find(token.keyId);
    if (key === undefined) return null;
    if (key.expiresAtMs <= nowMs) refuseAsExpired(key.standing);
    throwIf(token.standing.refusal);
    if (key.networks !== null && clientAddress !== null && !key.networks.has(clientAddress))
      throw addressNotAllowed(clientAddress);
    if (token.keyPrincipal !== key.principal && token.narrow !== null) {
      token.keyPrincipal = key.principal;
      token.principal = token.narrow(key.principal);
    }
    key.isRecent = true;
    tenantKeys.noteUse(key);
    return token.principal;
  }

  async #verify(digest: string, text: string): Promise<VerifiedToken> {
    const running = this.#own.tokens.get(digest) ?? this.#outside.tokens.get(digest);
    if (running !== undefined) return running;
    const read = readClaims(text);
    const { tokens, atMost } = read.issuer === this.#deps.issuer() ? this.#own : this.#outside;
    if (tokens.size >= atMost) throw tooManyTokens;
    const verifying = verifyRead(this.#deps, read)
      .then((token) => {
        this.#deps.cache.put(digest, token);
        return token;
      })
      .finally(() => tokens.delete(digest));
    tokens.set(digest, verifying);
    return verifying;
  }

  async #verifyAndAdmit(
    digest: string,
    text: string,
    clientAddress: string | null,
  ): Promise<TenantPrincipal> {
    // The key may be evicted, or a grant changed, between the two steps; three times in a row is no chance.
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const principal = this.#admit(await this.#verify(digest, text), clientAddress);
      if (principal !== null) return principal;
    }
    throw keysUnavailable;
  }
}

function throwIf(refusal: AppError | null): void {
  if (refusal !== null) throw refusal;
}

interface ReadClaims {
  readonly token: ReadToken;
  readonly claims: Claims;
  readonly issuer: string;
}

function readClaims(text: string): ReadClaims {
  const token = readToken(text);
  const claims = token === null ? null : parseStrictObject(token.payload);
  const issuer = claims === null ? null : memberOf(claims, 'iss');
  if (token === null || claims === null || typeof issuer !== 'string' || !hasPlainNames(claims))
    throw invalidApiKey;
  return { token, claims, issuer };
}

async function verifyRead(
  deps: TokenAuthenticatorDeps,
  { token, claims, issuer }: ReadClaims,
): Promise<VerifiedToken> {
  if (!deps.revocations.isLoaded) await deps.loadRevocations();
  return issuer === deps.issuer()
    ? verifyOwn(deps, token, claims)
    : deps.outside.verify(token, claims, issuer);
}

async function verifyOwn(
  deps: TokenAuthenticatorDeps,
  token: ReadToken,
  claims: Claims,
): Promise<VerifiedToken> {
  const verdict = checkClaims(token, claims, ownRules(deps.issuer()), deps.clock.now());
  const own = readOwnClaims(claims);
  if (verdict.outcome === 'wrong' || own === null) throw invalidApiKey;
  const signingKey = await deps.signingKeys.find(token.keyId);
  if (signingKey === null || !(await isSignedBy(token, signingKey))) throw invalidApiKey;
  if (verdict.outcome === 'expired') throw tokenExpired;
  const { keyId } = own;
  const key = deps.tenantKeys.find(keyId) ?? (await deps.tenantKeys.fetch(keyId));
  if (key === null || key.tenantId !== own.tenantId) throw invalidApiKey;
  return ownToken(own, key, verdict.claims.expiresAtMs, deps.revocations);
}

function common(
  scopes: ReadonlySet<Permission>,
  others: ReadonlySet<Permission> | null,
): ReadonlySet<Permission> {
  return others === null ? scopes : new Set([...scopes].filter((scope) => others.has(scope)));
}

/** What the tokens of one issuer address are held to. */
function ownRules(issuer: string): ClaimRules {
  const types = [ownTokenType];
  return { issuer, audience: issuer, types, maximumLifetimeS: maximumTokenSeconds, toleranceS };
}

function ownToken(
  own: OwnClaims,
  key: CachedKey<TenantPrincipal>,
  expiresAtMs: number,
  revocations: Revocations,
): VerifiedToken {
  const { tenantId, tokenId, issuedAtMs, keyId, endUser } = own;
  const memberId = key.principal.memberId ?? null;
  const facts = { tenantId, tokenId, issuedAtMs, keyId, memberId, endUser, issuerId: null };
  const standing = new TokenStanding(facts, key.standing, revocations);
  const scopes = own.scopes === null ? null : new Set(own.scopes);
  const narrow = (of: TenantPrincipal): TenantPrincipal => ({
    ...of,
    role: narrowerRole(of.role, own.role),
    scopes: scopes === null ? of.scopes : common(scopes, of.scopes),
    standing,
    tokenId,
    endUser: endUser ?? undefined,
  });
  return {
    tenantId,
    expiresAtMs,
    standing,
    keyId,
    keyPrincipal: key.principal,
    principal: narrow(key.principal),
    grantsVersion: 0,
    recheckAtMs: Infinity,
    narrow,
    isRecent: false,
  };
}
