import { changedFields, controlChanged, type TypedEvent } from '#events';
import type { TenantRow } from './tenants.sql.ts';

/** `control.changed.v1` of a tenant that is new (`before` null) or has changed. */
export function tenantTold(before: TenantRow | null, after: TenantRow): TypedEvent {
  const { tenant_id: tenantId, name, state } = after;
  return controlChanged(
    { tenantId, changedAt: after.changed_at },
    {
      resource: 'tenant',
      resource_id: tenantId,
      change: before === null ? 'created' : changeOf(before, after),
      version: Number(after.version),
      state,
      name,
      changed_fields:
        before === null ? [] : changedFields({ name: before.name, state: before.state }, { name, state }),
      changed_by: 'operator',
    },
  );
}

function changeOf(before: TenantRow, after: TenantRow): string {
  if (before.state === after.state) return 'changed';
  if (after.state === 'active') return before.state === 'deleted' ? 'restored' : 'resumed';
  return after.state;
}
