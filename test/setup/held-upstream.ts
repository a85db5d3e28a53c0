import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

function frame(content: string): string {
  const choice = { index: 0, delta: { content }, finish_reason: null };
  const chunk = {
    id: 'chatcmpl-1',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'held',
    choices: [choice],
  };
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
const last = {
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'held',
  choices: [],
  usage,
};

/** An OpenAI-compatible provider with one model, `held`, whose streams stand still after a word until released. */
export class HeldUpstream {
  readonly #server: Server;
  readonly #held: ServerResponse[] = [];

  constructor() {
    this.#server = createServer((request, response) => {
      if (request.method === 'GET') {
        response.setHeader('content-type', 'application/json');
        response.end(
          JSON.stringify({
            object: 'list',
            data: [{ id: 'held', object: 'model', created: 1, owned_by: 'x' }],
          }),
        );
        return;
      }
      request.resume();
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(frame('first'));
      this.#held.push(response);
    });
  }

  /** Listens on a free port; the base URL with its `/v1`. */
  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    const address: AddressInfo | string | null = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    return `http://127.0.0.1:${address.port}/v1`;
  }

  get waiting(): number {
    return this.#held.length;
  }

  /** Sends the rest of every stream. */
  release(): void {
    for (const response of this.#held) {
      response.end(`${frame(' last')}data: ${JSON.stringify(last)}\n\ndata: [DONE]\n\n`);
    }
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
