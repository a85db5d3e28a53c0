import { isList, listOf, member, textOf } from '../json-member.ts';
import { type Block, contentBlocks, textBlocks } from './content.ts';
import { refuseInvalid, refuseUnsupported } from './refusal.ts';

export interface Turn {
  readonly role: 'user' | 'assistant';
  readonly content: Block[];
}

export interface Conversation {
  /** Everything that system and developer messages say, in order, wherever they stood. */
  readonly system: readonly Block[];
  /** Alternating roles: messages of one role in a row are one turn, as tool results must be. */
  readonly turns: readonly Turn[];
}

/** Ids of calls go both ways, so the same replacement on both sides keeps them matched. */
function callId(id: string): string {
  return id.replaceAll(/[^\w-]/g, '_');
}

function parsedArguments(text: string, param: string): object {
  if (text.trim() === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuseInvalid(param, 'The arguments of a tool call are a JSON object in a text.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuseInvalid(param, 'The arguments of a tool call are a JSON object in a text.');
  }
  return value;
}

function toolUseBlock(call: unknown, param: string): Block {
  const type = textOf(call, 'type') ?? 'function';
  if (type !== 'function') refuseUnsupported(`${param}.type`, 'The target has function tools only.');
  const id = textOf(call, 'id') ?? refuseInvalid(`${param}.id`, 'A tool call needs an id.');
  const called = member(call, 'function');
  const name = textOf(called, 'name') ?? refuseInvalid(`${param}.function.name`, 'A tool call needs a name.');
  const input = parsedArguments(textOf(called, 'arguments') ?? '', `${param}.function.arguments`);
  return { type: 'tool_use', id: callId(id), name, input };
}

function assistantBlocks(message: unknown, param: string): Block[] {
  if (member(message, 'function_call') !== undefined && member(message, 'function_call') !== null) {
    refuseUnsupported(`${param}.function_call`, 'Use tool_calls instead of function_call.');
  }
  const calls = listOf(message, 'tool_calls');
  return [
    ...contentBlocks(member(message, 'content'), `${param}.content`, false),
    ...textBlocks(textOf(message, 'refusal') ?? ''),
    ...calls.map((call, index) => toolUseBlock(call, `${param}.tool_calls[${index}]`)),
  ];
}

function toolResultBlock(message: unknown, param: string): Block {
  const id =
    textOf(message, 'tool_call_id') ??
    refuseInvalid(`${param}.tool_call_id`, 'A tool message needs the id of its call.');
  const content = contentBlocks(member(message, 'content'), `${param}.content`, true);
  return { type: 'tool_result', tool_use_id: callId(id), ...(content.length === 0 ? {} : { content }) };
}

function addTo(turns: Turn[], role: Turn['role'], blocks: readonly Block[]): void {
  if (blocks.length === 0) return;
  const last = turns.at(-1);
  if (last?.role === role) last.content.push(...blocks);
  else turns.push({ role, content: [...blocks] });
}

/** An assistant's last turn is continued by the model; the Messages API refuses it with white space at its end. */
function withoutTrailingSpace(turns: readonly Turn[]): void {
  const last = turns.at(-1);
  const block = last?.role === 'assistant' ? last.content.at(-1) : undefined;
  const text = textOf(block, 'text');
  if (last === undefined || text === null) return;
  last.content.splice(-1, 1, ...textBlocks(text.trimEnd(), block));
}

/** @throws Untranslatable where a message has no counterpart */
export function translateMessages(messages: unknown): Conversation {
  if (!isList(messages)) return refuseInvalid('messages', 'messages is a list.');
  const system: Block[] = [];
  const turns: Turn[] = [];
  for (const [index, message] of messages.entries()) {
    const param = `messages[${index}]`;
    const content = member(message, 'content');
    const role = textOf(message, 'role');
    if (role === 'system' || role === 'developer')
      system.push(...contentBlocks(content, `${param}.content`, false));
    else if (role === 'user') addTo(turns, 'user', contentBlocks(content, `${param}.content`, true));
    else if (role === 'assistant') addTo(turns, 'assistant', assistantBlocks(message, param));
    else if (role === 'tool') addTo(turns, 'user', [toolResultBlock(message, param)]);
    else
      refuseUnsupported(
        `${param}.role`,
        'The target knows the roles system, developer, user, assistant and tool.',
      );
  }
  withoutTrailingSpace(turns);
  if (turns.length === 0) refuseInvalid('messages', 'The target needs at least one message of a user.');
  return { system, turns };
}
