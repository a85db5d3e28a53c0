/** Requests and doubles for the tests of journal, settlement, recovery and the queries. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { RequestCompletedV1 } from '@stoa/contracts';
import { type AppError, asRequestId, newUuid, type TenantId } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import type { OpenedEntry, OpenedRequest } from '../../types.ts';
import type { JournalStore } from '../journal.ts';

/** Metrics that count nothing. */
export const noMetrics: MetricRegistry = {
  counter: () => ({ add: () => undefined }),
  gauge: () => ({ set: () => undefined }),
  observedGauge: () => undefined,
  histogram: () => ({ observe: () => undefined }),
};

/** Counters by name, for tests that read them. */
export function countingMetrics(): { readonly metrics: MetricRegistry; count(name: string): number } {
  const counts = new Map<string, number>();
  return {
    metrics: {
      ...noMetrics,
      counter: ({ name }) => ({ add: (value) => counts.set(name, (counts.get(name) ?? 0) + value) }),
    },
    count: (name) => counts.get(name) ?? 0,
  };
}

/** A folder of the test's own; `remove` takes it away. */
export async function temporaryFolder(): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'stoa-journal-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** A UUIDv7 made at that time. */
export function idAt(atMs: number): string {
  const hex = Math.trunc(atMs).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${newUuid().slice(14)}`;
}

/** A completed request, with what the test wants otherwise. */
export function recordOf(tenantId: TenantId, changes: Partial<RequestCompletedV1> = {}): RequestCompletedV1 {
  const at = '2026-03-04T05:06:07.890Z';
  return {
    request_id: newUuid(),
    tenant_id: tenantId,
    key_id: '00abcdefghij',
    project_id: null,
    end_user: null,
    tags: {},
    endpoint: 'chat.completions',
    requested_model: 'auto',
    stream: false,
    outcome: 'completed',
    error: null,
    decision: { target: 'small-model', probability: 1, reason: 'first_healthy' },
    attempts: [
      {
        target: 'small-model',
        provider: 'openai',
        started_at: at,
        duration_ms: 12.5,
        time_to_first_token_ms: 4.25,
        status: 200,
        error: null,
        provider_request_id: 'provider-1',
      },
    ],
    usage: {
      input_tokens: 10,
      output_tokens: 5,
      cached_input_tokens: 2,
      cache_write_tokens: 0,
      reasoning_tokens: 1,
      input_audio_tokens: 0,
      output_audio_tokens: 0,
      estimated: false,
    },
    priced: true,
    cost_femto: '1500000000',
    charge_femto: '3000000000',
    price_version: 'book-1',
    price: { hash: '0123456789abcdef', tier: 'base', unit: 'token' },
    reserved_femto: '9000000000',
    trace_id: '0123456789abcdef0123456789abcdef',
    client_request_id: null,
    created_at: at,
    completed_at: at,
    ...changes,
  };
}

/** What `open` gets for the request of a record. */
export function openedOf(record: RequestCompletedV1, tenantId: TenantId): OpenedEntry {
  return {
    requestId: asRequestId(record.request_id),
    tenantId,
    keyId: record.key_id,
    projectId: record.project_id,
    endUser: record.end_user,
    tags: record.tags,
    endpoint: record.endpoint,
    requestedModel: record.requested_model,
    stream: record.stream,
    target: record.decision?.target ?? 'small-model',
    inputTokensEstimate: 77,
    reservedFemto: record.reserved_femto,
    traceId: record.trace_id,
    createdAtMs: Date.parse(record.created_at),
  };
}

const openedByRecord = new WeakMap<RequestCompletedV1, OpenedRequest>();

/** Opens the request of a record and has its line written at once. Throws what the journal refuses with. */
export function openNow(journal: JournalStore, record: RequestCompletedV1, tenantId: TenantId): void {
  const refusals: AppError[] = [];
  const opened = journal.open(openedOf(record, tenantId), (refusal) => {
    if (refusal !== null) refusals.push(refusal);
  });
  journal.flush();
  for (const refusal of refusals) throw refusal;
  openedByRecord.set(record, opened);
}

/**
 * Settles a record, opened by `openNow` or never, and has its line written at once. Undefined where its answer could end
 * at once; else a promise of that.
 */
export function settleNow(journal: JournalStore, record: RequestCompletedV1): Promise<void> | undefined {
  let isWritten = false;
  const written = new Promise<void>((resolve, reject) => {
    journal.settle(record, openedByRecord.get(record) ?? null, (refusal) => {
      isWritten = refusal === null;
      if (refusal === null) resolve();
      else reject(refusal);
    });
  });
  journal.flush();
  return isWritten ? undefined : written;
}
