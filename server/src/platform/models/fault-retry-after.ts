import type { OutboundHeaders } from '#http';

/** A provider that asks for more is taken at its word for a day only. */
const MAX_RETRY_AFTER_MS = 86_400_000;
/** Go's notation, as OpenAI and its imitators write resets: `6m0s`, `1.5s`, `120ms`. */
const DURATION = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?$/;
const RATE_LIMIT_KINDS = ['requests', 'tokens', 'input-tokens', 'output-tokens'] as const;

function first(headers: OutboundHeaders, name: string): string | null {
  const value = headers[name];
  if (value === undefined) return null;
  return (typeof value === 'string' ? value : (value[0] ?? '')).trim();
}

function bounded(ms: number): number | null {
  if (!Number.isFinite(ms) || ms < 0) return null;
  return Math.min(Math.ceil(ms), MAX_RETRY_AFTER_MS);
}

function durationMs(text: string): number | null {
  const match = DURATION.exec(text);
  if (match === null || text === '') return null;
  const [, hours = '0', minutes = '0', seconds = '0', milliseconds = '0'] = match;
  return (
    Number(hours) * 3_600_000 + Number(minutes) * 60_000 + Number(seconds) * 1_000 + Number(milliseconds)
  );
}

/** A header in seconds (a fraction is allowed) or as an HTTP date. */
function secondsOrDate(text: string, nowMs: number): number | null {
  if (/^\d+(\.\d+)?$/.test(text)) return bounded(Number(text) * 1_000);
  // Only dates that name their month, so that a number with a sign is not read as a year.
  const at = /[a-z]{3}/i.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? null : bounded(Math.max(0, at - nowMs));
}

/** The longest wait of the limits that are used up: only those say when a call can succeed. */
function resetOfSpentLimits(headers: OutboundHeaders, nowMs: number): number | null {
  let longest: number | null = null;
  for (const kind of RATE_LIMIT_KINDS) {
    const openAi = first(headers, `x-ratelimit-remaining-${kind}`) === '0';
    const anthropic = first(headers, `anthropic-ratelimit-${kind}-remaining`) === '0';
    let ms: number | null = null;
    if (openAi) ms = durationMs(first(headers, `x-ratelimit-reset-${kind}`) ?? '');
    else if (anthropic) ms = Date.parse(first(headers, `anthropic-ratelimit-${kind}-reset`) ?? '') - nowMs;
    const wait = ms === null ? null : bounded(Math.max(0, ms));
    if (wait !== null && (longest === null || wait > longest)) longest = wait;
  }
  return longest;
}

/**
 * How long a provider asks to be left alone, in whole milliseconds from now, 0 to a day; null where it does not say or
 * where the status has no such meaning. Read in this order: `retry-after-ms`, `retry-after` (seconds or a date), then on
 * 429 only the reset of those rate limits whose remainder is 0 (OpenAI's durations, Anthropic's dates). A bare number
 * in a reset header is left out: providers mean seconds, milliseconds and Unix times by it.
 */
export function retryAfterMs(status: number, headers: OutboundHeaders, nowMs: number): number | null {
  if (status !== 429 && status < 500) return null;
  const milliseconds = first(headers, 'retry-after-ms');
  if (milliseconds !== null && /^\d+(\.\d+)?$/.test(milliseconds)) return bounded(Number(milliseconds));
  const retryAfter = first(headers, 'retry-after');
  const asked = retryAfter === null ? null : secondsOrDate(retryAfter, nowMs);
  if (asked !== null || status !== 429) return asked;
  return resetOfSpentLimits(headers, nowMs);
}
