import type { RequestCompletedV1, UsageGroup, UsageTotals } from '@stoa/contracts';
import { type Femto, femtoToDecimal, uuidTimeMs } from '#kernel';
import { targetOf } from './requests.ts';
import type { UsageFilter, UsageSums } from './usage.sql.ts';

/**
 * The arithmetic of the usage report, for records that are not in the database yet: the same groups, filters and sums
 * as in `usage.sql.ts`, on integers.
 */

/** The day in UTC, `YYYY-MM-DD`. */
export function dateOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** The value by which a record is grouped; as `usage.sql.ts` does it for rows. */
export function keyOf(record: RequestCompletedV1, group: UsageGroup): string | null {
  switch (group) {
    case 'day':
      return dateOf(uuidTimeMs(record.request_id));
    case 'model':
      return targetOf(record) ?? record.requested_model;
    case 'key':
      return record.key_id;
    case 'project':
      return record.project_id;
    case 'end_user':
      return record.end_user;
  }
}

/** Whether a record is within a filter; `exceptIds` is not looked at. */
export function isCounted(record: RequestCompletedV1, filter: UsageFilter): boolean {
  return (
    record.request_id >= filter.fromId &&
    record.request_id < filter.beforeId &&
    (filter.model === null || keyOf(record, 'model') === filter.model) &&
    (filter.keyId === null || record.key_id === filter.keyId) &&
    (filter.projectId === null || record.project_id === filter.projectId) &&
    (filter.endUser === null || record.end_user === filter.endUser)
  );
}

/** The sums of one record. */
export function sumsOfRecord(record: RequestCompletedV1, keys: readonly (string | null)[]): UsageSums {
  const { usage } = record;
  const wasCalled = record.outcome !== 'refused';
  return {
    keys,
    requests: 1n,
    failed: record.outcome === 'failed' ? 1n : 0n,
    refused: wasCalled ? 0n : 1n,
    unpriced: wasCalled && !record.priced ? 1n : 0n,
    estimated: wasCalled && usage.estimated ? 1n : 0n,
    inputTokens: BigInt(usage.input_tokens),
    outputTokens: BigInt(usage.output_tokens),
    cachedInputTokens: BigInt(usage.cached_input_tokens),
    cacheWriteTokens: BigInt(usage.cache_write_tokens),
    reasoningTokens: BigInt(usage.reasoning_tokens),
    inputAudioTokens: BigInt(usage.input_audio_tokens),
    outputAudioTokens: BigInt(usage.output_audio_tokens),
    costFemto: record.cost_femto === null ? null : BigInt(record.cost_femto),
    chargeFemto: record.charge_femto === null ? null : BigInt(record.charge_femto),
  };
}

function addMoney(left: Femto | null, right: Femto | null): Femto | null {
  if (left === null || right === null) return left ?? right;
  return left + right;
}

/** The sums of two groups together; money stays null only where neither has a price. */
export function add(left: UsageSums, right: UsageSums): UsageSums {
  return {
    keys: left.keys,
    requests: left.requests + right.requests,
    failed: left.failed + right.failed,
    refused: left.refused + right.refused,
    unpriced: left.unpriced + right.unpriced,
    estimated: left.estimated + right.estimated,
    inputTokens: left.inputTokens + right.inputTokens,
    outputTokens: left.outputTokens + right.outputTokens,
    cachedInputTokens: left.cachedInputTokens + right.cachedInputTokens,
    cacheWriteTokens: left.cacheWriteTokens + right.cacheWriteTokens,
    reasoningTokens: left.reasoningTokens + right.reasoningTokens,
    inputAudioTokens: left.inputAudioTokens + right.inputAudioTokens,
    outputAudioTokens: left.outputAudioTokens + right.outputAudioTokens,
    costFemto: addMoney(left.costFemto, right.costFemto),
    chargeFemto: addMoney(left.chargeFemto, right.chargeFemto),
  };
}

/** The sums of no request. */
export const nothing: UsageSums = {
  keys: [],
  requests: 0n,
  failed: 0n,
  refused: 0n,
  unpriced: 0n,
  estimated: 0n,
  inputTokens: 0n,
  outputTokens: 0n,
  cachedInputTokens: 0n,
  cacheWriteTokens: 0n,
  reasoningTokens: 0n,
  inputAudioTokens: 0n,
  outputAudioTokens: 0n,
  costFemto: null,
  chargeFemto: null,
};

/** Sums as a caller sees them: money as decimals in USD. */
export function totalsOf(sums: UsageSums): UsageTotals {
  return {
    requests: Number(sums.requests),
    failed_requests: Number(sums.failed),
    refused_requests: Number(sums.refused),
    unpriced_requests: Number(sums.unpriced),
    estimated_requests: Number(sums.estimated),
    input_tokens: Number(sums.inputTokens),
    output_tokens: Number(sums.outputTokens),
    cached_input_tokens: Number(sums.cachedInputTokens),
    cache_write_tokens: Number(sums.cacheWriteTokens),
    reasoning_tokens: Number(sums.reasoningTokens),
    input_audio_tokens: Number(sums.inputAudioTokens),
    output_audio_tokens: Number(sums.outputAudioTokens),
    cost: sums.costFemto === null ? null : femtoToDecimal(sums.costFemto),
    charge: sums.chargeFemto === null ? null : femtoToDecimal(sums.chargeFemto),
  };
}
