import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { test } from 'node:test';
import { createOutboundClient } from '#http';
import { AppError, systemClock } from '#kernel';
import { contractCall, contractTarget, modelProviderContract, recordAnswer, settle } from '../contract.ts';
import { member, textOf } from '../json-member.ts';
import type { ProviderFault } from '../types.ts';
import { anthropic } from './provider.ts';

interface Asked {
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly json: unknown;
  isAborted: boolean;
  isBlocked: boolean;
}

function event(type: string, fields: object = {}): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
}

const usage = {
  input_tokens: 9,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  output_tokens: 1,
};
const start = event('message_start', {
  message: { id: 'msg_1', type: 'message', model: 'claude-test', usage },
});
const piece = (text: string): string =>
  event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } });
const end =
  event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 2 } }) +
  event('message_stop');

type Behaviour = (response: ServerResponse, asked: Asked) => void;

function refuse(
  status: number,
  type: string,
  message: string,
  headers: Record<string, string> = {},
): Behaviour {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json', 'request-id': 'req_up', ...headers });
    response.end(JSON.stringify({ type: 'error', error: { type, message }, request_id: 'req_up' }));
  };
}

function streamOf(...parts: readonly string[]): Behaviour {
  return (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'request-id': 'req_up' });
    for (const part of parts) response.write(part);
    response.end();
  };
}

const whole: Behaviour = (response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'request-id': 'req_up' });
  const content = [{ type: 'text', text: 'Hello' }];
  response.end(
    JSON.stringify({
      id: 'msg_1',
      type: 'message',
      role: 'assistant',
      model: 'claude-test',
      content,
      stop_reason: 'end_turn',
      usage,
    }),
  );
};

const endless: Behaviour = (response, asked) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(start);
  const write = (): void => {
    while (!response.destroyed && response.write(piece('more '.repeat(50)).repeat(10)));
    asked.isBlocked = true;
    response.once('drain', () => {
      asked.isBlocked = false;
      setImmediate(write);
    });
  };
  write();
};

const behaviours: Readonly<Record<string, Behaviour>> = {
  whole,
  endless,
  stream: streamOf(start, piece('Hel'), event('ping'), piece('lo'), end),
  cut: (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(start, () => response.destroy());
  },
  short: streamOf(start, piece('Hel')),
  'no-message': streamOf(event('ping')),
  broken: streamOf(start, 'data: {"type"\n\n'),
  overloaded: streamOf(start, event('error', { error: { type: 'overloaded_error', message: 'Overloaded' } })),
  limited: streamOf(event('error', { error: { type: 'rate_limit_error', message: 'slow down' } })),
  'not-json': (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"type":"message",');
  },
  'not-message': (response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end('{"type":"completion"}');
  },
  '400': refuse(400, 'invalid_request_error', 'temperature: range 0..1'),
  long: refuse(400, 'invalid_request_error', 'prompt is too long: 1520294 tokens > 1000000 maximum'),
  credit: refuse(400, 'invalid_request_error', 'Your credit balance is too low to access the API.'),
  '401': refuse(401, 'authentication_error', 'invalid x-api-key'),
  '402': refuse(402, 'billing_error', 'no'),
  '404': refuse(404, 'not_found_error', 'model: nope'),
  '413': refuse(413, 'request_too_large', 'too large'),
  '429': refuse(429, 'rate_limit_error', 'slow', { 'retry-after': '7' }),
  '500': refuse(500, 'api_error', 'Internal server error'),
  '529': refuse(529, 'overloaded_error', 'Overloaded'),
};

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Uint8Array[] = [];
  request.on('data', (chunk: Uint8Array) => chunks.push(chunk));
  await once(request, 'end');
  return chunks.length === 0 ? null : JSON.parse(Buffer.concat(chunks).toString());
}

async function open() {
  const requests: Asked[] = [];
  const server = createServer((request, response) => {
    response.on('error', () => undefined);
    const respond = async (): Promise<void> => {
      const json = await bodyOf(request);
      const path = request.url ?? '';
      const asked = { path, headers: request.headers, json, isAborted: false, isBlocked: false };
      requests.push(asked);
      response.once('close', () => {
        asked.isAborted = !response.writableFinished;
      });
      if (path.includes('/models')) {
        const after = path.includes('after_id=claude-a');
        const data = [
          { id: after ? 'claude-b' : 'claude-a', type: 'model', created_at: '2025-02-19T00:00:00Z' },
        ];
        response.writeHead(200, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ data, has_more: !after, last_id: data[0]?.id }));
        return;
      }
      behaviours[textOf(json, 'model') ?? '']?.(response, asked);
    };
    respond().catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const outbound = createOutboundClient();
  const provider = anthropic({ outbound, clock: systemClock });
  const connection = {
    kind: 'anthropic',
    baseUrl: `http://127.0.0.1:${port}/v1`,
    credential: 'sk-ant-test',
  } as const;
  return {
    requests,
    provider,
    connection,
    call: (model: string, stream: boolean, fields: Readonly<Record<string, unknown>> = {}) =>
      contractCall(contractTarget(model, connection), stream, fields),
    async close() {
      await outbound.close();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
    [Symbol.asyncDispose]() {
      return this.close();
    },
  };
}

modelProviderContract('anthropic', async () => {
  const { requests, provider, call, close } = await open();
  return {
    provider,
    answered: (stream) => call(stream ? 'stream' : 'whole', stream),
    endless: {
      call: () => call('endless', true),
      isAborted: () => requests.at(-1)?.isAborted === true,
      isBlocked: () => requests.at(-1)?.isBlocked === true,
    },
    faulty: [
      { name: '500', call: () => call('500', false), kind: 'status' },
      { name: 'cut', call: () => call('cut', true), kind: 'cut' },
      { name: 'refused before it is sent', call: () => call('whole', false, { n: 2 }), kind: 'rejected' },
    ],
    close,
  };
});

const faults: readonly (readonly [
  model: string,
  stream: boolean,
  kind: ProviderFault['kind'],
  code: string | null,
])[] = [
  ['400', false, 'rejected', null],
  ['long', true, 'rejected', 'context_length_exceeded'],
  ['404', false, 'rejected', 'model_not_found'],
  ['413', false, 'rejected', null],
  ['credit', false, 'credential', null],
  ['401', false, 'credential', null],
  ['402', false, 'credential', null],
  ['429', true, 'throttled', null],
  ['500', true, 'status', null],
  ['529', false, 'status', null],
  ['short', true, 'cut', null],
  ['no-message', true, 'empty', null],
  ['broken', true, 'unreadable', null],
  ['overloaded', true, 'error_frame', null],
  ['limited', true, 'throttled', null],
  ['not-json', false, 'unreadable', null],
  ['not-message', false, 'unreadable', null],
];

test('every error of the Messages API becomes its fault, once', async () => {
  await using opened = await open();
  for (const [model, stream, kind, code] of faults) {
    const answer = recordAnswer(opened.provider, opened.call(model, stream));
    await answer.ended;
    await settle();
    equal(answer.fault?.kind, kind, `${model}: ${answer.fault?.detail ?? 'no fault'}`);
    equal(answer.fault?.rejection?.code ?? null, code, model);
    equal(answer.events.filter((event) => event === 'end' || event === 'fault').length, 1, model);
  }
  const throttled = recordAnswer(opened.provider, opened.call('429', false));
  await throttled.ended;
  equal(throttled.fault?.retryAfterMs, 7_000);
  equal(throttled.fault?.providerRequestId, 'req_up');
});

test('the request carries version and key, and an untranslatable one is never sent', async () => {
  await using opened = await open();
  await recordAnswer(opened.provider, opened.call('whole', false, { max_tokens: 5 })).ended;
  const [asked] = opened.requests;
  equal(asked?.path, '/v1/messages');
  equal(asked?.headers['anthropic-version'], '2023-06-01');
  equal(asked?.headers['x-api-key'], 'sk-ant-test');
  equal(asked?.headers.authorization, undefined);
  equal(member(asked?.json, 'max_tokens'), 5);
  const refused = recordAnswer(opened.provider, opened.call('whole', false, { logprobs: true }));
  await refused.ended;
  deepEqual(refused.fault?.rejection?.code, 'unsupported_parameter');
  equal(refused.fault?.rejection?.param, 'logprobs');
  match(refused.fault?.rejection?.message ?? '', /log probabilities/);
  const embeddings = recordAnswer(opened.provider, {
    ...opened.call('whole', false),
    operation: 'embeddings',
  });
  await embeddings.ended;
  equal(embeddings.fault?.kind, 'rejected');
  equal(opened.requests.length, 1);
});

test('models are listed over all pages', async () => {
  await using opened = await open();
  const { provider, connection } = opened;
  const list = (baseUrl: string) =>
    provider.listModels?.(
      contractTarget('x', { ...connection, baseUrl }).provider,
      AbortSignal.timeout(2_000),
    ) ?? Promise.reject(new Error('no list'));
  deepEqual(await list(connection.baseUrl), [
    { id: 'claude-a', createdAt: 1_739_923_200, ownedBy: 'anthropic' },
    { id: 'claude-b', createdAt: 1_739_923_200, ownedBy: 'anthropic' },
  ]);
  await rejects(
    list('no url'),
    (error) => error instanceof AppError && error.code === 'provider_misconfigured',
  );
  ok(opened.requests.every((asked) => asked.path.startsWith('/v1/models?limit=1000')));
});
