import { changedFields, controlChanged, type TypedEvent } from '#events';
import type { KeyRow } from './keys.sql.ts';

/**
 * `control.changed.v1` of a key that is new (`before` null) or has changed. Of the key itself it holds its id alone.
 * @param changedBy `operator`, or `key:` and the id of the tenant's key
 */
export function keyTold(before: KeyRow | null, after: KeyRow, changedBy: string): TypedEvent {
  const isRevoked = after.revoked_at !== null;
  return controlChanged(
    { tenantId: after.tenant_id, changedAt: after.changed_at },
    {
      resource: 'key',
      resource_id: after.key_id,
      change: before === null ? 'created' : isRevoked && before.revoked_at === null ? 'revoked' : 'changed',
      version: Number(after.version),
      state: isRevoked ? 'revoked' : 'active',
      name: after.name,
      changed_fields: before === null ? [] : changedFields(shownFields(before), shownFields(after)),
      changed_by: changedBy,
    },
  );
}

function shownFields(row: KeyRow) {
  const { name, role, scopes, project_id, tags, allowed_ips, expires_at, revoked_at, rotated_at } = row;
  return { name, role, scopes, project_id, tags, allowed_ips, expires_at, revoked_at, rotated_at };
}
