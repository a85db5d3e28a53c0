import type { RequestCompletedV1 } from '@stoa/contracts';
import { uuidTimeMs } from '#kernel';

const dayMs = 86_400_000;
let lastDay = Number.NaN;
let lastDayText = '';

/** The UTC day of an id's time. Requests of one day share the work. */
function dayOf(requestId: string): string {
  const day = Math.floor(uuidTimeMs(requestId) / dayMs);
  if (day !== lastDay) {
    lastDayText = new Date(day * dayMs).toISOString().slice(0, 10);
    lastDay = day;
  }
  return lastDayText;
}

/** What a field of a composite value may hold without quotes. */
const plain = /^[\w.:/-]+$/;

function field(text: string | null): string {
  if (text === null || plain.test(text)) return text ?? '';
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '""')}"`;
}

function tagsField(tags: Readonly<Record<string, string>>): string {
  for (const name in tags) if (Object.hasOwn(tags, name)) return field(JSON.stringify(tags));
  return '{}';
}

/** Of the request's trace and, as its span, its own id: the span itself is known to the tracer alone. */
function traceparentOf(record: RequestCompletedV1): string {
  const { trace_id: traceId, request_id: requestId } = record;
  if (traceId.length !== 32) return '';
  return field(`00-${traceId}-${requestId.slice(19, 23)}${requestId.slice(24)}-00`);
}

/**
 * A record as the text of one `platform.settled_row`, on one line; about a microsecond. Null where a text in it holds a
 * line end, a NUL or a lone surrogate: such a record goes the long way, from its JSON.
 */
export function settledRow(record: RequestCompletedV1): string | null {
  const { usage, price } = record;
  const row =
    `(${record.tenant_id},${record.request_id},${dayOf(record.request_id)},` +
    `${field(record.key_id)},${field(record.project_id)},${field(record.end_user)},${tagsField(record.tags)},` +
    `${record.endpoint},${field(record.requested_model)},` +
    `${field(record.attempts.at(-1)?.target ?? record.decision?.target ?? null)},${record.outcome},` +
    `${usage.input_tokens},${usage.output_tokens},${usage.cached_input_tokens},${usage.cache_write_tokens},` +
    `${usage.reasoning_tokens},${usage.input_audio_tokens},${usage.output_audio_tokens},${usage.estimated},` +
    `${record.priced},${record.cost_femto ?? ''},${record.charge_femto ?? ''},${field(record.price_version)},` +
    `${field(price?.hash ?? null)},${field(price?.tier ?? null)},${field(price?.unit ?? null)},` +
    `${record.completed_at},${traceparentOf(record)})`;
  // What can't be stored is refused by the long way, with its name.
  return row.includes('\n') || row.includes('\0') || !row.isWellFormed() ? null : row;
}
