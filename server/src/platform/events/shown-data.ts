/**
 * An event's data as people read it: in the log ids are UUIDs, as Stoa stores them, and consumers get them so; in answers
 * they are TypeIDs, the form that every other route takes. Which field is an id of what is said here for each type, and
 * checked against its schema by a test; nothing is guessed from how a value looks.
 */
import { type EventData, type EventType, isEventType } from '@stoa/contracts';
import { type IdPrefix, isUuid, toTypeId } from '#kernel';

type IdFields<Type extends EventType> = Readonly<Partial<Record<keyof EventData<Type>, IdPrefix>>>;

/** Fields that always hold a UUID, and whose. */
export const idFields: { readonly [Type in EventType]: IdFields<Type> } = {
  'budget.crossed.v1': { budget_id: 'bud' },
  'control.changed.v1': {},
  'document.changed.v1': { document_id: 'doc', collection_id: 'col' },
  'invoice.changed.v1': { invoice_id: 'inv' },
  'request.completed.v1': { request_id: 'req', tenant_id: 'ten', project_id: 'prj' },
  'routing.feedback.v1': { feedback_id: 'fbk', request_id: 'req' },
  'run.changed.v1': { run_id: 'run' },
  'security.alerted.v1': { request_id: 'req' },
};

/** Fields whose kind another field says; keys and what is not listed have ids that are no UUIDs. */
const kindFields: Readonly<Partial<Record<EventType, { readonly kind: string; readonly id: string }>>> = {
  'budget.crossed.v1': { kind: 'scope', id: 'scope_id' },
  'control.changed.v1': { kind: 'resource', id: 'resource_id' },
};
const kindPrefixes: ReadonlyMap<unknown, IdPrefix> = new Map([
  ['tenant', 'ten'],
  ['policy', 'ten'],
  ['key_policy', 'ten'],
  ['project', 'prj'],
  ['member', 'mem'],
  ['issuer', 'isr'],
  ['webhook', 'whe'],
]);

const shownId = (prefix: IdPrefix, value: unknown): unknown =>
  typeof value === 'string' && isUuid(value) ? toTypeId(prefix, value) : value;

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The data with its ids as TypeIDs; as it is where the type is not known, and text where it is no JSON. Never throws. */
export function shownData(type: string, data: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return data;
  }
  if (!isEventType(type) || !isRecord(value)) return value;
  const shown: Record<string, unknown> = { ...value };
  for (const [field, prefix] of Object.entries(idFields[type])) {
    if (field in shown) shown[field] = shownId(prefix, shown[field]);
  }
  const byKind = kindFields[type];
  const prefix = byKind === undefined ? undefined : kindPrefixes.get(shown[byKind.kind]);
  if (byKind !== undefined && prefix !== undefined) shown[byKind.id] = shownId(prefix, shown[byKind.id]);
  return shown;
}
