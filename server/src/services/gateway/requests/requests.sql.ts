import type { TenantHandle } from '#db';
import { type RawBuilder, sql } from 'kysely';

interface RecordRow {
  readonly record: string;
}

/** What narrows a list of requests; ids are UUID text, null where a filter is not set. */
export interface RequestFilter {
  /** Ids at or above it. */
  readonly fromId: string | null;
  /** Ids below it. */
  readonly beforeId: string | null;
  readonly model: string | null;
  readonly target: string | null;
  readonly outcome: string | null;
  readonly keyId: string | null;
  readonly projectId: string | null;
  readonly endUser: string | null;
}

/** Text of the record of one request. By the primary key, in the one partition of its month. */
export function recordQuery(requestId: string, projectId: string | null): RawBuilder<RecordRow> {
  return sql<RecordRow>`
    select record from tenant.requests
    where request_id = ${requestId}::uuid and (${projectId}::text is null or project_id = ${projectId})`;
}

/** The record of a request as JSON, or null where this tenant (and project, where given) has none. */
export async function findRecord(
  tx: TenantHandle,
  requestId: string,
  projectId: string | null,
): Promise<string | null> {
  const { rows } = await recordQuery(requestId, projectId).execute(tx);
  return rows[0]?.record ?? null;
}

/**
 * Texts of the records that a filter lets through, newest first. Walks, newest month first and only as far as `limit`
 * asks, the primary key or the index of the narrowest filter: requests_by_key, _by_target, _by_project, _by_end_user,
 * _by_fault. `model` alone has no index: it is compared row by row.
 */
export function recordsQuery(filter: RequestFilter, limit: number): RawBuilder<RecordRow> {
  return sql<RecordRow>`
    select record from tenant.requests
    where ${conditions(filter)}
    order by request_id desc
    limit ${limit}`;
}

/** The records that a filter lets through as JSON, newest first. */
export async function listRecords(tx: TenantHandle, filter: RequestFilter, limit: number): Promise<string[]> {
  const { rows } = await recordsQuery(filter, limit).execute(tx);
  return rows.map((row) => row.record);
}

function conditions(filter: RequestFilter): RawBuilder<unknown> {
  const parts: RawBuilder<unknown>[] = [sql`true`];
  if (filter.fromId !== null) parts.push(sql`request_id >= ${filter.fromId}::uuid`);
  if (filter.beforeId !== null) parts.push(sql`request_id < ${filter.beforeId}::uuid`);
  const equal: readonly (readonly [string, string | null])[] = [
    ['requested_model', filter.model],
    ['target', filter.target],
    ['outcome', filter.outcome],
    ['key_id', filter.keyId],
    ['project_id', filter.projectId],
    ['end_user', filter.endUser],
  ];
  for (const [column, value] of equal) {
    if (value !== null) parts.push(sql`${sql.ref(column)} = ${value}`);
  }
  return sql.join(parts, sql` and `);
}
