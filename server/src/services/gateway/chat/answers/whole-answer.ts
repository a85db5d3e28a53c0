import { isUtf8 } from 'node:buffer';
import type { Usage } from '@stoa/contracts';
import { type ModelOperation, type ProviderFault, providerFault } from '#models';
import { isJsonObject, type JsonObject } from '../intake/fields.ts';
import { estimateTokens } from '../intake/input-bounds.ts';
import { readUsage } from './token-usage.ts';

/** Largest answer in one piece. */
export const maximumAnswerBytes = 64 * 1024 * 1024;

export interface CheckedAnswer {
  /** As the provider sent it. */
  readonly body: Buffer;
  readonly json: JsonObject;
  /** Null where the provider told none. */
  readonly usage: Usage | null;
}

/**
 * Checks the outer shape of an answer in one piece: JSON in UTF-8 with `choices` of messages, or `data` of vectors.
 * A provider that answers 200 with anything else is at fault.
 */
export function checkAnswer(operation: ModelOperation, body: Buffer): CheckedAnswer | ProviderFault {
  if (body.length === 0) return providerFault('empty', 'the answer has no body');
  if (!isUtf8(body)) return providerFault('unreadable', 'the answer is not valid UTF-8');
  let json: unknown;
  try {
    json = JSON.parse(body.toString());
  } catch {
    return providerFault('unreadable', 'the answer is not valid JSON');
  }
  if (!isJsonObject(json)) return providerFault('unreadable', 'the answer is not a JSON object');
  const hasContent = operation === 'embeddings' ? hasVectors(json['data']) : hasMessages(json['choices']);
  if (hasContent) return { body, json, usage: readUsage(json['usage']) };
  if ((json['error'] ?? null) !== null)
    return providerFault('error_frame', 'the answer of 200 is an error object');
  const missing = operation === 'embeddings' ? 'data' : 'choices';
  return providerFault('unreadable', `the answer has no ${missing}`);
}

function hasMessages(choices: unknown): boolean {
  if (!Array.isArray(choices) || choices.length === 0) return false;
  const list: readonly unknown[] = choices;
  return list.every((choice) => isJsonObject(choice) && isJsonObject(choice['message']));
}

function hasVectors(data: unknown): boolean {
  if (!Array.isArray(data) || data.length === 0) return false;
  const list: readonly unknown[] = data;
  return list.every((item) => isJsonObject(item) && isVector(item['embedding']));
}

/** A list of numbers or base64, not empty: an empty vector is what a misread encoding looks like. */
function isVector(embedding: unknown): boolean {
  return (typeof embedding === 'string' || Array.isArray(embedding)) && embedding.length > 0;
}

/** The likely output tokens of a chat answer without usage, from the bytes of its texts and tool calls. */
export function estimateOutputTokens(json: JsonObject): number {
  const choices: unknown = json['choices'];
  if (!Array.isArray(choices)) return 0;
  const list: readonly unknown[] = choices;
  let bytes = 0;
  for (const choice of list) {
    if (!isJsonObject(choice) || !isJsonObject(choice['message'])) continue;
    const { content, tool_calls: toolCalls } = choice['message'];
    if (typeof content === 'string') bytes += Buffer.byteLength(content);
    if (Array.isArray(toolCalls)) bytes += JSON.stringify(toolCalls).length;
  }
  return estimateTokens(bytes);
}
