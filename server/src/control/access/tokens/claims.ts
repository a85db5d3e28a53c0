import type { Role } from '@stoa/contracts';
import type { ReadToken } from './jws.ts';
import { memberOf } from './strict-json.ts';

/**
 * What the claims of any token are held to, whoever issued it; a library checks less (a life of ten years and an `iat` in
 * the future pass there). Times are whole or broken seconds since the Unix epoch.
 */
export interface ClaimRules {
  /** To the letter. */
  readonly issuer: string;
  /** Must be the claim `aud` or in it, to the letter. */
  readonly audience: string;
  /** What the header `typ` may be, in lower case, without `application/`. */
  readonly types: readonly string[];
  /** From `iat` to `exp`, seconds. */
  readonly maximumLifetimeS: number;
  /** How far `iat` and `nbf` may lie in the future, for clocks that differ; seconds. `exp` is never stretched. */
  readonly toleranceS: number;
}

export interface CommonClaims {
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
  /** The claim `jti`, or null. */
  readonly tokenId: string | null;
}

export type Claims = Readonly<Record<string, unknown>>;

/** `expired` is right in everything else, so that its holder may be told, once the signature holds too. */
export type ClaimVerdict =
  | { readonly outcome: 'right' | 'expired'; readonly claims: CommonClaims }
  | { readonly outcome: 'wrong' };

const wrong = { outcome: 'wrong' } as const;
/** The year 5138; beyond it a time is a mistake, milliseconds perhaps. */
const latestSecond = 1e11;
const audiencesAtMost = 20;

export function checkClaims(
  token: ReadToken,
  claims: Claims,
  rules: ClaimRules,
  nowMs: number,
): ClaimVerdict {
  const { issuer, audience, types, maximumLifetimeS, toleranceS } = rules;
  if (token.type === null || !types.includes(typeOf(token.type))) return wrong;
  if (memberOf(claims, 'iss') !== issuer || !isFor(memberOf(claims, 'aud'), audience)) return wrong;
  const issuedAt = memberOf(claims, 'iat');
  const expiresAt = memberOf(claims, 'exp');
  const notBefore = memberOf(claims, 'nbf') ?? issuedAt;
  if (!isTime(issuedAt) || !isTime(expiresAt) || !isTime(notBefore)) return wrong;
  const tokenId = memberOf(claims, 'jti') ?? null;
  if (tokenId !== null && !isTokenId(tokenId)) return wrong;
  const latestStart = nowMs / 1000 + toleranceS;
  if (issuedAt > latestStart || notBefore > latestStart) return wrong;
  if (expiresAt - issuedAt > maximumLifetimeS) return wrong;
  const common = { issuedAtMs: issuedAt * 1000, expiresAtMs: expiresAt * 1000, tokenId };
  return { outcome: common.expiresAtMs <= nowMs ? 'expired' : 'right', claims: common };
}

/** Who a token of ours is for: the tenant and the role, each of its shape to the letter, or null. */
export function readTenantAndRole<Tenant extends string, Known extends string = Role>(
  claims: Claims,
  tenantFrom: (text: string) => Tenant | null,
  knownRoles: readonly Known[],
): { readonly tenantId: Tenant; readonly role: Known } | null {
  const tid = memberOf(claims, 'tid');
  const named = memberOf(claims, 'role');
  const tenantId = typeof tid === 'string' ? tenantFrom(tid) : null;
  const role = knownRoles.find((known) => known === named);
  return tenantId === null || role === undefined ? null : { tenantId, role };
}

/** RFC 7515, section 4.1.9: `application/` may be left out, and case does not matter. */
function typeOf(text: string): string {
  const lower = text.toLowerCase();
  return lower.startsWith('application/') ? lower.slice('application/'.length) : lower;
}

function isFor(claim: unknown, audience: string): boolean {
  if (typeof claim === 'string') return claim === audience;
  if (!Array.isArray(claim) || claim.length > audiencesAtMost) return false;
  return claim.every((each) => typeof each === 'string') && claim.includes(audience);
}

function isTime(claim: unknown): claim is number {
  return typeof claim === 'number' && claim >= 0 && claim < latestSecond;
}

function isTokenId(claim: unknown): claim is string {
  return typeof claim === 'string' && claim !== '' && isPlainText(claim, 256);
}

const namesAtMost = { iss: 500, sub: 1000, jti: 256, aud: 500 } as const;

/**
 * Whether what a token says of its issuer, holder, id and audience could be stored at all; anybody may write anything there,
 * so it is asked before any look-up. What is no text is left to whoever reads that claim.
 */
export function hasPlainNames(claims: Claims): boolean {
  const isPlain = (each: unknown, longest: number): boolean =>
    typeof each !== 'string' || isPlainText(each, longest);
  const audience = memberOf(claims, 'aud');
  const audiences: readonly unknown[] = Array.isArray(audience) ? audience : [audience];
  if (audiences.length > audiencesAtMost || !audiences.every((each) => isPlain(each, namesAtMost.aud)))
    return false;
  return (['iss', 'sub', 'jti'] as const).every((name) => isPlain(memberOf(claims, name), namesAtMost[name]));
}

/** What a store takes back to the letter, and no longer than that. */
function isPlainText(text: string, longest: number): boolean {
  return text.length <= longest && !text.includes('\u0000') && text.isWellFormed();
}
