import { endUserPermissions, type IssuerClaims, type Permission, type Role } from '@stoa/contracts';
import type { Claims } from '../tokens/claims.ts';
import { memberOf } from '../tokens/strict-json.ts';
import { widerRole } from '../members/member-role.ts';

/** What an outside issuer's claims say by the tenant's mapping, before any member is looked up. */
export interface MappedClaims {
  /** The member's `external_id`; null where the mapping names no member. */
  readonly externalId: string | null;
  /** What the token's own claims allow at the most; null where they say nothing of it. */
  readonly role: Role | null;
  readonly projectId: string | null;
  readonly endUser: string | null;
}

const longest = { member: 255, project: 128, end_user: 512 } as const;

/**
 * Reads what the mapping names. Null, which refuses the token, where a claim that it names is missing or of another shape:
 * whoever leaves a claim out must not get more for it.
 */
export function mapClaims(claims: Claims, mapping: IssuerClaims): MappedClaims | null {
  const externalId = textOf(claims, mapping.member, longest.member);
  const projectId = textOf(claims, mapping.project, longest.project);
  const endUser = textOf(claims, mapping.end_user, longest.end_user);
  const role = roleOf(claims, mapping);
  if (externalId === undefined || projectId === undefined || endUser === undefined || role === undefined)
    return null;
  return { externalId, projectId, endUser, role };
}

/** Null where the mapping names no claim, undefined where the token lacks it. */
function textOf(claims: Claims, name: string | null, maximum: number): string | null | undefined {
  if (name === null) return null;
  const value = memberOf(claims, name);
  if (typeof value !== 'string' || value === '' || value.length > maximum) return undefined;
  return value.isWellFormed() && !value.includes('\u0000') ? value : undefined;
}

/**
 * Everything that tokens of this mapping can hold. A member whom they name may be of any role, also later; a project that
 * they name narrows less than it seems, since they choose it.
 */
export function grantsOf(
  mapping: IssuerClaims,
): readonly { readonly role: Role; readonly scopes: readonly Permission[] | null }[] {
  const scopes = mapping.end_user === null ? null : endUserPermissions;
  const isOfMember = mapping.role === null && mapping.member !== null;
  const named = [...Object.values(mapping.roles), isOfMember ? 'admin' : mapping.default_role];
  return [...new Set(named)].filter((role) => role !== null).map((role) => ({ role, scopes }));
}

/** The widest of the roles that the claim's values stand for. */
function roleOf(claims: Claims, mapping: IssuerClaims): Role | null | undefined {
  if (mapping.role === null) return mapping.member === null ? (mapping.default_role ?? undefined) : null;
  const value = memberOf(claims, mapping.role);
  const named: readonly unknown[] = Array.isArray(value) ? value.slice(0, 200) : [value];
  let widest: Role | undefined;
  for (const each of named) {
    if (typeof each !== 'string' || !Object.hasOwn(mapping.roles, each)) continue;
    const role = mapping.roles[each];
    if (role !== undefined) widest = widest === undefined ? role : widerRole(widest, role);
  }
  return widest ?? mapping.default_role ?? undefined;
}
