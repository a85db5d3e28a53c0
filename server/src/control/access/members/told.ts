import { changedFields, controlChanged, type TypedEvent } from '#events';
import { toTypeId } from '#kernel';
import type { MemberRow, TouchedKeyRow } from './members.sql.ts';

/**
 * `control.changed.v1` of a member that is new (`before` null), has changed or was removed.
 * @param changedBy `operator`, or `key:` and the id of the tenant's key
 */
export function memberTold(before: MemberRow | null, after: MemberRow, changedBy: string): TypedEvent {
  const isRemoved = after.removed_at !== null;
  return controlChanged(
    { tenantId: after.tenant_id, changedAt: after.changed_at },
    {
      resource: 'member',
      resource_id: toTypeId('mem', after.member_id),
      change: before === null ? 'created' : isRemoved ? 'deleted' : 'changed',
      version: Number(after.version),
      state: isRemoved ? 'deleted' : 'active',
      name: after.name,
      changed_fields: before === null ? [] : changedFields(shownFields(before), shownFields(after)),
      changed_by: changedBy,
    },
  );
}

/** The same of a key whose member has changed, and with it what the key may do. */
export function memberKeyTold(key: TouchedKeyRow, changedBy: string): TypedEvent {
  return controlChanged(
    { tenantId: key.tenant_id, changedAt: key.changed_at },
    {
      resource: 'key',
      resource_id: key.key_id,
      change: 'changed',
      version: Number(key.version),
      state: 'active',
      name: key.name,
      changed_fields: ['member'],
      changed_by: changedBy,
    },
  );
}

function shownFields({ name, email, external_id, role, projects, removed_at }: MemberRow) {
  return { name, email, external_id, role, projects, removed_at };
}
