import { randomUUID } from 'node:crypto';

/** Why an answer ended, in OpenAI's words. */
export type FinishReason = 'stop' | 'length' | 'tool_calls';

/** Writes one answer in OpenAI's wire format, for the engines that live in this process. */
export interface ChatFrames {
  /** The first frame of a stream. */
  role(): Buffer;
  content(text: string): Buffer;
  /** Any delta, such as one of tool calls. */
  delta(delta: Readonly<Record<string, unknown>>): Buffer;
  /** The frame with the finish reason; `extra` joins the chunk's own members. */
  finish(reason: FinishReason, extra?: Readonly<Record<string, unknown>>): Buffer;
  /** The frame after it, with empty `choices`. */
  usage(usage: object): Buffer;
  /** `data: [DONE]`. */
  done(): Buffer;
  /** The whole answer as one JSON body. */
  whole(
    message: Readonly<Record<string, unknown>>,
    reason: FinishReason,
    usage: object | null,
    extra?: Readonly<Record<string, unknown>>,
  ): Buffer;
}

/** @param nowMs wall-clock milliseconds, for `created` */
export function chatFrames(model: string, nowMs: number): ChatFrames {
  const id = `chatcmpl-${randomUUID().replaceAll('-', '')}`;
  const created = Math.floor(nowMs / 1000);
  const frame = (choices: unknown, extra: object = {}): Buffer =>
    Buffer.from(
      `data: ${JSON.stringify({ id, object: 'chat.completion.chunk', created, model, choices, ...extra })}\n\n`,
    );
  const delta = (value: object): Buffer => frame([{ index: 0, delta: value, finish_reason: null }]);
  return {
    role: () => delta({ role: 'assistant', content: '' }),
    content: (text) => delta({ content: text }),
    delta,
    finish: (reason, extra) => frame([{ index: 0, delta: {}, finish_reason: reason }], extra),
    usage: (usage) => frame([], { usage }),
    done: () => Buffer.from('data: [DONE]\n\n'),
    whole: (message, reason, usage, extra = {}) =>
      Buffer.from(
        JSON.stringify({
          id,
          object: 'chat.completion',
          created,
          model,
          choices: [{ index: 0, message: { role: 'assistant', ...message }, finish_reason: reason }],
          ...(usage === null ? {} : { usage }),
          ...extra,
        }),
      ),
  };
}

/** Tokens as bytes over four, rounded up: the estimate of an engine that has no tokenizer. */
export function estimateTokens(bytes: number): number {
  return Math.ceil(bytes / 4);
}

/** The text of the last message of role `user`; empty where there is none. Images and other parts are passed over. */
export function lastUserText(json: Readonly<Record<string, unknown>>): string {
  const messages: unknown = json['messages'];
  if (!Array.isArray(messages)) return '';
  const last: unknown = messages.findLast((message) => isRecord(message) && message['role'] === 'user');
  if (!isRecord(last)) return '';
  const content = last['content'];
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  return content
    .flatMap((part: unknown) => (isRecord(part) && typeof part['text'] === 'string' ? [part['text']] : []))
    .join('\n');
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
