import { request } from 'undici';

/** A chat whose answer arrives as server-sent events, read as it comes. */
export interface StreamedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** All that came so far. */
  text(): string;
  /** Waits until `part` has come; rejects where the answer ends without it. */
  until(part: string): Promise<void>;
  /** Waits for the end and returns all of it; a connection that broke rejects. */
  whole(): Promise<string>;
  /** Goes away in the middle. */
  hangUp(): void;
}

/** Sends a chat with `stream: true`; resolves when the head of its answer is there. */
export async function streamChat(
  baseUrl: string,
  apiKey: string,
  body: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<StreamedAnswer> {
  const answer = await request(`${baseUrl}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ messages: [{ role: 'user', content: 'Hello' }], ...body, stream: true }),
  });
  let text = '';
  let onMore = (): void => undefined;
  const ended = new Promise<string>((resolve, reject) => {
    answer.body.setEncoding('utf8');
    answer.body.on('data', (part: string) => {
      text += part;
      onMore();
    });
    answer.body.once('end', () => resolve(text));
    answer.body.once('error', reject);
  });
  ended.catch(() => undefined);
  return {
    status: answer.statusCode,
    headers: answer.headers,
    text: () => text,
    async until(part) {
      const seen = new Promise<void>((resolve) => {
        onMore = () => {
          if (text.includes(part)) resolve();
        };
        onMore();
      });
      const missed = ended.then(() => {
        if (!text.includes(part)) throw new Error(`the stream ended without ${part}: ${text.slice(-500)}`);
      });
      await Promise.race([seen, missed]);
    },
    whole: () => ended,
    hangUp: () => {
      answer.body.destroy();
    },
  };
}

/** The payloads of the `data:` lines of a stream, comments left out. */
export function dataOf(stream: string): string[] {
  return stream
    .split('\n\n')
    .filter((frame) => frame.startsWith('data: '))
    .map((frame) => frame.slice('data: '.length));
}
