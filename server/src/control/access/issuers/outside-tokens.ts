import { hash } from 'node:crypto';
import { endUserPermissions, issuerAlgorithms, type Permission } from '@stoa/contracts';
import type { Database } from '#db';
import {
  type AppError,
  asTenantId,
  type Clock,
  type TenantId,
  type TenantPrincipal,
  toTypeId,
} from '#kernel';
import { KeyLookup } from '../authentication/key-lookup.ts';
import { memberRoleIn, narrowerRole, projectsFrom } from '../members/member-role.ts';
import { selectMemberByExternalId } from '../members/members.sql.ts';
import { invalidApiKey, tenantSuspended, tokenExpired } from '../refusals.ts';
import { checkClaims, type Claims, type CommonClaims } from '../tokens/claims.ts';
import { isSignedBy } from '../tokens/jws.ts';
import { type Revocations, TokenStanding } from '../tokens/revocations.ts';
import { memberOf } from '../tokens/strict-json.ts';
import type { OutsideTokens } from '../tokens/token-authenticator.ts';
import type { VerifiedToken } from '../tokens/token-cache.ts';
import { type MappedClaims, mapClaims } from './claim-mapping.ts';
import { claimsFrom, namesTenant } from './issuers.ts';
import { selectTrusted, type TokenClaims, type TrustedIssuerRow } from './issuers.sql.ts';
import type { KeySetStore } from './key-set-store.ts';

/**
 * Tokens of issuers that tenants trust.
 *
 * Which tenant a token is for is decided before its signature is looked at: by the claims `iss` and `aud`, which must fit
 * one tenant's configuration and no other's. Anybody may configure any issuer, so only such configurations count whose
 * audience holds their tenant's id, which no other tenant may name, or that the operator settled, one for each issuer and
 * audience. The first kind goes before the second; a token for two tenants is refused rather than guessed at.
 *
 * What a token may do is the narrowest of what its claims say by the tenant's mapping and, where the mapping names a
 * member, what that member may in the token's project. It lasts until anything of the tenant's members or issuers changes:
 * then it is worked out anew.
 */
export interface OutsideTokensDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly keySets: Pick<KeySetStore, 'find'>;
  readonly revocations: Revocations;
}

/** A token is verified anew after this time, since its issuer may have taken the key away. */
const recheckAfterMs = 600_000;
/** For the clocks of others. */
const toleranceS = 30;

export function createOutsideTokens(deps: OutsideTokensDeps): OutsideTokens {
  const { clock, keySets, revocations } = deps;
  const find = createTrustLookup(deps);

  return {
    async verify(token, claims, issuer) {
      if (issuer.length > 500 || !isAlgorithm(token.algorithm)) throw invalidApiKey;
      const trusted = forToken(await find(issuer, audiencesOf(claims)));
      if (trusted === null || !trusted.algorithms.includes(token.algorithm)) throw invalidApiKey;
      // Read before anything else of the tenant, so that a change meanwhile is noticed at the first use.
      const grantsVersion = revocations.grantsVersionOf(trusted.tenant_id);
      const verdict = checkClaims(token, claims, rulesOf(trusted), clock.now());
      const mapped = verdict.outcome === 'wrong' ? null : mapClaims(claims, claimsFrom(trusted.claims));
      if (verdict.outcome === 'wrong' || mapped === null) throw invalidApiKey;
      const source = { tenantId: trusted.tenant_id, url: trusted.jwks_url };
      const key = await keySets.find(source, token.keyId);
      if (key === null || !(await isSignedBy(token, key))) throw invalidApiKey;
      if (verdict.outcome === 'expired') throw tokenExpired;
      throwIf(refusalByState[trusted.state]);
      const common = { ...verdict.claims, textHash: hash('sha256', token.text).slice(0, 32) };
      return outsideToken(deps, trusted, common, mapped, grantsVersion);
    },
  };
}

const refusalByState = { active: null, suspended: tenantSuspended, deleted: invalidApiKey } as const;

function throwIf(refusal: AppError | null): void {
  if (refusal !== null) throw refusal;
}

function isAlgorithm(text: string): boolean {
  return issuerAlgorithms.some((known) => known === text);
}

function rulesOf(trusted: TrustedIssuerRow): Parameters<typeof checkClaims>[2] {
  const { issuer, audience, token_types: types, maximum_lifetime_s: maximumLifetimeS } = trusted;
  return { issuer, audience, types: types.map((type) => type.toLowerCase()), maximumLifetimeS, toleranceS };
}

/** More than any issuer has use for, and few enough that no token asks for much. */
const audiencesAtMost = 8;
const longestAudience = 500;

/** What the token says that it is for; nothing where it says more than can be asked for. */
function audiencesOf(claims: Claims): readonly string[] {
  const audience = memberOf(claims, 'aud');
  const named: readonly unknown[] = Array.isArray(audience) ? audience : [audience];
  const texts = named.filter((text) => typeof text === 'string');
  if (texts.length !== named.length || texts.length > audiencesAtMost) return [];
  return [...new Set(texts)].filter((text) => text.length <= longestAudience);
}

/** Finds the configurations of an issuer with any of some audiences. */
function createTrustLookup({ db, clock }: Pick<OutsideTokensDeps, 'db' | 'clock'>) {
  const idOf = (issuer: string, audience: string): string => `${issuer.length} ${issuer} ${audience}`;
  const claimsIn = (id: string): TokenClaims => {
    const from = id.indexOf(' ') + 1;
    const to = from + Number.parseInt(id, 10);
    return { issuer: id.slice(from, to), audience: id.slice(to + 1) };
  };
  // Not cached: it is asked once for each token, together with others, and unknown ones are remembered for a second.
  const lookup = new KeyLookup<readonly TrustedIssuerRow[]>(
    {
      async load(ids) {
        const rows = await db.withSystem('key-lookup', (tx) => selectTrusted(tx, ids.map(claimsIn)));
        return Map.groupBy(rows, ({ issuer, audience }) => idOf(issuer, audience));
      },
      monotonic: () => clock.monotonic(),
    },
    { unknownForMs: 1000 },
  );
  return async (issuer: string, audiences: readonly string[]): Promise<readonly TrustedIssuerRow[]> => {
    const found = await Promise.all(audiences.map((audience) => lookup.find(idOf(issuer, audience))));
    return found.flatMap((rows) => rows ?? []);
  };
}

/** The one configuration that the token is for, or null. */
function forToken(trusted: readonly TrustedIssuerRow[]): TrustedIssuerRow | null {
  const certain = trusted.filter((row) => namesTenant(row.audience, row.tenant_id));
  const settled = trusted.filter((row) => row.settled_by_operator);
  const [one, ...others] = certain.length > 0 ? certain : settled;
  return one === undefined || others.length > 0 ? null : one;
}

async function outsideToken(
  { db, clock, revocations }: OutsideTokensDeps,
  trusted: TrustedIssuerRow,
  { issuedAtMs, expiresAtMs, tokenId, textHash }: CommonClaims & { readonly textHash: string },
  mapped: MappedClaims,
  grantsVersion: number,
): Promise<VerifiedToken> {
  const tenantId = asTenantId(trusted.tenant_id);
  const { memberId, role } = await holderOf(db, tenantId, mapped);
  const { projectId, endUser } = mapped;
  const issuerId = trusted.issuer_id;
  // It may have been used that much before its `iat`, so "not before" counts from there: else a token of a clock that is
  // ahead would outlive what was to end it, in whichever process it comes next.
  const usableFromMs = issuedAtMs - toleranceS * 1000;
  const facts = { tenantId, tokenId, issuedAtMs: usableFromMs, keyId: null, memberId, endUser, issuerId };
  const standing = new TokenStanding(facts, null, revocations);
  const principal: TenantPrincipal = {
    kind: 'tenant',
    tenantId,
    keyId: toTypeId('isr', issuerId),
    role,
    scopes: endUser === null ? null : forEndUsers,
    projectId,
    tags: {},
    standing,
    memberId: memberId ?? undefined,
    // No two tokens may share one: what a caller was answered once is remembered under it.
    tokenId: tokenId ?? `unnamed-${textHash}`,
    endUser: endUser ?? undefined,
  };
  return {
    tenantId,
    expiresAtMs,
    recheckAtMs: clock.now() + recheckAfterMs,
    standing,
    keyId: null,
    keyPrincipal: null,
    narrow: null,
    principal,
    grantsVersion,
    isRecent: false,
  };
}

const forEndUsers: ReadonlySet<Permission> = new Set(endUserPermissions);

/** Who holds the token and what they may be; refuses who is no member, or has no role where the token works. */
async function holderOf(
  db: Database,
  tenantId: TenantId,
  { externalId, role, projectId }: MappedClaims,
): Promise<{ memberId: string | null; role: TenantPrincipal['role'] }> {
  if (externalId === null) {
    if (role === null) throw invalidApiKey;
    return { memberId: null, role };
  }
  const member = await db.withSystem('key-lookup', (tx) =>
    selectMemberByExternalId(tx, tenantId, externalId),
  );
  if (member === undefined) throw invalidApiKey;
  const own = memberRoleIn({ role: member.role, projects: projectsFrom(member.projects) }, projectId);
  if (own === null) throw invalidApiKey;
  return { memberId: member.member_id, role: role === null ? own : narrowerRole(own, role) };
}
