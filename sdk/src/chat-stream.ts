import { chatCompletionChunk } from '@stoa/contracts';
import type { z } from 'zod';
import { errorOfFrame, parsedJson, StoaError } from './error.ts';

export type ChatCompletionChunk = z.output<typeof chatCompletionChunk>;

/**
 * A running answer. It can be read once, by `for await` over its frames or over `text()`; leaving the loop cancels the
 * request, and what was delivered until then is billed. It ends when the server said that it is whole; an error inside
 * the stream, and an end without that word, throw a `StoaError`.
 */
export interface ChatStream extends AsyncIterable<ChatCompletionChunk> {
  /** The id to ask an explanation with. */
  readonly requestId: string | null;
  /** Which target answers. */
  readonly target: string | null;
  /** Only the text of the first choice, piece by piece. */
  text(): AsyncIterable<string>;
}

/** A frame longer than this is taken for a server that is none of ours. In UTF-16 units. */
const maximumFrameLength = 16 * 1024 * 1024;

export function createChatStream(
  answer: Response,
  names: { readonly requestId: string | null; readonly target: string | null },
  translate: <Result>(step: () => Promise<Result>) => Promise<Result>,
): ChatStream {
  let isTaken = false;
  async function* frames(): AsyncGenerator<ChatCompletionChunk> {
    if (isTaken) throw interrupted('The answer was read already; it can be read once.', names.requestId);
    isTaken = true;
    for await (const data of eventData(answer, translate)) {
      if (data === '[DONE]') return;
      const frame = parsedJson(data);
      const error = errorOfFrame(frame, names.requestId);
      if (error !== null) throw error;
      const chunk = chatCompletionChunk.safeParse(frame);
      if (!chunk.success) throw interrupted('A frame of the answer cannot be read.', names.requestId);
      yield chunk.data;
    }
    throw interrupted('The answer ended before it was whole.', names.requestId);
  }
  return {
    ...names,
    [Symbol.asyncIterator]: frames,
    async *text() {
      for await (const chunk of frames()) {
        const content = chunk.choices?.find((choice) => choice.index === 0)?.delta?.content;
        if (typeof content === 'string' && content !== '') yield content;
      }
    },
  };
}

function interrupted(message: string, requestId: string | null): StoaError {
  return new StoaError({ status: null, code: 'stream_interrupted', message, requestId });
}

/** The `data` of each server-sent event. Comments and other fields are passed over; leaving early cancels the body. */
async function* eventData(
  answer: Response,
  translate: <Result>(step: () => Promise<Result>) => Promise<Result>,
): AsyncGenerator<string> {
  const body: ReadableStream<Uint8Array> | null = answer.body;
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await translate(() => reader.read());
      if (done) return;
      const lines = `${rest}${decoder.decode(value, { stream: true })}`.split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maximumFrameLength) throw interrupted('A frame of the answer is too long.', null);
      for (const line of lines.map((raw) => (raw.endsWith('\r') ? raw.slice(0, -1) : raw))) {
        if (line.startsWith('data:')) data.push(line.slice(line.startsWith('data: ') ? 6 : 5));
        else if (line === '' && data.length > 0) {
          yield data.join('\n');
          data = [];
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
