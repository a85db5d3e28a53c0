import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { z } from 'zod';

/**
 * An OpenAI-compatible provider that says back what it was told: the text of the last message as its answer, and the hash
 * of the whole body, byte for byte, as its fingerprint. So a test sees what came through to a provider and what came back
 * without matching calls to requests.
 */
export interface EchoUpstream {
  /** With its `/v1`. */
  readonly url: string;
  /** Chats that arrived so far. */
  readonly callCount: number;
  close(): Promise<void>;
}

/** The one model that it lists. */
export const echoModel = 'echo';

const asked = z.looseObject({
  stream: z.boolean().nullish(),
  messages: z.array(z.looseObject({ content: z.unknown() })),
});

/** What `fingerprint` in an answer is for these bytes. */
export function fingerprintOf(body: string | Buffer): string {
  return createHash('sha256').update(body).digest('hex');
}

/** Listens on a free port of the loopback. */
export async function startEchoUpstream(): Promise<EchoUpstream> {
  let callCount = 0;
  const server = createServer((request, response) => {
    if (request.method === 'GET') {
      sendJson(response, {
        object: 'list',
        data: [{ id: echoModel, object: 'model', created: 1, owned_by: 'x' }],
      });
      return;
    }
    callCount += 1;
    answer(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: `http://127.0.0.1:${address.port}/v1`,
    get callCount() {
      return callCount;
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  await once(request, 'end');
  const body = Buffer.concat(parts);
  const { stream, messages } = asked.parse(JSON.parse(body.toString()));
  const said = messages.at(-1)?.content;
  const content = typeof said === 'string' ? said : '';
  const common = { id: 'chatcmpl-1', created: 1, model: echoModel, system_fingerprint: fingerprintOf(body) };
  if (stream !== true) {
    const choice = { index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' };
    sendJson(response, { ...common, object: 'chat.completion', choices: [choice], usage });
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  for (const delta of [{ role: 'assistant', content: '' }, { content }, {}]) {
    const finish = 'content' in delta ? null : 'stop';
    const choice = { index: 0, delta, finish_reason: finish };
    const chunk = { ...common, object: 'chat.completion.chunk', choices: [choice] };
    response.write(`data: ${JSON.stringify(chunk)}\n\n`);
  }
  response.end('data: [DONE]\n\n');
}

const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };

function sendJson(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
