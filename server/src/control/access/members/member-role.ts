import { type Role, roles } from '@stoa/contracts';

/** A member's role in a project. */
export interface ProjectRole {
  readonly project_id: string;
  readonly role: Role;
}

export interface MemberRoles {
  /** In the whole tenant, or null. */
  readonly role: Role | null;
  readonly projects: readonly ProjectRole[];
}

/** The wider of two roles. */
export function widerRole(one: Role, other: Role): Role {
  return roles.indexOf(one) <= roles.indexOf(other) ? one : other;
}

/** The narrower of two roles. */
export function narrowerRole(one: Role, other: Role): Role {
  return roles.indexOf(one) >= roles.indexOf(other) ? one : other;
}

/**
 * What a member may be in a project, or, with null, in the whole tenant; null where nothing. In a project the wider of the
 * tenant's role and the project's counts.
 */
export function memberRoleIn({ role, projects }: MemberRoles, projectId: string | null): Role | null {
  const own = projects.find((each) => each.project_id === projectId)?.role ?? null;
  if (projectId === null || own === null) return role;
  return role === null ? own : widerRole(role, own);
}

/** Stored projects. Whatever is of another shape is left out, which only narrows. */
export function projectsFrom(stored: string): ProjectRole[] {
  const value: unknown = JSON.parse(stored);
  if (!Array.isArray(value)) return [];
  return value.flatMap((each: unknown): ProjectRole[] => {
    if (typeof each !== 'object' || each === null || !('project_id' in each) || !('role' in each)) return [];
    const { project_id: projectId } = each;
    const role = roles.find((known) => known === each.role);
    return typeof projectId === 'string' && role !== undefined ? [{ project_id: projectId, role }] : [];
  });
}
