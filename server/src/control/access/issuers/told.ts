import { changedFields, controlChanged, type TypedEvent } from '#events';
import { toTypeId } from '#kernel';
import type { IssuerRow } from './issuers.sql.ts';

/** `control.changed.v1` of an outside issuer that is new (`before` null), has changed or was deleted. */
export function issuerTold(before: IssuerRow | null, after: IssuerRow, changedBy: string): TypedEvent {
  const isDeleted = after.deleted_at !== null;
  return controlChanged(
    { tenantId: after.tenant_id, changedAt: after.changed_at },
    {
      resource: 'issuer',
      resource_id: toTypeId('isr', after.issuer_id),
      change: before === null ? 'created' : isDeleted ? 'deleted' : 'changed',
      version: Number(after.version),
      state: isDeleted ? 'deleted' : after.enabled ? 'active' : 'suspended',
      name: after.name,
      changed_fields: before === null ? [] : changedFields(shownFields(before), shownFields(after)),
      changed_by: changedBy,
    },
  );
}

function shownFields(row: IssuerRow) {
  const { name, issuer, jwks_url, audience, algorithms, token_types, maximum_lifetime_s, claims, enabled } =
    row;
  const { settled_by_operator } = row;
  return {
    name,
    issuer,
    jwks_url,
    audience,
    algorithms,
    token_types,
    maximum_lifetime_s,
    claims,
    enabled,
    settled_by_operator,
  };
}
