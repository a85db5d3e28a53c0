import { type AuditEntryObject, auditActorTypes, type OwnAuditEntryObject } from '@stoa/contracts';
import { toTypeId } from '#kernel';
import type { OperatorRow, OwnRow } from './audit.sql.ts';

/** An entry as its tenant sees it. */
export function ownEntry(row: OwnRow): OwnAuditEntryObject {
  return { ...fieldsOf(row), actor: { ...actorOf(row), id: row.actor_id } };
}

/** An entry as the operator sees it. */
export function operatorEntry(row: OperatorRow): AuditEntryObject {
  const actor = actorOf(row);
  const isOfTenant = actor.type === 'key' || actor.type === 'token';
  return {
    ...fieldsOf(row),
    actor: { ...actor, id: row.actor_id },
    operator: isOfTenant ? null : row.actor_id,
    tenant_id: row.tenant_id === null ? null : toTypeId('ten', row.tenant_id),
    reason: row.reason ?? row.action,
  };
}

function actorOf(row: Omit<OwnRow, 'actor_id'>) {
  const { actor_role: role, member_id, token_id, end_user } = row;
  return { type: actorType(row.actor_type), role, member_id, token_id, end_user };
}

function fieldsOf(row: Omit<OwnRow, 'actor_id'>) {
  const { resource_type: type, resource_id: id } = row;
  return {
    id: toTypeId('aud', row.entry_id),
    object: 'audit_entry' as const,
    occurred_at: row.occurred_at.toISOString(),
    action: row.action,
    resource: type === null || id === null ? null : { type, id },
    outcome: row.outcome,
    count: row.times,
    before: valueOf(row.before),
    after: valueOf(row.after),
    client_address: row.client_address,
    user_agent: row.user_agent,
    request_id: row.request_id,
  };
}

function valueOf(text: string | null): unknown {
  if (text === null) return null;
  const value: unknown = JSON.parse(text);
  return value;
}

/** What a newer process wrote, while it runs beside this one, is told as the platform's. */
function actorType(text: string): AuditEntryObject['actor']['type'] {
  return auditActorTypes.find((type) => type === text) ?? 'system';
}
