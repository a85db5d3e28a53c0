import {
  readUsage,
  type UsageGroup,
  usageGroups,
  type UsageQuery,
  type UsageReport,
  type UsageRow,
} from '@stoa/contracts';
import type { Database } from '#db';
import { type JsonRoute, tenantRoute } from '#http';
import { AppError, type Clock, pageOf, type TenantPrincipal } from '#kernel';
import { lowestIdAt, visibleProject } from './requests.ts';
import type { Journal } from '../types.ts';
import { sumUsage, type UsageFilter, type UsageSums } from './usage.sql.ts';
import { add, dateOf, isCounted, keyOf, nothing, sumsOfRecord, totalsOf } from './usage-sums.ts';

export interface UsageDeps {
  readonly db: Database;
  readonly journal: Pick<Journal, 'pendingOf'>;
  readonly clock: Clock;
}

const dayMs = 86_400_000;
const defaultDays = 30;
/** Of the calendar, so that no statement reads more than what is kept. */
const mostDays = 400;
/** Groups of one report; more than that are asked for in parts. */
const mostGroups = 20_000;
const sumDeadlineMs = 20_000;

interface Period {
  readonly from: string;
  readonly to: string;
  readonly fromMs: number;
  readonly endMs: number;
}

function periodOf(query: UsageQuery, nowMs: number): Period {
  const to = query.to ?? dateOf(nowMs);
  const endMs = Date.parse(to) + dayMs;
  const from = query.from ?? dateOf(endMs - defaultDays * dayMs);
  const fromMs = Date.parse(from);
  if (fromMs >= endMs)
    throw new AppError('invalid_request', '`from` must not be after `to`.', { param: 'from' });
  if (endMs - fromMs > mostDays * dayMs) {
    throw new AppError('invalid_request', `A report covers at most ${mostDays} days.`, { param: 'from' });
  }
  return { from, to, fromMs, endMs };
}

function groupsOf(query: UsageQuery): readonly UsageGroup[] {
  const names = new Set(query.group_by.split(','));
  return usageGroups.filter((group) => names.has(group));
}

function rowId(keys: readonly (string | null)[]): string {
  return Buffer.from(JSON.stringify(keys)).toString('base64url');
}

function rowOf(sums: UsageSums, groups: readonly UsageGroup[]): UsageRow {
  const valueOf = (group: UsageGroup): string | null => sums.keys[groups.indexOf(group)] ?? null;
  return {
    id: rowId(sums.keys),
    ...(groups.includes('day') ? { day: valueOf('day') ?? '' } : {}),
    ...(groups.includes('model') ? { model: valueOf('model') ?? '' } : {}),
    ...(groups.includes('key') ? { key_id: valueOf('key') ?? '' } : {}),
    ...(groups.includes('project') ? { project_id: valueOf('project') } : {}),
    ...(groups.includes('end_user') ? { end_user: valueOf('end_user') } : {}),
    ...totalsOf(sums),
  };
}

function compareText(left: string | null, right: string | null): number {
  if (left === right) return 0;
  if (left === null) return 1;
  if (right === null) return -1;
  return left < right ? -1 : 1;
}

/** Days newest first, all else in the order of its text, null last. */
function compareKeys(left: UsageSums, right: UsageSums, groups: readonly UsageGroup[]): number {
  for (const [index, group] of groups.entries()) {
    const order = compareText(left.keys[index] ?? null, right.keys[index] ?? null);
    if (order !== 0) return group === 'day' ? -order : order;
  }
  return 0;
}

function pageAfter(sorted: readonly UsageSums[], after: string | undefined): readonly UsageSums[] {
  if (after === undefined) return sorted;
  const index = sorted.findIndex((sums) => rowId(sums.keys) === after);
  if (index === -1)
    throw new AppError('invalid_request', '`after` names no group of this report.', { param: 'after' });
  return sorted.slice(index + 1);
}

/** The sums of all groups: of the database, and of what waits in this process's journal. */
async function groupSums(
  deps: UsageDeps,
  filterWithout: Omit<UsageFilter, 'exceptIds'>,
  groups: readonly UsageGroup[],
  principal: TenantPrincipal,
): Promise<readonly UsageSums[]> {
  const pending = deps.journal.pendingOf(principal.tenantId);
  const filter = { ...filterWithout, exceptIds: pending.map((record) => record.request_id) };
  const stored = await deps.db.withTenant(
    { tenantId: principal.tenantId },
    async (tx) => sumUsage(tx, groups, filter, mostGroups + 1),
    { deadlineMs: sumDeadlineMs },
  );
  const byKeys = new Map(stored.map((sums) => [rowId(sums.keys), sums]));
  for (const record of pending) {
    if (!isCounted(record, filter)) continue;
    const keys = groups.map((group) => keyOf(record, group));
    const id = rowId(keys);
    const known = byKeys.get(id);
    const own = sumsOfRecord(record, keys);
    byKeys.set(id, known === undefined ? own : add(known, own));
  }
  if (byKeys.size <= mostGroups) return [...byKeys.values()];
  throw new AppError('invalid_request', `The report has more than ${mostGroups} groups; narrow it.`, {
    param: 'group_by',
  });
}

/**
 * The report on usage. Exact: sums are integers throughout. What this process has settled and not written yet is taken
 * from the journal first and left out of the database's sum, so that nothing is counted twice or missed in between.
 */
export function createUsageRoutes(deps: UsageDeps): readonly JsonRoute[] {
  async function report(query: UsageQuery, principal: TenantPrincipal): Promise<UsageReport> {
    const nowMs = deps.clock.now();
    const period = periodOf(query, nowMs);
    const groups = groupsOf(query);
    const filter = {
      fromId: lowestIdAt(period.fromMs),
      beforeId: lowestIdAt(period.endMs),
      model: query.model ?? null,
      keyId: query.key_id ?? null,
      projectId: visibleProject(principal, query.project_id),
      endUser: query.end_user ?? null,
    };
    const sums = await groupSums(deps, filter, groups, principal);
    const sorted = sums.toSorted((left, right) => compareKeys(left, right, groups));
    const found = pageAfter(sorted, query.after).slice(0, query.limit + 1);
    const page = pageOf(
      found.map((group) => rowOf(group, groups)),
      query.limit,
      (row) => row.id,
    );
    return {
      ...page,
      data: [...page.data],
      from: period.from,
      to: period.to,
      currency: 'USD',
      totals: totalsOf(sums.reduce(add, nothing)),
      as_of: new Date(nowMs).toISOString(),
    };
  }

  return [
    tenantRoute(readUsage, async (input, principal) => ({
      status: 200,
      body: await report(input.query, principal),
    })),
  ];
}
