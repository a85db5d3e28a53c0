import {
  type ExplainedRequest,
  listRequests,
  readRequest,
  type RequestCompletedV1,
  requestCompletedV1,
  type RequestsQuery,
} from '@stoa/contracts';
import type { Database } from '#db';
import { type JsonRoute, tenantRoute } from '#http';
import {
  AppError,
  asRequestId,
  femtoToDecimal,
  fromTypeId,
  pageOf,
  type TenantPrincipal,
  toTypeId,
} from '#kernel';
import { findRecord, listRecords, type RequestFilter } from './requests.sql.ts';
import type { Journal } from '../types.ts';

export interface RequestsDeps {
  readonly db: Database;
  readonly journal: Pick<Journal, 'pending' | 'pendingOf'>;
}

/** What answered a request or was tried last, or null where nothing was called. As settlement's column `target`. */
export function targetOf(record: RequestCompletedV1): string | null {
  return record.attempts.at(-1)?.target ?? record.decision?.target ?? null;
}

/** The project that a caller is held to: of its key, else of its filter; null for all of the tenant. */
export function visibleProject(principal: TenantPrincipal, asked: string | undefined): string | null {
  if (principal.projectId === null) return asked ?? null;
  if (asked === undefined || asked === principal.projectId) return principal.projectId;
  throw new AppError('permission_denied', `This key sees the project ${principal.projectId} only.`, {
    param: 'project_id',
  });
}

/** The smallest id of a request made at that moment, as UUID text. */
export function lowestIdAt(atMs: number): string {
  const hex = Math.max(0, Math.trunc(atMs)).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-0000-0000-000000000000`;
}

/** A record in the shape that a caller sees: money as decimals, ids as TypeIDs, nothing of a provider's own ids. */
function explain(record: RequestCompletedV1): ExplainedRequest {
  return {
    id: toTypeId('req', record.request_id),
    object: 'request',
    endpoint: record.endpoint,
    model: record.requested_model,
    stream: record.stream,
    outcome: record.outcome,
    error: record.error,
    decision: record.decision,
    attempts: record.attempts.map(({ provider_request_id: _own, ...attempt }) => attempt),
    usage: record.usage,
    priced: record.priced,
    cost: decimalOrNull(record.cost_femto),
    charge: decimalOrNull(record.charge_femto),
    currency: 'USD',
    price_version: record.price_version,
    price: record.price,
    key_id: record.key_id,
    project_id: record.project_id,
    end_user: record.end_user,
    tags: record.tags,
    client_request_id: record.client_request_id,
    trace_id: record.trace_id,
    created_at: record.created_at,
    completed_at: record.completed_at,
  };
}

function decimalOrNull(femto: string | null): string | null {
  return femto === null ? null : femtoToDecimal(BigInt(femto));
}

function parseStored(json: string): RequestCompletedV1 {
  return requestCompletedV1.parse(JSON.parse(json));
}

function earlier(left: string | null, right: string | null): string | null {
  if (left === null || right === null) return left ?? right;
  return left < right ? left : right;
}

function filterOf(query: RequestsQuery, principal: TenantPrincipal): RequestFilter {
  const afterId = query.after === undefined ? null : fromTypeId('req', query.after);
  const beforeId = query.to === undefined ? null : lowestIdAt(Date.parse(query.to));
  return {
    fromId: query.from === undefined ? null : lowestIdAt(Date.parse(query.from)),
    beforeId: earlier(afterId, beforeId),
    model: query.model ?? null,
    target: query.target ?? null,
    outcome: query.outcome ?? null,
    keyId: query.key_id ?? null,
    projectId: visibleProject(principal, query.project_id),
    endUser: query.end_user ?? null,
  };
}

/** The same conditions as in `requests.sql.ts`, for records that are not in the database yet. */
function passes(filter: RequestFilter, record: RequestCompletedV1): boolean {
  return (
    (filter.fromId === null || record.request_id >= filter.fromId) &&
    (filter.beforeId === null || record.request_id < filter.beforeId) &&
    (filter.model === null || record.requested_model === filter.model) &&
    (filter.target === null || targetOf(record) === filter.target) &&
    (filter.outcome === null || record.outcome === filter.outcome) &&
    (filter.keyId === null || record.key_id === filter.keyId) &&
    (filter.projectId === null || record.project_id === filter.projectId) &&
    (filter.endUser === null || record.end_user === filter.endUser)
  );
}

/** Newest first, each request once. */
function merge(
  pending: readonly RequestCompletedV1[],
  stored: readonly RequestCompletedV1[],
): RequestCompletedV1[] {
  const byId = new Map([...stored, ...pending].map((record) => [record.request_id, record]));
  return [...byId.values()].sort((left, right) => (left.request_id < right.request_id ? 1 : -1));
}

/**
 * The routes that read requests back. What this process has settled is found at once, also before it is written: the
 * journal is asked before the database, so a record that is written in between is found in one of the two.
 */
export function createRequestsRoutes(deps: RequestsDeps): readonly JsonRoute[] {
  const { db, journal } = deps;

  async function read(id: string, principal: TenantPrincipal): Promise<RequestCompletedV1> {
    const requestId = fromTypeId('req', id);
    if (requestId !== null) {
      const pending = journal.pending(principal.tenantId, asRequestId(requestId));
      if (pending !== null && (principal.projectId === null || pending.project_id === principal.projectId)) {
        return pending;
      }
      const stored = await db.withTenant({ tenantId: principal.tenantId }, async (tx) =>
        findRecord(tx, requestId, principal.projectId),
      );
      if (stored !== null) return parseStored(stored);
    }
    throw new AppError(
      'not_found',
      'There is no such request, or it has not ended yet. One that was refused for what is wrong with the call itself (its body, its key) leaves no record.',
      { param: 'id' },
    );
  }

  async function list(query: RequestsQuery, principal: TenantPrincipal): Promise<RequestCompletedV1[]> {
    const filter = filterOf(query, principal);
    const pending = journal.pendingOf(principal.tenantId).filter((record) => passes(filter, record));
    const stored = await db.withTenant({ tenantId: principal.tenantId }, async (tx) =>
      listRecords(tx, filter, query.limit + 1),
    );
    return merge(pending, stored.map(parseStored)).slice(0, query.limit + 1);
  }

  return [
    tenantRoute(readRequest, async (input, principal) => ({
      status: 200,
      body: explain(await read(input.params.id, principal)),
    })),
    tenantRoute(listRequests, async (input, principal) => ({
      status: 200,
      body: pageOf((await list(input.query, principal)).map(explain), input.query.limit, (item) => item.id),
    })),
  ];
}
