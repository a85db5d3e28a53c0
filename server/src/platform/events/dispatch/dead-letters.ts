import {
  type DeadLetter,
  type DeadLetterSummary,
  discardDeadLetters,
  listDeadLetters,
  listOwnDeadLetters,
  type OwnDeadLetter,
  readDeadLetter,
  readOwnDeadLetter,
  redriveDeadLetters,
} from '@stoa/contracts';
import type { z } from 'zod';
import type { Database, OperatorContext, OperatorHandle } from '#db';
import type { JsonRoute, RequestContext } from '#http';
import {
  actingOperator,
  AppError,
  fromTypeId,
  type OperatorPrincipal,
  pageOf,
  type TenantPrincipal,
  toTypeId,
} from '#kernel';
import {
  countFollowers,
  countLetters,
  type DeadLetterRow,
  discardLetters,
  jumpGaps,
  letterLimit,
  type LetterFilter,
  redriveLetters,
  selectLetter,
  selectLetters,
  selectUnknown,
} from './dead-letters.sql.ts';
import { shownData } from '../shown-data.ts';
import type { DeliveryState } from './deliveries.sql.ts';
import type { RouteMakers } from './route-makers.ts';

export interface DeadLetterDeps {
  readonly db: Database;
  readonly http: RouteMakers;
  /** Letters were made due, or what waited for them. */
  readonly onChanged: () => void;
}

type Choice = Omit<z.output<NonNullable<typeof listDeadLetters.query>>, 'after' | 'limit'> & {
  readonly ids?: readonly string[] | undefined;
};

const gone: readonly DeliveryState[] = ['dead', 'parked'];

export function deadLetterRoutes(deps: DeadLetterDeps): JsonRoute[] {
  return [...operatorRoutes(deps), redriveRoute(deps), discardRoute(deps), ...ownRoutes(deps)];
}

function operatorRoutes({ db, http }: DeadLetterDeps): JsonRoute[] {
  return [
    http.operatorRoute(listDeadLetters, async ({ query }, principal, context) => {
      const filter = filterOf(query, query.state === undefined ? gone : [query.state]);
      const page = {
        after: query.after === undefined ? null : idOf(query.after, 'after'),
        limit: query.limit,
      };
      const rows = await db.withOperator(by(principal, context), 'dead-letters.list', (tx) =>
        selectLetters(tx, filter, page),
      );
      return { status: 200, body: pageOf(rows.map(summaryOf), query.limit, ({ id }) => id) };
    }),
    http.operatorRoute(readDeadLetter, async ({ params }, principal, context) => {
      const id = idOf(params.id, 'id');
      const body = await db.withOperator(
        by(principal, context),
        `dead-letters.read ${params.id}`,
        async (tx) => {
          const row = await selectLetter(tx, id);
          if (row === undefined) throw noSuchLetter();
          return letterOf(row, await countFollowers(tx, row));
        },
      );
      return { status: 200, body };
    }),
  ];
}

function redriveRoute({ db, http, onChanged }: DeadLetterDeps): JsonRoute {
  return http.operatorRoute(redriveDeadLetters, async ({ body }, principal, context) => {
    const movable: LetterFilter = filterOf(body, body.force ? gone : ['dead']);
    const verb = body.dry_run ? 'dead-letters.redrive (dry run)' : 'dead-letters.redrive';
    const reason = `${verb} ${choiceText(body)} at ${body.rate_per_second}/s${body.force ? ', forced' : ''}`;
    const done = await db.withOperator(
      tenantOf(by(principal, context), movable),
      reason,
      async (tx) => {
        await requireLetters(tx, body);
        const found = await countLetters(tx, filterOf(body, gone));
        if (body.dry_run) return { found, redriven: 0 };
        if (body.force) await jumpGaps(tx, movable);
        const tenantIds = await redriveLetters(tx, movable, body.rate_per_second);
        await auditMoved(tx, redriveDeadLetters.id, body, tenantIds);
        return { found, redriven: tenantIds.length };
      },
      { deadlineMs: changeDeadlineMs },
    );
    onChanged();
    const { matched, parked, firstIds } = done.found;
    const left = body.force ? 0 : parked;
    const count = body.dry_run ? Math.min(matched - left, letterLimit) : done.redriven;
    return {
      status: 200,
      body: {
        object: 'redrive',
        dry_run: body.dry_run,
        matched,
        first_ids: firstIds.map((id) => toTypeId('dlt', id)),
        redriven: done.redriven,
        parked: left,
        takes_seconds: Math.max(0, count - 1) / body.rate_per_second,
      },
    };
  });
}

function discardRoute({ db, http, onChanged }: DeadLetterDeps): JsonRoute {
  return http.operatorRoute(discardDeadLetters, async ({ body }, principal, context) => {
    const filter = filterOf(body, gone);
    const verb = body.dry_run ? 'dead-letters.discard (dry run)' : 'dead-letters.discard';
    const done = await db.withOperator(
      tenantOf(by(principal, context), filter),
      `${verb} ${choiceText(body)}: ${body.reason}`,
      async (tx) => {
        await requireLetters(tx, body);
        const found = await countLetters(tx, filter);
        if (body.dry_run) return { found, discarded: 0 };
        const tenantIds = await discardLetters(tx, filter);
        await auditMoved(tx, discardDeadLetters.id, body, tenantIds);
        return { found, discarded: tenantIds.length };
      },
      { deadlineMs: changeDeadlineMs },
    );
    onChanged();
    return {
      status: 200,
      body: {
        object: 'discard',
        dry_run: body.dry_run,
        matched: done.found.matched,
        first_ids: done.found.firstIds.map((id) => toTypeId('dlt', id)),
        discarded: done.discarded,
      },
    };
  });
}

function ownRoutes({ db, http }: DeadLetterDeps): JsonRoute[] {
  return [
    http.tenantRoute(listOwnDeadLetters, async ({ query }, principal) => {
      requireWholeTenant(principal);
      const filter = filterOf(query, query.state === undefined ? gone : [query.state]);
      const page = {
        after: query.after === undefined ? null : idOf(query.after, 'after'),
        limit: query.limit,
      };
      const rows = await db.withTenant({ tenantId: principal.tenantId }, (tx) =>
        selectLetters(tx, filter, page),
      );
      return { status: 200, body: pageOf(rows.map(ownSummaryOf), query.limit, ({ id }) => id) };
    }),
    http.tenantRoute(readOwnDeadLetter, async ({ params }, principal) => {
      requireWholeTenant(principal);
      const id = idOf(params.id, 'id');
      const row = await db.withTenant({ tenantId: principal.tenantId }, (tx) => selectLetter(tx, id));
      if (row === undefined) throw noSuchLetter();
      return { status: 200, body: ownOf(row) };
    }),
  ];
}

/** Ten thousand letters are moved in one transaction. */
const changeDeadlineMs = 30_000;

/** Events belong to no project. */
export function requireWholeTenant(principal: TenantPrincipal): void {
  if (principal.projectId === null) return;
  throw new AppError('permission_denied', "A project's key sees no events of the tenant.");
}

function by(principal: OperatorPrincipal, context: RequestContext): OperatorContext {
  return actingOperator(principal, context);
}

function tenantOf(context: OperatorContext, { tenantId }: LetterFilter): OperatorContext {
  return tenantId === null ? context : { ...context, tenantId };
}

function idOf(id: string, param: string): string {
  const uuid = fromTypeId('dlt', id);
  if (uuid !== null) return uuid;
  throw new AppError('invalid_request', `${param}: must be an id of the form dlt_....`, { param });
}

function noSuchLetter(): AppError {
  return new AppError('not_found', 'There is no such dead letter, or it was handled meanwhile.');
}

/** Whoever names letters means each of them: one that is none ends the call before anything is done. */
async function requireLetters(
  tx: OperatorHandle,
  { ids }: { readonly ids?: readonly string[] | undefined },
): Promise<void> {
  if (ids === undefined) return;
  const unknown = await selectUnknown(
    tx,
    ids.map((id) => idOf(id, 'ids')),
  );
  if (unknown.length === 0) return;
  const named = unknown.map((id) => toTypeId('dlt', id)).join(', ');
  throw new AppError(
    'not_found',
    `No dead or parked letter has the id ${named}: unknown, handled meanwhile, or still tried by itself. Nothing was done.`,
    { param: 'ids' },
  );
}

function filterOf(choice: Partial<Choice>, states: readonly DeliveryState[]): LetterFilter {
  return {
    states,
    ids: choice.ids?.map((id) => idOf(id, 'ids')) ?? null,
    type: choice.type ?? null,
    consumer: choice.consumer ?? null,
    errorCode: choice.error_code ?? null,
    tenantId: choice.tenant_id === undefined ? null : fromTypeId('ten', choice.tenant_id),
    from: choice.from === undefined ? null : new Date(choice.from),
    to: choice.to === undefined ? null : new Date(choice.to),
  };
}

/** Tenants of one call that are told each by an entry of their own; an entry costs a statement. */
const tenantsTold = 200;

/**
 * The entries of a redrive or discard: one for each tenant whose letters were moved, which it sees, without the filter, which
 * may name others. Of more tenants than `tenantsTold`, or of none, one entry for the operator alone, whose reason holds all.
 */
async function auditMoved(
  tx: OperatorHandle,
  action: string,
  { ids }: { readonly ids?: readonly string[] | undefined },
  tenantIds: readonly string[],
): Promise<void> {
  const [only, ...others] = ids ?? [];
  const id = only !== undefined && others.length === 0 ? only : '*';
  const resource = { type: 'dead_letter', id };
  const counts = new Map<string, number>();
  for (const tenantId of tenantIds) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1);
  if (counts.size === 0 || counts.size > tenantsTold) {
    await tx.audit({ action, resource, after: { moved: tenantIds.length, tenants: counts.size } });
    return;
  }
  for (const [tenantId, moved] of counts) await tx.audit({ action, resource, after: { moved }, tenantId });
}

/** The filter in words, for the audit. */
function choiceText(choice: Partial<Choice>): string {
  const parts = (['type', 'consumer', 'error_code', 'tenant_id', 'from', 'to'] as const).flatMap((name) =>
    choice[name] === undefined ? [] : [`${name}=${choice[name]}`],
  );
  const ids = choice.ids === undefined ? [] : [`ids=${choice.ids.slice(0, 20).join(',')}`];
  const more = (choice.ids?.length ?? 0) > 20 ? [`and ${(choice.ids?.length ?? 0) - 20} more`] : [];
  return [...parts, ...ids, ...more].join(' ');
}

function factsOf(row: DeadLetterRow) {
  return {
    id: toTypeId('dlt', row.delivery_id),
    object: 'dead_letter' as const,
    state: row.state,
    consumer: row.consumer,
    attempts: row.total_attempts,
    redrives: row.redrives,
    first_seen_at: row.first_seen_at.toISOString(),
    last_seen_at: row.last_seen_at.toISOString(),
    next_attempt_at: row.next_attempt_at?.toISOString() ?? null,
    held_by: row.held_by === null ? null : toTypeId('dlt', row.held_by),
  };
}

function eventFactsOf(row: DeadLetterRow) {
  return {
    id: row.event_id,
    type: row.type,
    key: row.key,
    keyversion: Number(row.keyversion),
    occurred_at: row.occurred_at.toISOString(),
    causation: row.causation,
    traceparent: row.traceparent,
  };
}

function summaryOf(row: DeadLetterRow): DeadLetterSummary {
  return {
    ...factsOf(row),
    tenant_id: toTypeId('ten', row.tenant_id),
    event: eventFactsOf(row),
    error: row.error_code === null ? null : { code: row.error_code, message: row.error_message ?? '' },
  };
}

function letterOf(row: DeadLetterRow, followers: number): DeadLetter {
  const error = { code: row.error_code ?? '', message: row.error_message ?? '', stack: row.error_stack };
  return {
    ...factsOf(row),
    tenant_id: toTypeId('ten', row.tenant_id),
    event: { ...eventFactsOf(row), data: shownData(row.type, row.data) },
    error: row.error_code === null ? null : error,
    followers,
  };
}

function ownSummaryOf(row: DeadLetterRow) {
  return {
    ...factsOf(row),
    event: eventFactsOf(row),
    error: row.error_code === null ? null : { code: row.error_code, message: row.public_message ?? '' },
  };
}

function ownOf(row: DeadLetterRow): OwnDeadLetter {
  const summary = ownSummaryOf(row);
  return { ...summary, event: { ...summary.event, data: shownData(row.type, row.data) } };
}
