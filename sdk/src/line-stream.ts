import type { z } from 'zod';
import { parsedJson, StoaError } from './error.ts';

/** A longer line is taken for a server that is none of ours. In UTF-16 units. */
const maximumLineLength = 4 * 1024 * 1024;

/**
 * The values of an answer in lines of JSON, each checked, read as they are taken; leaving the loop ends the call. An answer
 * that is cut off throws.
 * @param open makes the call, when the first value is asked for
 */
export async function* linesOf<Schema extends z.ZodType>(
  open: () => Promise<Response>,
  schema: Schema,
  translate: <Result>(step: () => Promise<Result>) => Promise<Result>,
): AsyncGenerator<z.output<Schema>> {
  const answer = await open();
  const body: ReadableStream<Uint8Array> | null = answer.body;
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await translate(() => reader.read());
      if (done) break;
      const lines = `${rest}${decoder.decode(value, { stream: true })}`.split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > maximumLineLength) throw unreadable(answer);
      for (const line of lines) yield valueIn(line, schema, answer);
    }
    if (rest !== '') throw unreadable(answer);
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function valueIn<Schema extends z.ZodType>(line: string, schema: Schema, answer: Response): z.output<Schema> {
  const checked = schema.safeParse(parsedJson(line));
  if (checked.success) return checked.data;
  throw unreadable(answer);
}

function unreadable(answer: Response): StoaError {
  return new StoaError({
    status: answer.status,
    code: 'unexpected_answer',
    message: 'A line of the answer cannot be read.',
    requestId: answer.headers.get('x-request-id'),
  });
}
