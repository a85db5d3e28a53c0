import { countOf, listOf, member, textOf } from '../json-member.ts';

const finishReasons: Readonly<Record<string, string>> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  pause_turn: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  tool_use: 'tool_calls',
  refusal: 'content_filter',
};

/** OpenAI's word for a stop reason; one that is not known is a `stop`, since the answer is complete. */
export function finishReasonOf(stopReason: string | null): string {
  return (stopReason === null ? undefined : finishReasons[stopReason]) ?? 'stop';
}

/** What a stream's events have told of usage; later ones are totals and replace earlier ones. */
export interface UsageCounts {
  input: number;
  cacheRead: number;
  cacheCreation: number;
  output: number;
  thinking: number | null;
}

export function noUsage(): UsageCounts {
  return { input: 0, cacheRead: 0, cacheCreation: 0, output: 0, thinking: null };
}

/** Takes over every count that `usage` names; what it leaves out or has as null stays. */
export function readUsage(counts: UsageCounts, usage: unknown): void {
  counts.input = countOf(usage, 'input_tokens') ?? counts.input;
  counts.cacheRead = countOf(usage, 'cache_read_input_tokens') ?? counts.cacheRead;
  counts.cacheCreation = countOf(usage, 'cache_creation_input_tokens') ?? counts.cacheCreation;
  counts.output = countOf(usage, 'output_tokens') ?? counts.output;
  counts.thinking = countOf(member(usage, 'output_tokens_details'), 'thinking_tokens') ?? counts.thinking;
}

/**
 * OpenAI's usage. Its prompt tokens are all of the input, of which cached ones are a part; Anthropic counts the three
 * kinds apart. Tokens written to the cache, for which OpenAI has no name, are `cache_creation_tokens`.
 */
export function openAiUsage(counts: UsageCounts): object {
  const prompt = counts.input + counts.cacheRead + counts.cacheCreation;
  return {
    prompt_tokens: prompt,
    completion_tokens: counts.output,
    total_tokens: prompt + counts.output,
    prompt_tokens_details: { cached_tokens: counts.cacheRead, cache_creation_tokens: counts.cacheCreation },
    ...(counts.thinking === null ? {} : { completion_tokens_details: { reasoning_tokens: counts.thinking } }),
  };
}

function joined(blocks: readonly unknown[], type: string, field: string): string | null {
  const texts = blocks
    .filter((block) => textOf(block, 'type') === type)
    .map((block) => textOf(block, field) ?? '');
  return texts.length === 0 ? null : texts.join('');
}

function toolCalls(blocks: readonly unknown[]): object[] {
  return blocks
    .filter((block) => textOf(block, 'type') === 'tool_use')
    .map((block) => ({
      id: textOf(block, 'id') ?? '',
      type: 'function',
      function: {
        name: textOf(block, 'name') ?? '',
        arguments: JSON.stringify(member(block, 'input') ?? {}),
      },
    }));
}

/**
 * A message as a chat completion; null where `json` is no message.
 * @param createdAt Unix seconds
 */
export function translateAnswer(json: unknown, createdAt: number): object | null {
  if (textOf(json, 'type') !== 'message') return null;
  const blocks = listOf(json, 'content');
  const calls = toolCalls(blocks);
  const thinking = joined(blocks, 'thinking', 'thinking');
  const text = joined(blocks, 'text', 'text');
  const usage = noUsage();
  readUsage(usage, member(json, 'usage'));
  const message = {
    role: 'assistant',
    content: text ?? (calls.length > 0 ? null : ''),
    refusal: null,
    ...(thinking === null || thinking === '' ? {} : { reasoning_content: thinking }),
    ...(calls.length === 0 ? {} : { tool_calls: calls }),
  };
  return {
    id: textOf(json, 'id') ?? '',
    object: 'chat.completion',
    created: createdAt,
    model: textOf(json, 'model') ?? '',
    choices: [
      { index: 0, message, logprobs: null, finish_reason: finishReasonOf(textOf(json, 'stop_reason')) },
    ],
    usage: openAiUsage(usage),
  };
}
