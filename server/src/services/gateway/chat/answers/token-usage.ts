import type { Usage } from '@stoa/contracts';
import { isJsonObject, type JsonObject } from '../intake/fields.ts';

/**
 * The usage that a provider told, in Stoa's kinds; null where it told none that can be read. The kinds within a total
 * are never larger than it.
 *
 * Cached input is named in three ways in the field: OpenAI's `prompt_tokens_details.cached_tokens`, Anthropic's
 * `cache_read_input_tokens`, DeepSeek's `prompt_cache_hit_tokens`. Writes to a cache likewise.
 */
export function readUsage(value: unknown): Usage | null {
  if (!isJsonObject(value)) return null;
  const input = count(value, 'prompt_tokens');
  if (input === null) return null;
  const output =
    count(value, 'completion_tokens') ?? Math.max(0, (count(value, 'total_tokens') ?? input) - input);
  const prompt = detailsOf(value, 'prompt_tokens_details');
  const completion = detailsOf(value, 'completion_tokens_details');
  const cached =
    count(prompt, 'cached_tokens') ??
    count(value, 'cache_read_input_tokens') ??
    count(value, 'prompt_cache_hit_tokens') ??
    0;
  const written =
    count(prompt, 'cache_creation_tokens') ??
    count(prompt, 'cache_write_tokens') ??
    count(value, 'cache_creation_input_tokens') ??
    0;
  return {
    input_tokens: input,
    output_tokens: output,
    cached_input_tokens: Math.min(cached, input),
    cache_write_tokens: Math.min(written, input - Math.min(cached, input)),
    reasoning_tokens: Math.min(count(completion, 'reasoning_tokens') ?? 0, output),
    input_audio_tokens: Math.min(count(prompt, 'audio_tokens') ?? 0, input),
    output_audio_tokens: Math.min(count(completion, 'audio_tokens') ?? 0, output),
    // Our own engines say so where they have no tokenizer; OpenAI's protocol has no such member.
    estimated: value['estimated'] === true,
  };
}

/** Usage that nobody told: the likely counts, marked as such. */
export function estimatedUsage(inputTokens: number, outputTokens: number): Usage {
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cached_input_tokens: 0,
    cache_write_tokens: 0,
    reasoning_tokens: 0,
    input_audio_tokens: 0,
    output_audio_tokens: 0,
    estimated: true,
  };
}

/** Of a request that no provider worked on. */
export const noUsage: Usage = { ...estimatedUsage(0, 0), estimated: false };

/**
 * Of a call that was given up before anything of its answer was delivered: nothing is charged, and what the provider takes
 * for it nobody told.
 */
export const undeliveredUsage: Usage = estimatedUsage(0, 0);

const nothing: JsonObject = {};

function detailsOf(value: JsonObject, name: string): JsonObject {
  const details = value[name];
  return isJsonObject(details) ? details : nothing;
}

function count(value: JsonObject, name: string): number | null {
  const found = value[name];
  return typeof found === 'number' && Number.isSafeInteger(found) && found >= 0 ? found : null;
}
