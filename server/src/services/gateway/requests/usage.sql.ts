import type { UsageGroup } from '@stoa/contracts';
import type { TenantHandle } from '#db';
import { type RawBuilder, sql } from 'kysely';

/** What narrows a sum; ids are UUID text, null where a filter is not set. */
export interface UsageFilter {
  readonly fromId: string;
  readonly beforeId: string;
  /** Target, or what was asked for where none was tried. */
  readonly model: string | null;
  readonly keyId: string | null;
  readonly projectId: string | null;
  readonly endUser: string | null;
  /** Requests to leave out, because they are counted elsewhere. */
  readonly exceptIds: readonly string[];
}

/** The sums of one group. `keys` are the values of the groups asked for, in their order. Money is null without a price. */
export interface UsageSums {
  readonly keys: readonly (string | null)[];
  readonly requests: bigint;
  readonly failed: bigint;
  readonly refused: bigint;
  readonly unpriced: bigint;
  readonly estimated: bigint;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly cachedInputTokens: bigint;
  readonly cacheWriteTokens: bigint;
  readonly reasoningTokens: bigint;
  readonly inputAudioTokens: bigint;
  readonly outputAudioTokens: bigint;
  readonly costFemto: bigint | null;
  readonly chargeFemto: bigint | null;
}

interface SumRow {
  readonly keys: readonly (string | null)[];
  readonly requests: bigint;
  readonly failed: bigint;
  readonly refused: bigint;
  readonly unpriced: bigint;
  readonly estimated: bigint;
  readonly input_tokens: string;
  readonly output_tokens: string;
  readonly cached_input_tokens: string;
  readonly cache_write_tokens: string;
  readonly reasoning_tokens: string;
  readonly input_audio_tokens: string;
  readonly output_audio_tokens: string;
  readonly cost_femto: string | null;
  readonly charge_femto: string | null;
}

const groupColumns: Readonly<Record<UsageGroup, RawBuilder<unknown>>> = {
  day: sql`day::text`,
  model: sql`coalesce(target, requested_model)`,
  key: sql`key_id`,
  project: sql`project_id`,
  end_user: sql`end_user`,
};

/**
 * Sums by group, at most `limit` groups in no order. Reads every usage row of the tenant within the ids, by the primary
 * key of the months that they touch: about a microsecond for each row.
 */
export function sumQuery(
  groups: readonly UsageGroup[],
  filter: UsageFilter,
  limit: number,
): RawBuilder<SumRow> {
  const columns = sql.join(groups.map((group) => groupColumns[group]));
  return sql<SumRow>`
    select array[${columns}]::text[] as keys,
      count(*) as requests,
      count(*) filter (where outcome = 'failed') as failed,
      count(*) filter (where outcome = 'refused') as refused,
      count(*) filter (where not is_priced and outcome <> 'refused') as unpriced,
      count(*) filter (where is_estimated and outcome <> 'refused') as estimated,
      sum(input_tokens)::text as input_tokens, sum(output_tokens)::text as output_tokens,
      sum(cached_input_tokens)::text as cached_input_tokens, sum(cache_write_tokens)::text as cache_write_tokens,
      sum(reasoning_tokens)::text as reasoning_tokens, sum(input_audio_tokens)::text as input_audio_tokens,
      sum(output_audio_tokens)::text as output_audio_tokens,
      sum(cost_femto)::text as cost_femto, sum(charge_femto)::text as charge_femto
    from tenant.usage_records
    where ${conditions(filter)}
    group by 1
    limit ${limit}`;
}

/** What `sumQuery` finds, as integers. */
export async function sumUsage(
  tx: TenantHandle,
  groups: readonly UsageGroup[],
  filter: UsageFilter,
  limit: number,
): Promise<UsageSums[]> {
  const { rows } = await sumQuery(groups, filter, limit).execute(tx);
  return rows.map(sumsOf);
}

function conditions(filter: UsageFilter): RawBuilder<unknown> {
  const parts: RawBuilder<unknown>[] = [
    sql`request_id >= ${filter.fromId}::uuid`,
    sql`request_id < ${filter.beforeId}::uuid`,
  ];
  if (filter.model !== null) parts.push(sql`coalesce(target, requested_model) = ${filter.model}`);
  if (filter.keyId !== null) parts.push(sql`key_id = ${filter.keyId}`);
  if (filter.projectId !== null) parts.push(sql`project_id = ${filter.projectId}`);
  if (filter.endUser !== null) parts.push(sql`end_user = ${filter.endUser}`);
  if (filter.exceptIds.length > 0) parts.push(sql`request_id <> all(${[...filter.exceptIds]}::uuid[])`);
  return sql.join(parts, sql` and `);
}

function sumsOf(row: SumRow): UsageSums {
  return {
    keys: row.keys,
    requests: row.requests,
    failed: row.failed,
    refused: row.refused,
    unpriced: row.unpriced,
    estimated: row.estimated,
    inputTokens: BigInt(row.input_tokens),
    outputTokens: BigInt(row.output_tokens),
    cachedInputTokens: BigInt(row.cached_input_tokens),
    cacheWriteTokens: BigInt(row.cache_write_tokens),
    reasoningTokens: BigInt(row.reasoning_tokens),
    inputAudioTokens: BigInt(row.input_audio_tokens),
    outputAudioTokens: BigInt(row.output_audio_tokens),
    costFemto: row.cost_femto === null ? null : BigInt(row.cost_femto),
    chargeFemto: row.charge_femto === null ? null : BigInt(row.charge_femto),
  };
}
