/**
 * What a tenant gets to see of an event: its own ids in the form that the API takes (TypeIDs), and nothing of how Stoa
 * works inside. Everything that is sent is named here, so that a field which is added to an event stays inside until
 * somebody decides that it is public.
 */
import { type EventData, type EventType, eventTable, everyEventType, isEventType } from '@stoa/contracts';
import { type IdPrefix, isUuid, toTypeId } from '#kernel';

type Shown = Readonly<Record<string, unknown>>;
type Shower<Type extends EventType> = (data: EventData<Type>) => Shown;

/** Ids of resources by the kind of thing, where they are UUIDs. */
const resourcePrefixes: Readonly<Partial<Record<string, IdPrefix>>> = {
  tenant: 'ten',
  policy: 'ten',
  key_policy: 'ten',
  member: 'mem',
  issuer: 'isr',
  webhook: 'whe',
};

function id(prefix: IdPrefix, value: string): string;
function id(prefix: IdPrefix, value: string | null): string | null;
function id(prefix: IdPrefix, value: string | null): string | null {
  return value !== null && isUuid(value) ? toTypeId(prefix, value) : value;
}

const showers: { readonly [Type in EventType]: Shower<Type> } = {
  'budget.crossed.v1': ({ budget_id: budget, scope_id: scopeId, ...data }) => ({
    budget_id: id('bud', budget),
    scope: data.scope,
    scope_id: data.scope === 'tenant' ? id('ten', scopeId) : scopeId,
    threshold_percent: data.threshold_percent,
    is_hard: data.is_hard,
    limit_femto: data.limit_femto,
    spent_femto: data.spent_femto,
    window_starts_at: data.window_starts_at,
    window_ends_at: data.window_ends_at,
    crossed_at: data.crossed_at,
  }),
  'control.changed.v1': (data) => {
    const prefix = resourcePrefixes[data.resource];
    return {
      resource: data.resource,
      resource_id: prefix === undefined ? data.resource_id : id(prefix, data.resource_id),
      change: data.change,
      version: data.version,
      state: data.state,
      name: data.name,
      changed_fields: data.changed_fields,
      // Which of the operator's keys it was is the operator's business.
      changed_by: data.changed_by.startsWith('operator') ? 'operator' : data.changed_by,
    };
  },
  'document.changed.v1': (data) => ({
    document_id: id('doc', data.document_id),
    collection_id: id('col', data.collection_id),
    document_version: data.document_version,
    change: data.change,
    media_type: data.media_type,
    size_bytes: data.size_bytes,
    sha256: data.sha256,
    chunk_count: data.chunk_count,
    error: data.error,
    changed_at: data.changed_at,
  }),
  'invoice.changed.v1': (data) => ({
    invoice_id: id('inv', data.invoice_id),
    number: data.number,
    change: data.change,
    currency: data.currency,
    total_minor: data.total_minor,
    changed_minor: data.changed_minor,
    period_starts_at: data.period_starts_at,
    period_ends_at: data.period_ends_at,
    due_at: data.due_at,
    changed_at: data.changed_at,
  }),
  'request.completed.v1': (data) => ({
    request_id: id('req', data.request_id),
    key_id: data.key_id,
    project_id: data.project_id,
    end_user: data.end_user,
    tags: data.tags,
    endpoint: data.endpoint,
    requested_model: data.requested_model,
    stream: data.stream,
    outcome: data.outcome,
    error: data.error,
    decision: data.decision,
    attempts: data.attempts.map(({ provider_request_id: _inner, ...attempt }) => attempt),
    usage: data.usage,
    priced: data.priced,
    cost_femto: data.cost_femto,
    charge_femto: data.charge_femto,
    price_version: data.price_version,
    trace_id: data.trace_id,
    client_request_id: data.client_request_id,
    created_at: data.created_at,
    completed_at: data.completed_at,
  }),
  'routing.feedback.v1': (data) => ({
    feedback_id: id('fbk', data.feedback_id),
    request_id: id('req', data.request_id),
    source: data.source,
    score: data.score,
    label: data.label,
    target: data.target,
    given_at: data.given_at,
  }),
  'run.changed.v1': (data) => ({
    run_id: id('run', data.run_id),
    workflow: data.workflow,
    workflow_version: data.workflow_version,
    change: data.change,
    state: data.state,
    step: data.step,
    error: data.error,
    cost_femto: data.cost_femto,
    changed_at: data.changed_at,
  }),
  'security.alerted.v1': (data) => ({
    alert: data.alert,
    severity: data.severity,
    principal_kind: data.principal_kind,
    principal_id: data.principal_id,
    summary: data.summary,
    count: data.count,
    first_seen_at: data.first_seen_at,
    last_seen_at: data.last_seen_at,
    request_id: id('req', data.request_id),
    remote_address: data.remote_address,
    ...(data.expires_at === undefined ? {} : { expires_at: data.expires_at }),
  }),
};

/** Every type that webhooks are sent for. */
export const publicEventTypes: readonly EventType[] = Object.keys(eventTable).filter(isEventType);

/** The public form of an event's data. Throws a ZodError where the data does not fit the type. */
function shownData(type: EventType, json: string): Shown {
  const data: unknown = JSON.parse(json);
  return show(type, data);
}

function show<Type extends EventType>(type: Type, data: unknown): Shown {
  const shower: Shower<Type> = showers[type];
  return shower(parsed(type, data));
}

function parsed<Type extends EventType>(type: Type, data: unknown): EventData<Type>;
function parsed(type: EventType, data: unknown): unknown {
  return eventTable[type].schema.parse(data);
}

/** The body of a message, as Standard Webhooks proposes it: type, timestamp, data; and the event's id. */
export function messageBody(message: {
  readonly eventId: string;
  readonly type: string;
  readonly occurredAt: Date;
  readonly data: Shown;
}): string {
  const { eventId, type, occurredAt, data } = message;
  return JSON.stringify({ id: toTypeId('evt', eventId), type, timestamp: occurredAt.toISOString(), data });
}

/** The body for an event of the log; null for a type that is not public. */
export function eventMessage(event: {
  readonly eventId: string;
  readonly type: string;
  readonly occurredAt: Date;
  readonly data: string;
}): string | null {
  if (!isEventType(event.type)) return null;
  return messageBody({ ...event, data: shownData(event.type, event.data) });
}

/** Whether a list of subscribed types has this one. */
export function isSubscribed(types: readonly string[], type: string): boolean {
  return types.includes(type) || types.includes(everyEventType);
}
