import { type ApiKeyObject, isPermission, type Permission } from '@stoa/contracts';
import { toTypeId } from '#kernel';
import type { KeyRow } from './keys.sql.ts';

/** A key as the wire shows it at a time, Unix milliseconds. */
export function keyObject(row: KeyRow, nowMs: number): ApiKeyObject {
  const time = (value: Date | null): string | null => value?.toISOString() ?? null;
  return {
    id: row.key_id,
    object: 'api_key',
    name: row.name,
    role: row.role,
    scopes: scopesFrom(row.scopes),
    project_id: row.project_id,
    member_id: row.member_id === null ? null : toTypeId('mem', row.member_id),
    tags: tagsFrom(row.tags),
    allowed_ips: row.allowed_ips === null ? null : [...row.allowed_ips],
    last_four: row.last_four,
    // Which of the operator's keys it was is in the audit entries, and no business of the tenant.
    created_by: row.created_by.startsWith('key:') ? row.created_by : 'operator',
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
    expires_at: time(row.expires_at),
    revoked_at: time(row.revoked_at),
    last_used_at: time(row.last_used_at),
    rotated_at: time(row.rotated_at),
    previous_secret_expires_at:
      (row.previous_until?.getTime() ?? 0) > nowMs ? time(row.previous_until) : null,
  };
}

/** Stored scopes as permissions. One that this version doesn't know is left out, which only narrows. */
export function scopesFrom(stored: readonly string[] | null): Permission[] | null {
  return stored === null ? null : stored.filter(isPermission);
}

/** Stored tags as the object they were. */
export function tagsFrom(stored: string): Record<string, string> {
  const value: unknown = JSON.parse(stored);
  if (typeof value !== 'object' || value === null) return {};
  const entries = Object.entries(value).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  // fromEntries defines properties, so a tag named __proto__ stays a tag.
  return Object.fromEntries(entries);
}
