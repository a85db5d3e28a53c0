/**
 * A chat completion's body as a body of the Messages API. What both have is translated; what only OpenAI has is refused
 * where leaving it out would change the answer's meaning (`n`, log probabilities, penalties, schema-less JSON mode), and
 * left out where it is a hint (`seed`, `store`, `service_tier`, `prediction`, cache keys).
 */
import { isList, listOf, member, textOf } from '../json-member.ts';
import type { Target } from '../types.ts';
import { translateMessages } from './messages.ts';
import { refuseInvalid, refuseUnsupported, Untranslatable } from './refusal.ts';

/** The Messages API demands a limit; this stands where neither the request nor the target names one. */
const DEFAULT_OUTPUT_TOKENS = 4_096;

export type Translation =
  | { readonly outcome: 'translated'; readonly body: Buffer }
  | { readonly outcome: 'refused'; readonly code: string; readonly param: string; readonly message: string };

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function numberOf(json: unknown, name: string): number | null {
  const value = member(json, name);
  if (!isSet(value)) return null;
  return typeof value === 'number' && Number.isFinite(value)
    ? value
    : refuseInvalid(name, `${name} is a number.`);
}

/** Parameters without a counterpart: each may only have the value that changes nothing. */
function refuseWhatHasNoCounterpart(json: unknown): void {
  const count = numberOf(json, 'n');
  if (count !== null && count !== 1) refuseUnsupported('n', 'The target gives one choice per request.');
  if (member(json, 'logprobs') === true || isSet(member(json, 'top_logprobs'))) {
    refuseUnsupported('logprobs', 'The target gives no log probabilities.');
  }
  for (const name of ['frequency_penalty', 'presence_penalty']) {
    if ((numberOf(json, name) ?? 0) !== 0) refuseUnsupported(name, 'The target has no penalties.');
  }
  const bias = member(json, 'logit_bias');
  if (typeof bias === 'object' && bias !== null && Object.keys(bias).length > 0) {
    refuseUnsupported('logit_bias', 'The target has no logit bias.');
  }
  for (const name of ['functions', 'function_call']) {
    if (isSet(member(json, name))) refuseUnsupported(name, 'Use tools and tool_choice instead.');
  }
  for (const name of ['audio', 'web_search_options']) {
    if (isSet(member(json, name))) refuseUnsupported(name, 'The target does not support this parameter.');
  }
  if (listOf(json, 'modalities').some((modality) => modality !== 'text')) {
    refuseUnsupported('modalities', 'The target answers with text only.');
  }
}

function outputLimit(json: unknown, target: Target): number {
  for (const name of ['max_completion_tokens', 'max_tokens']) {
    const limit = numberOf(json, name);
    if (limit === null) continue;
    return Number.isSafeInteger(limit) && limit >= 1
      ? limit
      : refuseInvalid(name, `${name} is a whole number from 1.`);
  }
  return target.maxOutputTokens ?? DEFAULT_OUTPUT_TOKENS;
}

/** 1 is both APIs' default and left out: newer models refuse to be told any other. OpenAI's range ends at 2, this at 1. */
function sampling(json: unknown): object {
  const temperature = numberOf(json, 'temperature');
  const topP = numberOf(json, 'top_p');
  const clamped = temperature === null ? 1 : Math.min(1, Math.max(0, temperature));
  return {
    ...(clamped === 1 ? {} : { temperature: clamped }),
    ...(topP === null || topP === 1 ? {} : { top_p: topP }),
  };
}

function stopSequences(json: unknown): object {
  const stop = member(json, 'stop');
  if (!isSet(stop)) return {};
  const list: readonly unknown[] = isList(stop) ? stop : [stop];
  const sequences = list.map((value) =>
    typeof value === 'string' ? value : refuseInvalid('stop', 'stop is a text or a list of texts.'),
  );
  return sequences.length === 0 ? {} : { stop_sequences: sequences };
}

function toolOf(tool: unknown, param: string): object {
  if (textOf(tool, 'type') !== 'function')
    refuseUnsupported(`${param}.type`, 'The target has function tools only.');
  const declared = member(tool, 'function');
  const name = textOf(declared, 'name') ?? refuseInvalid(`${param}.function.name`, 'A tool needs a name.');
  const description = textOf(declared, 'description');
  const parameters = member(declared, 'parameters');
  return {
    name,
    ...(description === null ? {} : { description }),
    input_schema: isSet(parameters) ? parameters : { type: 'object', properties: {} },
    ...(member(declared, 'strict') === true ? { strict: true } : {}),
  };
}

function toolChoice(json: unknown): { readonly type: string; readonly name?: string } | null {
  const choice = member(json, 'tool_choice');
  if (!isSet(choice)) return null;
  if (choice === 'auto' || choice === 'none') return { type: choice };
  if (choice === 'required') return { type: 'any' };
  const name = textOf(member(choice, 'function'), 'name');
  if (textOf(choice, 'type') === 'function' && name !== null) return { type: 'tool', name };
  return refuseUnsupported('tool_choice', 'The target knows auto, none, required and one named function.');
}

function tools(json: unknown): object {
  const declared = listOf(json, 'tools');
  const choice = toolChoice(json);
  if (declared.length === 0) {
    if (choice === null || choice.type === 'auto' || choice.type === 'none') return {};
    return refuseInvalid('tool_choice', 'tool_choice names a tool, but there are no tools.');
  }
  const isOneAtATime = member(json, 'parallel_tool_calls') === false && choice?.type !== 'none';
  const chosen = choice ?? (isOneAtATime ? { type: 'auto' } : null);
  return {
    tools: declared.map((tool, index) => toolOf(tool, `tools[${index}]`)),
    ...(chosen === null
      ? {}
      : { tool_choice: isOneAtATime ? { ...chosen, disable_parallel_tool_use: true } : chosen }),
  };
}

function outputFormat(json: unknown): object | null {
  const format = member(json, 'response_format');
  const type = textOf(format, 'type');
  if (!isSet(format) || type === 'text') return null;
  if (type !== 'json_schema') {
    return refuseUnsupported('response_format', 'The target takes JSON with a schema only: use json_schema.');
  }
  const schema = member(member(format, 'json_schema'), 'schema');
  if (typeof schema !== 'object' || schema === null) {
    return refuseInvalid('response_format.json_schema.schema', 'A schema is needed.');
  }
  return { type: 'json_schema', schema };
}

const efforts: Readonly<Record<string, string>> = {
  minimal: 'low',
  low: 'low',
  medium: 'medium',
  high: 'high',
  xhigh: 'xhigh',
  max: 'max',
};

function outputConfig(json: unknown): object {
  const format = outputFormat(json);
  const asked = textOf(json, 'reasoning_effort');
  const effort =
    asked === null || asked === 'none'
      ? null
      : (efforts[asked] ?? refuseInvalid('reasoning_effort', 'Unknown effort.'));
  const config = { ...(format === null ? {} : { format }), ...(effort === null ? {} : { effort }) };
  return {
    ...(Object.keys(config).length === 0 ? {} : { output_config: config }),
    ...(asked === 'none' ? { thinking: { type: 'disabled' } } : {}),
  };
}

function endUser(json: unknown): object {
  const user = textOf(json, 'user') ?? textOf(json, 'safety_identifier');
  return user === null || user === '' ? {} : { metadata: { user_id: user } };
}

function translate(json: unknown, target: Target, stream: boolean): object {
  refuseWhatHasNoCounterpart(json);
  const { system, turns } = translateMessages(member(json, 'messages'));
  return {
    model: target.model,
    max_tokens: outputLimit(json, target),
    ...(stream ? { stream: true } : {}),
    ...(system.length === 0 ? {} : { system }),
    messages: turns,
    ...sampling(json),
    ...stopSequences(json),
    ...tools(json),
    ...outputConfig(json),
    ...endUser(json),
  };
}

/**
 * Translates the body that the gateway made for this target.
 * @param body JSON in OpenAI's format; its `model` is not read, the target's is taken
 */
export function translateRequest(body: Buffer, target: Target, stream: boolean): Translation {
  try {
    const json: unknown = JSON.parse(body.toString('utf8'));
    return { outcome: 'translated', body: Buffer.from(JSON.stringify(translate(json, target, stream))) };
  } catch (error) {
    if (error instanceof Untranslatable) {
      return { outcome: 'refused', code: error.code, param: error.param, message: error.message };
    }
    if (error instanceof SyntaxError) {
      return {
        outcome: 'refused',
        code: 'invalid_json',
        param: 'body',
        message: 'The body is not valid JSON.',
      };
    }
    throw error;
  }
}
