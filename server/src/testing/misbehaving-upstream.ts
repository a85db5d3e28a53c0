/**
 * A real HTTP server on the loopback that speaks OpenAI's protocol, well or badly: the `model` of a request chooses how.
 * It serves the provider's own tests and the gateway's, and remembers every call and whether its caller hung up.
 */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';

/** What a model name (or its entry in `modes`) asks for. `ok:12` streams 12 pieces, `slow:300` waits 300 ms first. */
export const upstreamModes = [
  'ok',
  'ok-embedding',
  'slow',
  'no-usage',
  'no-done',
  'html',
  'broken-json',
  'empty',
  'empty-stream',
  'broken-frame',
  'error-frame',
  'error-first',
  'large-frame',
  'cut',
  'reset',
  'stall',
  'stall-midway',
  'endless',
  'throttle',
  'spent',
  'redirect',
  'gzip',
  'huge-header',
  'huge-body',
  'context-length',
  'leaky',
  'stalled-error',
  'endless-error',
  'cut-error',
  '400',
  '401',
  '403',
  '404',
  '413',
  '422',
  '500',
  '502',
  '503',
] as const;

export type UpstreamMode = (typeof upstreamModes)[number];

export interface UpstreamRequest {
  readonly path: string;
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly bodyText: string;
  readonly model: string;
  readonly mode: string;
  readonly stream: boolean;
  /** True once the caller closed the connection before the answer was complete. */
  isAborted: boolean;
  /** True once the answer was sent whole. */
  isAnswered: boolean;
  /** Bytes of the answer handed to the socket so far. */
  bytesWritten: number;
  /** True while the caller does not read and the socket takes no more. */
  isBlocked: boolean;
}

export interface MisbehavingUpstream {
  /** With its `/v1`. */
  readonly url: string;
  /** Every request so far, oldest first. */
  readonly requests: UpstreamRequest[];
  /** Overrides what a model name means, from the next request on: `modes.set('gpt', '500')`. */
  readonly modes: Map<string, string>;
  /** What `GET /v1/models` lists; null makes it answer 404. */
  listed: readonly string[] | null;
  /** How often the list was asked for. */
  listings: number;
  close(): Promise<void>;
}

/** What the leaky answers hold; none of it may reach a client. */
export const upstreamSecrets = [
  'internal-gpu-7.corp.example',
  '/srv/llm/server.py',
  'sk-live-abcdef0123456789',
  'Traceback',
];

const stackTrace = `Traceback (most recent call last):
  File "/srv/llm/server.py", line 218, in generate
    raise RuntimeError("CUDA out of memory on internal-gpu-7.corp.example:8000")
RuntimeError: key sk-live-abcdef0123456789`;

function piece(model: string, delta: object, finish: string | null): string {
  const choice = { index: 0, delta, finish_reason: finish };
  return `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model, choices: [choice] })}\n\n`;
}

function usageFrame(model: string, pieces: number): string {
  const usage = { prompt_tokens: 9, completion_tokens: pieces, total_tokens: 9 + pieces };
  return `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model, choices: [], usage })}\n\n`;
}

function wholeAnswer(model: string, pieces: number, hasUsage: boolean): string {
  const content = Array.from({ length: pieces }, (_, index) => `w${index} `).join('');
  const usage = { prompt_tokens: 9, completion_tokens: pieces, total_tokens: 9 + pieces };
  return JSON.stringify({
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1,
    model,
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    ...(hasUsage ? { usage } : {}),
  });
}

function embeddings(model: string): string {
  const data = [{ object: 'embedding', index: 0, embedding: [0.25, -0.5, 1] }];
  return JSON.stringify({ object: 'list', model, data, usage: { prompt_tokens: 3, total_tokens: 3 } });
}

function openAiError(message: string, code: string | null, param: string | null = null): string {
  return JSON.stringify({ error: { message, type: 'invalid_request_error', param, code } });
}

interface Asked {
  readonly model: string;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

function readAsked(bodyText: string): Asked {
  let json: unknown;
  try {
    json = JSON.parse(bodyText);
  } catch {
    json = null;
  }
  const read = (value: unknown, name: string): unknown =>
    typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
  const model = read(json, 'model');
  return {
    model: typeof model === 'string' ? model : '',
    stream: read(json, 'stream') === true,
    includeUsage: read(read(json, 'stream_options'), 'include_usage') === true,
  };
}

interface Exchange {
  readonly response: ServerResponse;
  readonly record: UpstreamRequest;
  readonly asked: Asked;
  readonly pieces: number;
}

function sendJson(
  { response }: Exchange,
  status: number,
  body: string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'up-1', ...headers });
  response.end(body);
}

function startStream({ response }: Exchange): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'x-request-id': 'up-1' });
}

/** A good stream's frames without `[DONE]`. */
function frames({ asked, pieces }: Exchange, hasUsage: boolean): string {
  let text = piece(asked.model, { role: 'assistant', content: '' }, null);
  for (let index = 0; index < pieces; index += 1) text += piece(asked.model, { content: `w${index} ` }, null);
  text += piece(asked.model, {}, 'stop');
  return hasUsage ? text + usageFrame(asked.model, pieces) : text;
}

function answerWell(exchange: Exchange, hasUsage: boolean, hasDone: boolean): void {
  const { asked, response, record } = exchange;
  if (record.path.endsWith('/embeddings')) return sendJson(exchange, 200, embeddings(asked.model));
  if (!asked.stream) return sendJson(exchange, 200, wholeAnswer(asked.model, exchange.pieces, hasUsage));
  startStream(exchange);
  response.end(frames(exchange, hasUsage && asked.includeUsage) + (hasDone ? 'data: [DONE]\n\n' : ''));
}

/** Writes for as long as the caller reads, never more than the socket takes. */
function writeWithoutEnd({ response, record }: Exchange, text: string): void {
  const write = (): void => {
    let hasRoom = true;
    while (hasRoom && !response.destroyed) {
      hasRoom = response.write(text);
      record.bytesWritten += text.length;
    }
    record.isBlocked = true;
    if (!response.destroyed) {
      response.once('drain', () => {
        record.isBlocked = false;
        setImmediate(write);
      });
    }
  };
  write();
}

const behaviours: Record<string, (exchange: Exchange) => void> = {
  ok: (exchange) => answerWell(exchange, true, true),
  'ok-embedding': (exchange) => answerWell(exchange, true, true),
  slow: (exchange) => {
    const timer = setTimeout(() => answerWell({ ...exchange, pieces: 3 }, true, true), exchange.pieces);
    exchange.response.once('close', () => clearTimeout(timer));
  },
  'no-usage': (exchange) => answerWell(exchange, false, true),
  'no-done': (exchange) => answerWell(exchange, true, false),
  html: ({ response }) => {
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end(`<html><body>${upstreamSecrets.join(' ')}</body></html>`);
  },
  'broken-json': (exchange) => {
    if (!exchange.asked.stream) return sendJson(exchange, 200, '{"id":"chatcmpl-1","choices":[{"index":0,');
    startStream(exchange);
    exchange.response.end('data: {"id":"chatcmpl-1","choices":[\n\ndata: [DONE]\n\n');
  },
  empty: ({ response, asked }) => {
    response.writeHead(200, { 'content-type': asked.stream ? 'text/event-stream' : 'application/json' });
    response.end();
  },
  'empty-stream': (exchange) => {
    startStream(exchange);
    exchange.response.end(': nothing here\n\n');
  },
  'broken-frame': (exchange) => {
    startStream(exchange);
    exchange.response.end(
      `${piece(exchange.asked.model, { content: 'a' }, null)}data: {"choices":[{"delta"\n\ndata: [DONE]\n\n`,
    );
  },
  'error-frame': (exchange) => {
    startStream(exchange);
    const error = `data: ${openAiError(`overloaded on ${upstreamSecrets[0] ?? ''}`, 'server_error')}\n\n`;
    exchange.response.end(piece(exchange.asked.model, { content: 'a' }, null) + error);
  },
  'error-first': (exchange) => {
    startStream(exchange);
    exchange.response.end(`data: ${openAiError('overloaded', 'server_error')}\n\n`);
  },
  'large-frame': (exchange) => {
    startStream(exchange);
    exchange.response.end(piece(exchange.asked.model, { content: 'x'.repeat(2 * 1024 * 1024) }, null));
  },
  cut: (exchange) => {
    const { response, asked } = exchange;
    if (asked.stream) {
      startStream(exchange);
      response.write(piece(asked.model, { content: 'a' }, null), () => response.destroy());
    } else {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '500' });
      response.write('{"id":"chatcmpl-1",', () => response.destroy());
    }
  },
  reset: ({ response }) => {
    response.socket?.resetAndDestroy();
  },
  stall: () => undefined,
  'stall-midway': (exchange) => {
    const { response, asked } = exchange;
    if (asked.stream) startStream(exchange);
    else response.writeHead(200, { 'content-type': 'application/json' });
    response.write(asked.stream ? piece(asked.model, { content: 'a' }, null) : '{"id":');
  },
  endless: (exchange) => {
    startStream(exchange);
    writeWithoutEnd(exchange, piece(exchange.asked.model, { content: 'more '.repeat(50) }, null).repeat(10));
  },
  throttle: (exchange) =>
    sendJson(exchange, 429, openAiError('slow down', 'rate_limit_exceeded'), { 'retry-after': '2' }),
  spent: (exchange) =>
    sendJson(exchange, 429, openAiError('You exceeded your current quota', 'insufficient_quota')),
  redirect: ({ response }) => {
    response.writeHead(302, { location: 'http://127.0.0.1:1/elsewhere' });
    response.end();
  },
  gzip: ({ response, asked }) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip' });
    response.end(gzipSync(wholeAnswer(asked.model, 3, true)));
  },
  'huge-header': ({ response, asked }) => {
    response.writeHead(200, { 'content-type': 'application/json', 'x-huge': 'h'.repeat(100_000) });
    response.end(wholeAnswer(asked.model, 3, true));
  },
  'huge-body': (exchange) => {
    exchange.response.writeHead(200, { 'content-type': 'application/json' });
    writeWithoutEnd(exchange, ' '.repeat(64 * 1024));
  },
  'context-length': (exchange) => {
    const message =
      "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.";
    sendJson(exchange, 400, openAiError(message, 'context_length_exceeded', 'messages'));
  },
  leaky: (exchange) =>
    sendJson(
      exchange,
      400,
      openAiError(`invalid value: ${upstreamSecrets.slice(0, 3).join(' and ')}`, 'bad'),
    ),
  'stalled-error': ({ response }) => {
    response.writeHead(500, { 'content-type': 'application/json' });
    response.write('{"error":');
  },
  'endless-error': (exchange) => {
    exchange.response.writeHead(500, { 'content-type': 'text/plain' });
    writeWithoutEnd(exchange, 'e'.repeat(16 * 1024));
  },
  'cut-error': ({ response }) => {
    response.writeHead(500, { 'content-type': 'application/json', 'content-length': '500' });
    response.write('{"error":', () => response.destroy());
  },
  '400': (exchange) =>
    sendJson(exchange, 400, openAiError("Invalid 'temperature': above 2", 'invalid_value', 'temperature')),
  '401': (exchange) =>
    sendJson(
      exchange,
      401,
      openAiError('Incorrect API key provided: sk-live-abcdef0123456789', 'invalid_api_key'),
    ),
  '403': (exchange) => sendJson(exchange, 403, openAiError('no', 'permission_denied')),
  '404': (exchange) =>
    sendJson(exchange, 404, openAiError('The model `x` does not exist', 'model_not_found', 'model')),
  '413': ({ response }) => {
    response.writeHead(413, { 'content-type': 'text/html' });
    response.end('<html><center>nginx</center></html>');
  },
  '422': (exchange) =>
    sendJson(exchange, 422, '{"detail":[{"loc":["body","n"],"msg":"value is not a valid integer"}]}'),
  '500': (exchange) => sendJson(exchange, 500, JSON.stringify({ error: { message: stackTrace } })),
  '502': ({ response }) => {
    response.writeHead(502, { 'content-type': 'text/html' });
    response.end('<html><center>nginx/1.18</center></html>');
  },
  '503': (exchange) => sendJson(exchange, 503, openAiError('loading', 'unavailable'), { 'retry-after': '3' }),
};

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  request.on('data', (chunk: Uint8Array) => chunks.push(chunk));
  await once(request, 'end');
  return Buffer.concat(chunks).toString('utf8');
}

function answerList(upstream: MisbehavingUpstream, response: ServerResponse): void {
  upstream.listings += 1;
  response.writeHead(upstream.listed === null ? 404 : 200, { 'content-type': 'application/json' });
  const data = (upstream.listed ?? []).map((id) => ({
    id,
    object: 'model',
    created: 1_700_000_000,
    owned_by: 'upstream',
  }));
  response.end(JSON.stringify({ object: 'list', data }));
}

async function answer(
  upstream: MisbehavingUpstream,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url ?? '';
  const bodyText = await readBody(request);
  if (request.method === 'GET' && path.endsWith('/models')) return answerList(upstream, response);
  const asked = readAsked(bodyText);
  const wanted = upstream.modes.get(asked.model) ?? asked.model;
  const [mode = '', count] = wanted.split(':');
  const record: UpstreamRequest = {
    path,
    method: request.method ?? '',
    headers: request.headers,
    bodyText,
    model: asked.model,
    mode,
    stream: asked.stream,
    isAborted: false,
    isAnswered: false,
    bytesWritten: 0,
    isBlocked: false,
  };
  upstream.requests.push(record);
  response.once('finish', () => {
    record.isAnswered = true;
  });
  response.once('close', () => {
    record.isAborted = !response.writableFinished;
  });
  const behave = Object.hasOwn(behaviours, mode) ? behaviours[mode] : behaviours['404'];
  behave?.({ response, record, asked, pieces: count === undefined ? 3 : Number(count) });
}

/**
 * Starts one on a free port of the loopback.
 * @param modes what model names mean; a name without an entry is itself the mode, and an unknown mode is a 404
 * @param listed the model list; default `ok` and `ok-embedding`
 */
export async function createMisbehavingUpstream(
  options: {
    readonly modes?: Readonly<Record<string, string>>;
    readonly listed?: readonly string[] | null;
  } = {},
): Promise<MisbehavingUpstream> {
  const server = createServer({ keepAliveTimeout: 60_000, noDelay: true }, (request, response) => {
    response.on('error', () => undefined);
    answer(upstream, request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the upstream has no port');
  const upstream: MisbehavingUpstream = {
    url: `http://127.0.0.1:${address.port}/v1`,
    requests: [],
    modes: new Map(Object.entries(options.modes ?? {})),
    listed: options.listed === undefined ? ['ok', 'ok-embedding'] : options.listed,
    listings: 0,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return upstream;
}
