import { type RawBuilder, sql } from 'kysely';
import type { OperatorHandle, SystemHandle, TenantHandle } from '#db';
import { uuidTimeMs } from '#kernel';

interface EntryRow {
  readonly entry_id: string;
  readonly occurred_at: Date;
  readonly actor_type: string;
  readonly actor_role: string | null;
  readonly member_id: string | null;
  readonly token_id: string | null;
  readonly end_user: string | null;
  readonly action: string;
  readonly resource_type: string | null;
  readonly resource_id: string | null;
  readonly outcome: 'succeeded' | 'denied';
  readonly times: number;
  /** JSON text. */
  readonly before: string | null;
  readonly after: string | null;
  readonly client_address: string | null;
  readonly user_agent: string | null;
  readonly request_id: string | null;
}

export interface OwnRow extends EntryRow {
  readonly actor_id: string | null;
}

export interface OperatorRow extends EntryRow {
  readonly actor_id: string;
  readonly tenant_id: string | null;
  readonly reason: string | null;
}

/** Each member narrows; null leaves it open. */
export interface AuditFilter {
  readonly from: Date | null;
  readonly to: Date | null;
  readonly actor: string | null;
  readonly member: string | null;
  readonly action: string | null;
  readonly resourceType: string | null;
  readonly resourceId: string | null;
  readonly outcome: 'succeeded' | 'denied' | null;
}

export interface AuditPage {
  /** UUID text of the entry behind which the page begins. */
  readonly after: string | null;
  readonly limit: number;
}

const columns = sql`entry_id, occurred_at, actor_type, actor_id, actor_role, action, resource_type, resource_id, outcome,
  times, before, after, client_address, user_agent, request_id`;
const tokenColumns = sql`member_id, token_id, end_user`;

/** An entry's id and its time come from two readings of one clock, microseconds apart. */
const slackMs = 1_000;

/**
 * A page and one more of a tenant's entries, newest first. By the primary key, or by audit_entries_by_actor, _by_action,
 * _by_resource or _denied, merged over the months that the times leave; row security leaves these usable, since uuid, text
 * and timestamptz compare by leakproof functions.
 */
export async function selectOwnEntries(
  tx: TenantHandle,
  tenantId: string,
  filter: AuditFilter,
  page: AuditPage,
): Promise<readonly OwnRow[]> {
  const { rows } = await ownEntriesQuery(tenantId, filter, page).execute(tx);
  return rows;
}

/** Exported for the test that reads its plan. */
export function ownEntriesQuery(
  tenantId: string,
  filter: AuditFilter,
  { after, limit }: AuditPage,
): RawBuilder<OwnRow> {
  return sql<OwnRow>`
    select ${columns}, ${tokenColumns} from tenant.audit_entries
    where ${all([sql`tenant_id = ${tenantId}::uuid`, ...memberCondition(filter), ...conditionsOf(filter, after)])}
    order by entry_id desc limit ${limit + 1}
  `;
}

/**
 * The same over all tenants and the operator's own: two lists, each by an index of its own, merged. Without a tenant or
 * another filter of an index, tenants' entries are walked by audit_entries_by_age, what was denied by
 * audit_entries_denied_by_age.
 */
export async function selectEntries(
  tx: OperatorHandle | SystemHandle,
  tenantId: string | null,
  filter: AuditFilter,
  { after, limit }: AuditPage,
): Promise<readonly OperatorRow[]> {
  const conditions = [
    ...(tenantId === null ? [] : [sql`tenant_id = ${tenantId}::uuid`]),
    ...conditionsOf(filter, after),
  ];
  const { rows } = await sql<OperatorRow>`
    select * from (
      (select ${columns}, null::text as member_id, null::text as token_id, null::text as end_user, tenant_id, reason
        from platform.operator_audit_entries
        where ${all([filter.member === null ? sql`true` : sql`false`, ...conditions])} order by entry_id desc limit ${limit + 1})
      union all
      (select ${columns}, ${tokenColumns}, tenant_id, null from tenant.audit_entries
        where ${all([sql`not is_copy`, ...memberCondition(filter), ...conditions])} order by entry_id desc limit ${limit + 1})
    ) entries
    order by entry_id desc limit ${limit + 1}
  `.execute(tx);
  return rows;
}

function all(conditions: readonly RawBuilder<unknown>[]): RawBuilder<unknown> {
  return sql.join([...conditions], sql` and `);
}

/** Only tenants have members. */
function memberCondition({ member }: AuditFilter): RawBuilder<unknown>[] {
  return member === null ? [] : [sql`member_id = ${member}`];
}

/** Times narrow the months (`occurred_at`) and the range of the index (`entry_id`). */
function conditionsOf(filter: AuditFilter, after: string | null): RawBuilder<unknown>[] {
  const { from, to, actor, action, resourceType, resourceId, outcome } = filter;
  const conditions: RawBuilder<unknown>[] = [];
  if (after !== null) {
    const latest = new Date(Math.min(uuidTimeMs(after) + slackMs, endOfTime));
    conditions.push(sql`entry_id < ${after}::uuid and occurred_at < ${latest}::timestamptz`);
  }
  if (from !== null) {
    const floor = idFloor(from.getTime() - slackMs);
    conditions.push(sql`occurred_at >= ${from}::timestamptz and entry_id >= ${floor}::uuid`);
  }
  if (to !== null) {
    conditions.push(sql`occurred_at < ${to}::timestamptz and entry_id < ${idFloor(to.getTime())}::uuid`);
  }
  if (actor !== null) conditions.push(sql`actor_id = ${actor}`);
  if (action !== null) conditions.push(sql`action = ${action}`);
  if (resourceType !== null) conditions.push(sql`resource_type = ${resourceType}`);
  if (resourceId !== null) conditions.push(sql`resource_id = ${resourceId}`);
  if (outcome === 'denied') conditions.push(sql`outcome = 'denied' and outcome <> 'succeeded'`);
  if (outcome === 'succeeded') conditions.push(sql`outcome = 'succeeded'`);
  return conditions;
}

const largestMs = 2 ** 48 - 1;
/** An id may name a time whose year has five digits, which a timestamp's text has not. */
const endOfTime = Date.UTC(9999, 11, 31);

/** The smallest UUIDv7 of a time. */
function idFloor(ms: number): string {
  const hex = Math.min(Math.max(ms, 0), largestMs).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
}

export interface DeniedValues {
  readonly tenantId: string | null;
  readonly actorType: string;
  readonly actorId: string;
  readonly actorRole: string | null;
  readonly memberId: string | null;
  readonly tokenId: string | null;
  readonly endUser: string | null;
  readonly action: string;
  /** What was called, or why a key was refused. */
  readonly about: { readonly type: string; readonly id: string };
  readonly times: number;
  readonly clientAddress: string | null;
  readonly userAgent: string | null;
  readonly requestId: string | null;
}

/** Claims older than this are nobody's any more; a minute's are made within it. */
const claimedForMinutes = 10;

/**
 * Claims the present minute, by the database's clock, for each digest, and answers those that nobody had claimed. Holds until
 * the transaction ends; in one order, so that two processes never wait for each other in a ring. By primary key.
 */
export async function claimMinute(
  tx: SystemHandle,
  digests: readonly string[],
): Promise<ReadonlySet<string>> {
  await sql`
    delete from platform.denied_minutes where minute < statement_timestamp() - ${claimedForMinutes} * interval '1 minute'
  `.execute(tx);
  const { rows } = await sql<{ digest: string }>`
    insert into platform.denied_minutes (minute, digest)
    select date_trunc('minute', statement_timestamp()), digest from unnest(${digests}::text[]) as claimed (digest)
    order by digest
    on conflict do nothing
    returning digest
  `.execute(tx);
  return new Set(rows.map(({ digest }) => digest));
}

/** Milliseconds until the next minute of the database's clock begins. */
export async function untilNextMinute(tx: SystemHandle): Promise<number> {
  const { rows } = await sql<{ ms: number }>`
    select (extract(epoch from date_trunc('minute', statement_timestamp()) + interval '1 minute' - statement_timestamp())
      * 1000)::integer as ms
  `.execute(tx);
  return rows[0]?.ms ?? 60_000;
}

/** Denied acts, one entry each: those of tenants into theirs, those of operators into the operator's. */
export async function insertDenied(tx: SystemHandle, denied: readonly DeniedValues[]): Promise<void> {
  const tenants = denied.filter(({ tenantId }) => tenantId !== null);
  const operators = denied.filter(({ tenantId }) => tenantId === null);
  if (tenants.length > 0) {
    await sql`
      insert into tenant.audit_entries
        (tenant_id, actor_type, actor_id, actor_role, member_id, token_id, end_user, action, resource_type, resource_id, outcome,
         times, client_address, user_agent, request_id)
      select tenant_id, actor_type, actor_id, actor_role, member_id, token_id, end_user, action, about_type, about_id, 'denied', times,
        client_address, user_agent, request_id
      from ${deniedRows(tenants)}
    `.execute(tx);
  }
  if (operators.length > 0) {
    await sql`
      insert into platform.operator_audit_entries
        (actor_type, actor_id, actor_role, action, resource_type, resource_id, outcome, times,
         client_address, user_agent, request_id, reason)
      select actor_type, actor_id, actor_role, action, about_type, about_id, 'denied', times,
        client_address, user_agent, request_id, 'denied: ' || about_id
      from ${deniedRows(operators)}
    `.execute(tx);
  }
}

function deniedRows(denied: readonly DeniedValues[]): RawBuilder<unknown> {
  const texts = (valueOf: (one: DeniedValues) => string | number | null) => denied.map(valueOf);
  return sql`unnest(
    ${texts((one) => one.tenantId)}::uuid[], ${texts((one) => one.actorType)}::text[],
    ${texts((one) => one.actorId)}::text[], ${texts((one) => one.actorRole)}::text[],
    ${texts((one) => one.action)}::text[], ${texts((one) => one.about.type)}::text[],
    ${texts((one) => one.about.id)}::text[],
    ${texts((one) => one.times)}::integer[], ${texts((one) => one.clientAddress)}::text[],
    ${texts((one) => one.userAgent)}::text[], ${texts((one) => one.requestId)}::text[],
    ${texts((one) => one.memberId)}::text[], ${texts((one) => one.tokenId)}::text[],
    ${texts((one) => one.endUser)}::text[]
  ) as denied (tenant_id, actor_type, actor_id, actor_role, action, about_type, about_id, times, client_address, user_agent,
    request_id, member_id, token_id, end_user)`;
}

interface CountRow {
  readonly count: number;
}

/** Makes the months of the audit from the present one to the third after it. Answers how many were made. */
export async function makeMonths(tx: SystemHandle): Promise<number> {
  const { rows } = await sql<CountRow>`select platform.make_audit_months(now()) as count`.execute(tx);
  return rows[0]?.count ?? 0;
}

/** Drops the months that ended `months` months ago. Answers how many were dropped. */
export async function dropMonths(tx: SystemHandle, months: number): Promise<number> {
  const { rows } = await sql<CountRow>`
    select platform.drop_audit_months(${months}::integer) as count
  `.execute(tx);
  return rows[0]?.count ?? 0;
}
