import {
  invalid,
  isJsonObject,
  type JsonObject,
  optionalBoolean,
  optionalInteger,
  optionalObject,
  optionalText,
  readTags,
  requiredModel,
} from './fields.ts';
import { addMedia, inputTokens, type MediaTokens, noMedia } from './input-bounds.ts';
import type { Intake } from './intake.ts';
import { nameSet } from './member-scan.ts';
import { readObjectBody } from './request-body.ts';

/** Every member that Stoa acts on; repeated ones are refused, since a provider may read the other one. */
const readNames = nameSet([
  'model',
  'messages',
  'stream',
  'stream_options',
  'max_tokens',
  'max_completion_tokens',
  'n',
  'user',
  'metadata',
  'tools',
]);

/**
 * Reads the body of a chat completion.
 * @throws `invalid_encoding`, `invalid_json`, `json_too_deep`, `invalid_request`, `invalid_text`
 */
export function readChatRequest(body: Buffer): Intake {
  const { json, scan } = readObjectBody(body, readNames);
  const model = requiredModel(json);
  const media = readMessages(json);
  const stream = optionalBoolean(json, 'stream') ?? false;
  const streamOptions = optionalObject(json, 'stream_options');
  const tokens = inputTokens(body.length, scan, media);
  checkTools(json);
  return {
    operation: 'chat.completions',
    body,
    json,
    scan,
    model,
    stream,
    isUsageWanted: streamOptions !== null && optionalBoolean(streamOptions, 'include_usage') === true,
    outputLimit: readOutputLimit(json),
    choices: optionalInteger(json, 'n', 1, 128) ?? 1,
    endUser: optionalText(json, 'user', 512),
    tags: readTags(json),
    inputTokensBound: tokens.bound,
    inputTokensEstimate: tokens.estimate,
    encodingFormat: 'float',
  };
}

/** Checks that there are messages with roles; tells what media they hold. */
function readMessages(json: JsonObject): MediaTokens {
  const messages: unknown = json['messages'];
  if (!Array.isArray(messages)) throw invalid('messages', 'The field "messages" must be a list of messages.');
  if (messages.length === 0)
    throw invalid('messages', 'The field "messages" must hold at least one message.');
  const list: readonly unknown[] = messages;
  const media = noMedia();
  for (let index = 0; index < list.length; index += 1) {
    const message = list[index];
    if (!isJsonObject(message)) {
      throw invalid(`messages[${index}]`, `The field "messages[${index}]" must be an object.`);
    }
    if (typeof message['role'] !== 'string') {
      throw invalid(`messages[${index}].role`, `The field "messages[${index}].role" must be text.`);
    }
    const content: unknown = message['content'] ?? '';
    if (typeof content !== 'string' && !Array.isArray(content)) {
      const param = `messages[${index}].content`;
      throw invalid(param, `The field "${param}" must be text or a list of parts.`);
    }
    addMedia(content, media);
  }
  return media;
}

/** Where both spellings are given the larger one bounds the answer. */
function readOutputLimit(json: JsonObject): number | null {
  const older = optionalInteger(json, 'max_tokens', 1);
  const newer = optionalInteger(json, 'max_completion_tokens', 1);
  if (older === null || newer === null) return older ?? newer;
  return Math.max(older, newer);
}

function checkTools(json: JsonObject): void {
  const tools: unknown = json['tools'] ?? null;
  if (tools === null) return;
  if (!Array.isArray(tools)) throw invalid('tools', 'The field "tools" must be a list of tools.');
  const list: readonly unknown[] = tools;
  const wrong = list.findIndex((tool) => !isJsonObject(tool));
  if (wrong !== -1) throw invalid(`tools[${wrong}]`, `The field "tools[${wrong}]" must be an object.`);
}
