import type { AppError, Standing } from '#kernel';
import { invalidApiKey, tenantSuspended, tokenRevoked } from '../refusals.ts';
import type { TokenChangeRow } from './revocations.sql.ts';

/** What revocation looks at in a token. */
export interface RevocableToken {
  readonly tenantId: string;
  readonly tokenId: string | null;
  readonly issuedAtMs: number;
  /** The key that it was made with; null for an outside issuer's. */
  readonly keyId: string | null;
  /** UUID text. */
  readonly memberId: string | null;
  readonly endUser: string | null;
  /** UUID text of the outside issuer; null for a token of ours. */
  readonly issuerId: string | null;
}

interface OfTenant {
  /** Token id -> when the revocation may be forgotten, Unix milliseconds. */
  readonly tokens: Map<string, number>;
  /** Kind and subject -> tokens issued up to then are refused. */
  readonly cutoffs: Map<string, { notBeforeMs: number; untilMs: number }>;
  readonly removedMembers: Set<string>;
  readonly fallenIssuers: Set<string>;
  refusal: AppError | null;
  /** What changed -> the latest version of it that was taken over: a poll tells the same many times. */
  readonly seen: Map<string, bigint>;
  /** Grows with every change that may narrow what an outside issuer's tokens are granted here. */
  grantsVersion: number;
}

/**
 * All that ends tokens, in memory, so that refusing a revoked one asks nobody: what is alive is read at the start, what
 * changes comes by push and by poll. A token that runs asks again whenever `version` has grown, so that no list of the
 * tokens in use has to be kept for it.
 *
 * Bounds: a tenant has at most 10,000 living revocations by id, and 10,000 cutoffs each of keys, members and end users (the
 * store of revocations holds it to that); all go when no living token can meet them.
 */
export class Revocations {
  readonly #tenants = new Map<string, OfTenant>();
  #isLoaded = false;
  /** Grows with every change. */
  version = 0;

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Takes over what is alive in the database when the process starts. */
  load(rows: readonly TokenChangeRow[]): void {
    this.apply(rows);
    this.#isLoaded = true;
  }

  /** May be told the same again, and in any order. */
  apply(rows: readonly TokenChangeRow[]): void {
    for (const row of rows) if (row.kind !== 'signing_key' && this.#apply(row)) this.version += 1;
  }

  /** Why a token is refused, its expiry and its key's standing apart; null where nothing speaks against it. */
  refusalOf(token: RevocableToken): AppError | null {
    const tenant = this.#tenants.get(token.tenantId);
    if (tenant === undefined) return null;
    if (token.issuerId !== null && tenant.refusal !== null) return tenant.refusal;
    return isRevoked(tenant, token) ? tokenRevoked : null;
  }

  grantsVersionOf(tenantId: string): number {
    return this.#tenants.get(tenantId)?.grantsVersion ?? 0;
  }

  /** Forgets what no living token can meet. */
  forgetBefore(nowMs: number): void {
    for (const { tokens, cutoffs } of this.#tenants.values()) {
      for (const [id, untilMs] of tokens) if (untilMs < nowMs) tokens.delete(id);
      for (const [id, { untilMs }] of cutoffs) if (untilMs < nowMs) cutoffs.delete(id);
    }
  }

  #apply(row: TokenChangeRow): boolean {
    const tenant = this.#of(row.tenant_id);
    const untilMs = row.until?.getTime() ?? 0;
    switch (row.kind) {
      case 'token': {
        const isNew = tenant.tokens.get(row.id) !== untilMs;
        tenant.tokens.set(row.id, untilMs);
        return isNew;
      }
      case 'cutoff': {
        const place = cutoffPlace(row.text, row.id);
        const notBeforeMs = row.time?.getTime() ?? 0;
        const knownMs = tenant.cutoffs.get(place)?.notBeforeMs ?? -1;
        // What the tenant's own cutoff covers need not be kept beside it.
        const isNew = notBeforeMs > Math.max(knownMs, tenant.cutoffs.get(wholeTenant)?.notBeforeMs ?? -1);
        if (isNew && place === wholeTenant) dropUpTo(tenant.cutoffs, notBeforeMs);
        if (isNew) tenant.cutoffs.set(place, { notBeforeMs, untilMs });
        return isNew;
      }
      case 'state': {
        const refusal =
          row.text === 'active' ? null : row.text === 'suspended' ? tenantSuspended : invalidApiKey;
        return changeGrants(tenant, row, () => {
          tenant.refusal = refusal;
        });
      }
      case 'member_changed':
        return changeGrants(tenant, row, () => {
          if (row.time !== null) tenant.removedMembers.add(row.id);
        });
      case 'issuer_changed':
        return changeGrants(tenant, row, () => {
          if (row.time === null) tenant.fallenIssuers.delete(row.id);
          else tenant.fallenIssuers.add(row.id);
        });
      case 'signing_key':
        return false;
    }
  }

  #of(tenantId: string): OfTenant {
    const found = this.#tenants.get(tenantId);
    if (found !== undefined) return found;
    const made: OfTenant = {
      tokens: new Map(),
      cutoffs: new Map(),
      removedMembers: new Set(),
      fallenIssuers: new Set(),
      refusal: null,
      seen: new Map(),
      grantsVersion: 0,
    };
    this.#tenants.set(tenantId, made);
    return made;
  }
}

/** Takes over what is newer than what was known; answers whether it was. */
function changeGrants(tenant: OfTenant, { kind, id, version }: TokenChangeRow, change: () => void): boolean {
  const place = `${kind}:${id}`;
  if ((tenant.seen.get(place) ?? 0n) >= version) return false;
  tenant.seen.set(place, version);
  change();
  tenant.grantsVersion += 1;
  return true;
}

function isRevoked(tenant: OfTenant, token: RevocableToken): boolean {
  const { tokenId, issuedAtMs, keyId, memberId, endUser, issuerId } = token;
  if (tokenId !== null && tenant.tokens.has(tokenId)) return true;
  if (memberId !== null && tenant.removedMembers.has(memberId)) return true;
  if (issuerId !== null && tenant.fallenIssuers.has(issuerId)) return true;
  if (tenant.cutoffs.size === 0) return false;
  const isCut = (kind: string, subject: string | null): boolean =>
    subject !== null && issuedAtMs <= (tenant.cutoffs.get(cutoffPlace(kind, subject))?.notBeforeMs ?? -1);
  return (
    isCut('tenant', '') || isCut('key', keyId) || isCut('member', memberId) || isCut('end_user', endUser)
  );
}

const wholeTenant = cutoffPlace('tenant', '');

function dropUpTo(cutoffs: OfTenant['cutoffs'], notBeforeMs: number): void {
  for (const [place, cutoff] of cutoffs) if (cutoff.notBeforeMs <= notBeforeMs) cutoffs.delete(place);
}

function cutoffPlace(kind: string, subject: string): string {
  return `${kind}:${subject}`;
}

/**
 * Whether a token still stands: while its key does (or, for an outside issuer's, while its tenant, member and issuer do),
 * and until something revokes it. Looked at for as long as an answer runs.
 */
export class TokenStanding implements Standing {
  readonly #token: RevocableToken;
  readonly #source: Standing | null;
  readonly #revocations: Revocations;
  #seenVersion = -1;
  #own: AppError | null = null;

  /** @param source the standing of the key that the token was made with; null for an outside issuer's */
  constructor(token: RevocableToken, source: Standing | null, revocations: Revocations) {
    this.#token = token;
    this.#source = source;
    this.#revocations = revocations;
  }

  get refusal(): AppError | null {
    const ofSource = this.#source === null ? null : this.#source.refusal;
    if (ofSource !== null) return ofSource;
    if (this.#seenVersion !== this.#revocations.version) {
      this.#seenVersion = this.#revocations.version;
      this.#own = this.#revocations.refusalOf(this.#token);
    }
    return this.#own;
  }
}
