import type { z } from 'zod';
import { budgetCrossedV1 } from './budget-crossed.v1.ts';
import { controlChangedV1 } from './control-changed.v1.ts';
import { documentChangedV1 } from './document-changed.v1.ts';
import { invoiceChangedV1 } from './invoice-changed.v1.ts';
import { requestCompletedV1 } from './request-completed.v1.ts';
import { routingFeedbackV1 } from './routing-feedback.v1.ts';
import { runChangedV1 } from './run-changed.v1.ts';
import { securityAlertedV1 } from './security-alerted.v1.ts';

/**
 * Every event that Stoa tells, by its type. The log checks data against `schema` before it writes; the AsyncAPI document
 * and the published schemas are made of this table, and `npm run check` refuses a change that would break a reader.
 */
export interface EventDeclaration<Schema extends z.ZodType = z.ZodType> {
  readonly schema: Schema;
  /** What the fact is about; events of one key are delivered in their order. */
  readonly key: (data: z.output<Schema>) => string;
  /** What `key` is, in words. */
  readonly keyedBy: string;
  /** The modules that tell it; the first is the `source` of the CloudEvent. */
  readonly toldBy: readonly [string, ...string[]];
  /** One or two sentences for the reference. */
  readonly sentence: string;
  readonly example: z.output<Schema>;
}

function event<Schema extends z.ZodType>(declaration: EventDeclaration<Schema>): EventDeclaration<Schema> {
  return declaration;
}

const anId = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80';
const aTime = '2026-03-01T12:00:00.000Z';

export const eventTable = {
  'budget.crossed.v1': event({
    schema: budgetCrossedV1,
    key: (data) => data.budget_id,
    keyedBy: 'the budget',
    toldBy: ['quotas'],
    sentence: 'Spending within a budget has reached 50, 80 or 100 % of its limit.',
    example: {
      budget_id: anId,
      scope: 'tenant',
      scope_id: anId,
      threshold_percent: 80,
      is_hard: true,
      limit_femto: '100000000000000000',
      spent_femto: '80250000000000000',
      window_starts_at: aTime,
      window_ends_at: '2026-04-01T00:00:00.000Z',
      crossed_at: '2026-03-17T09:30:00.000Z',
    },
  }),
  'control.changed.v1': event({
    schema: controlChangedV1,
    key: (data) => `${data.resource}:${data.resource_id}`,
    keyedBy: 'the resource: its kind, a colon, its id',
    toldBy: ['control'],
    sentence:
      "A tenant, or one of its keys or policies, was created or changed. What belongs to the whole platform (providers, models, prices) is nobody's event.",
    example: {
      resource: 'key',
      resource_id: '00a1B2c3D4e5',
      change: 'revoked',
      version: 2,
      state: 'revoked',
      name: 'Back end',
      changed_fields: ['revoked_at'],
      changed_by: 'operator',
    },
  }),
  'document.changed.v1': event({
    schema: documentChangedV1,
    key: (data) => data.document_id,
    keyedBy: 'the document',
    toldBy: ['ingestion'],
    sentence: 'A document was received, indexed, could not be read, or was erased.',
    example: {
      document_id: anId,
      collection_id: null,
      document_version: 1,
      change: 'indexed',
      media_type: 'application/pdf',
      size_bytes: 48_213,
      sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
      chunk_count: 42,
      error: null,
      changed_at: aTime,
    },
  }),
  'invoice.changed.v1': event({
    schema: invoiceChangedV1,
    key: (data) => data.invoice_id,
    keyedBy: 'the invoice',
    toldBy: ['billing'],
    sentence: 'An invoice was issued, paid, voided or credited.',
    example: {
      invoice_id: anId,
      number: '2026-000017',
      change: 'issued',
      currency: 'EUR',
      total_minor: '12900',
      changed_minor: '12900',
      period_starts_at: '2026-02-01T00:00:00.000Z',
      period_ends_at: '2026-03-01T00:00:00.000Z',
      due_at: '2026-03-15T00:00:00.000Z',
      changed_at: aTime,
    },
  }),
  'request.completed.v1': event({
    schema: requestCompletedV1,
    key: (data) => data.request_id,
    keyedBy: 'the request; there is no order between requests',
    toldBy: ['gateway'],
    sentence: 'A request came to its end: the decision, the attempts, the usage, the cost and the outcome.',
    example: {
      request_id: anId,
      tenant_id: '018f4d2a-0000-7def-8a12-3b4c5d6e7f80',
      key_id: '00a1B2c3D4e5',
      project_id: null,
      end_user: null,
      tags: {},
      endpoint: 'chat.completions',
      requested_model: 'auto',
      stream: false,
      outcome: 'completed',
      error: null,
      decision: { target: 'small', probability: 1, reason: 'first in order' },
      attempts: [
        {
          target: 'small',
          provider: 'local',
          started_at: aTime,
          duration_ms: 812.5,
          time_to_first_token_ms: null,
          status: 200,
          error: null,
          provider_request_id: null,
        },
      ],
      usage: {
        input_tokens: 120,
        output_tokens: 35,
        cached_input_tokens: 0,
        cache_write_tokens: 0,
        reasoning_tokens: 0,
        input_audio_tokens: 0,
        output_audio_tokens: 0,
        estimated: false,
      },
      priced: true,
      cost_femto: '95000000000',
      charge_femto: '95000000000',
      price_version: '7',
      price: { hash: 'a1b2c3', tier: 'default', unit: 'token' },
      reserved_femto: null,
      trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
      client_request_id: null,
      created_at: aTime,
      completed_at: '2026-03-01T12:00:00.900Z',
    },
  }),
  'routing.feedback.v1': event({
    schema: routingFeedbackV1,
    key: (data) => data.request_id,
    keyedBy: 'the request',
    toldBy: ['gateway', 'router'],
    sentence: 'The answer to a request was rated, judged, or had an outcome that was known later.',
    example: {
      feedback_id: anId,
      request_id: anId,
      source: 'rating',
      score: 1,
      label: 'thumbs_up',
      target: 'small',
      judge: null,
      given_at: aTime,
    },
  }),
  'run.changed.v1': event({
    schema: runChangedV1,
    key: (data) => data.run_id,
    keyedBy: 'the run',
    toldBy: ['orchestrator'],
    sentence:
      'A run of a workflow, or one of its steps, has started, waited, completed, failed or been undone.',
    example: {
      run_id: anId,
      workflow: 'invoice-check',
      workflow_version: '3',
      change: 'step_completed',
      state: 'running',
      step: { name: 'extract', kind: 'model', attempt: 1 },
      error: null,
      cost_femto: '120000000000',
      changed_at: aTime,
    },
  }),
  'security.alerted.v1': event({
    schema: securityAlertedV1,
    key: (data) => `${data.principal_kind}:${data.principal_id}`,
    keyedBy: 'the principal: its kind, a colon, its id',
    toldBy: ['access', 'gateway'],
    sentence: 'Something was noticed that a person responsible for security should look at.',
    example: {
      alert: 'permission_probing',
      severity: 'medium',
      principal_kind: 'key',
      principal_id: '00a1B2c3D4e5',
      summary: 'One key was refused 200 times within a minute.',
      count: 200,
      first_seen_at: aTime,
      last_seen_at: '2026-03-01T12:01:00.000Z',
      request_id: null,
      remote_address: null,
    },
  }),
} as const;

export type EventType = keyof typeof eventTable;

/** The data of an event of this type, as readers get it. */
export type EventData<Type extends EventType> = z.output<(typeof eventTable)[Type]['schema']>;

/** True where `value` is a type of the table, with its version. */
export function isEventType(value: string): value is EventType {
  return Object.hasOwn(eventTable, value);
}

/** The declaration of a type, free of which one it is. */
export function eventDeclaration(type: EventType): EventDeclaration {
  return eventTable[type];
}
