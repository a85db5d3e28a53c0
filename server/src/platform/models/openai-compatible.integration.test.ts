import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { test } from 'node:test';
import { createOutboundClient } from '#http';
import { AppError, systemClock } from '#kernel';
import { createMisbehavingUpstream, upstreamSecrets } from '#testing';
import {
  contractCall,
  contractTarget,
  modelProviderContract,
  readFrames,
  type RecordedAnswer,
  recordAnswer,
  until,
} from './contract.ts';
import { MAX_ANSWER_BYTES } from './http-call.ts';
import { openAiCompatible } from './openai-compatible.ts';
import type { ProviderFault } from './types.ts';

async function open(options: Parameters<typeof createMisbehavingUpstream>[0] = {}) {
  const upstream = await createMisbehavingUpstream(options);
  const outbound = createOutboundClient();
  const provider = openAiCompatible({ outbound, clock: systemClock, refusalDeadlineMs: 200 });
  const connection = {
    kind: 'openai-compatible',
    baseUrl: upstream.url,
    credential: 'sk-test-credential',
  } as const;
  return {
    upstream,
    outbound,
    provider,
    connection,
    call: (model: string, stream: boolean, fields: Readonly<Record<string, unknown>> = {}) =>
      contractCall(contractTarget(model, connection), stream, fields),
    async close() {
      await outbound.close();
      await upstream.close();
    },
    [Symbol.asyncDispose]() {
      return this.close();
    },
  };
}

modelProviderContract('openai-compatible', async () => {
  const { upstream, provider, call, close } = await open();
  const last = () => upstream.requests.at(-1);
  return {
    provider,
    answered: (stream) => call('ok', stream),
    endless: {
      call: () => call('endless', true),
      isAborted: () => last()?.isAborted === true,
      isBlocked: () => last()?.isBlocked === true,
    },
    faulty: [
      { name: '500', call: () => call('500', false), kind: 'status' },
      { name: 'cut', call: () => call('cut', true), kind: 'cut' },
      { name: 'html', call: () => call('html', false), kind: 'unreadable' },
    ],
    close,
  };
});

const faults: readonly (readonly [
  model: string,
  stream: boolean,
  kind: ProviderFault['kind'],
  status: number | null,
])[] = [
  ['html', false, 'unreadable', 200],
  ['html', true, 'unreadable', 200],
  ['gzip', false, 'unreadable', 200],
  ['huge-header', false, 'unreadable', null],
  ['empty', false, 'empty', 200],
  ['empty', true, 'empty', 200],
  ['cut', false, 'cut', null],
  ['cut', true, 'cut', null],
  ['reset', false, 'unreachable', null],
  ['redirect', false, 'status', 302],
  ['throttle', false, 'throttled', 429],
  ['throttle', true, 'throttled', 429],
  ['spent', false, 'credential', 429],
  ['401', false, 'credential', 401],
  ['403', false, 'credential', 403],
  ['400', true, 'rejected', 400],
  ['404', false, 'rejected', 404],
  ['413', false, 'rejected', 413],
  ['422', false, 'rejected', 422],
  ['context-length', false, 'rejected', 400],
  ['leaky', false, 'rejected', 400],
  ['500', false, 'status', 500],
  ['502', true, 'status', 502],
  ['503', false, 'status', 503],
  ['endless-error', false, 'status', 500],
  ['cut-error', false, 'status', 500],
  ['stalled-error', false, 'status', 500],
];

test('every misbehaviour becomes its fault, once, and nothing of the upstream is in what a client may read', async () => {
  await using opened = await open();
  for (const [model, stream, kind, status] of faults) {
    const answer = recordAnswer(opened.provider, opened.call(model, stream));
    await answer.ended;
    const title = `${model} ${stream ? 'streamed' : 'whole'}: ${answer.fault?.detail ?? ''}`;
    equal(answer.fault?.kind, kind, title);
    equal(answer.fault?.status ?? null, status, title);
    equal(answer.events.filter((event) => event === 'end' || event === 'fault').length, 1, title);
    const shown = JSON.stringify(answer.fault?.rejection ?? {});
    for (const secret of upstreamSecrets) ok(!shown.includes(secret), `${title} shows ${secret}`);
    ok(!shown.includes('<'), title);
    equal(answer.fault?.rejection !== null, kind === 'rejected', title);
  }
  await until(() => opened.outbound.activeCalls === 0, 'no call to be left');
});

test('a rejection keeps code, parameter and a message for people', async () => {
  await using opened = await open();
  const rejectionOf = async (model: string) => {
    const answer = recordAnswer(opened.provider, opened.call(model, false));
    await answer.ended;
    return answer.fault?.rejection;
  };
  deepEqual(await rejectionOf('400'), {
    code: 'invalid_value',
    param: 'temperature',
    message: "Invalid 'temperature': above 2",
  });
  const tooLong = await rejectionOf('context-length');
  equal(tooLong?.code, 'context_length_exceeded');
  match(tooLong?.message ?? '', /8192 tokens/);
  equal((await rejectionOf('413'))?.message, 'The provider rejected the request.');
  equal((await rejectionOf('422'))?.message, 'The provider rejected the request.');
  match((await rejectionOf('leaky'))?.message ?? '', /^invalid value: \[address\] and \[path\] and \[key\]$/);
});

test('of an error without end only 64 KiB are read', async () => {
  await using opened = await open();
  const answer = recordAnswer(opened.provider, opened.call('endless-error', false));
  await answer.ended;
  equal(answer.fault?.kind, 'status');
  await until(() => opened.upstream.requests[0]?.isAborted === true, 'the upstream to be hung up on');
  // What the sockets of both sides hold beyond what was read.
  ok((opened.upstream.requests[0]?.bytesWritten ?? 0) < 16 * 1024 * 1024);
});

test('throttling carries the wait that the provider asks for', async () => {
  await using opened = await open();
  const throttled = recordAnswer(opened.provider, opened.call('throttle', false));
  await throttled.ended;
  equal(throttled.fault?.retryAfterMs, 2_000);
  const loading = recordAnswer(opened.provider, opened.call('503', false));
  await loading.ended;
  equal(loading.fault?.retryAfterMs, 3_000);
});

test('the body goes up byte for byte, with the credential, and the answer comes down byte for byte', async () => {
  await using opened = await open();
  const call = opened.call('ok', false);
  const text = '{ "model":"ok", "n": 12345678901234567890, "x":1.0, "x":2,"messages":[]}';
  const answer = recordAnswer(opened.provider, { ...call, body: Buffer.from(text) });
  await answer.ended;
  const request = opened.upstream.requests[0];
  equal(request?.bodyText, text);
  equal(request?.path, '/v1/chat/completions');
  equal(request?.headers.authorization, 'Bearer sk-test-credential');
  equal(request?.headers['accept-encoding'], 'identity');
  equal(request?.headers['x-client-request-id'], call.publicRequestId);
  equal(request?.headers.traceparent, call.traceparent);
  equal(answer.head?.providerRequestId, 'up-1');
  equal(
    answer.body.toString(),
    '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"ok","choices":[{"index":0,"message":{"role":"assistant","content":"w0 w1 w2 "},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}',
  );
});

test('configured headers go along, those of the connection itself do not', async () => {
  await using opened = await open();
  const target = contractTarget('ok', {
    ...opened.connection,
    credential: null,
    headers: {
      'X-Team': 'a',
      authorization: 'Basic abc',
      'Transfer-Encoding': 'chunked',
      Host: 'evil',
      Accept: '*/*',
    },
  });
  const answer = recordAnswer(opened.provider, contractCall(target, false));
  await answer.ended;
  equal(answer.fault, null);
  const headers = opened.upstream.requests[0]?.headers;
  equal(headers?.['x-team'], 'a');
  equal(headers?.authorization, 'Basic abc');
  equal(headers?.accept, 'application/json');
  match(headers?.host ?? '', /^127\.0\.0\.1/);
});

test('embeddings go to their own path', async () => {
  await using opened = await open();
  const answer = recordAnswer(opened.provider, {
    ...opened.call('ok-embedding', false),
    operation: 'embeddings',
  });
  await answer.ended;
  equal(opened.upstream.requests[0]?.path, '/v1/embeddings');
  match(answer.body.toString(), /"embedding":\[0.25,-0.5,1\]/);
});

test('frames that are broken or tell of an error pass as bytes: the gateway judges them', async () => {
  await using opened = await open();
  for (const model of ['broken-frame', 'error-frame', 'broken-json', 'no-done', 'large-frame']) {
    const answer = recordAnswer(opened.provider, opened.call(model, true));
    await answer.ended;
    equal(answer.fault, null, model);
    ok(answer.body.length > 0, model);
  }
  const answer = recordAnswer(opened.provider, opened.call('no-usage', true));
  await answer.ended;
  equal(
    readFrames(answer.body).some((frame) => frame.data.includes('"usage"')),
    false,
  );
});

test('an answer in one piece is cut off at its cap, and the upstream is hung up on', async () => {
  await using opened = await open();
  const held: { bytes: number } = { bytes: 0 };
  const ended = Promise.withResolvers<ProviderFault>();
  opened.provider.call(opened.call('huge-body', false), {
    onHead: () => undefined,
    onData: (chunk) => {
      held.bytes += chunk.length;
      return true;
    },
    onEnd: () => ended.reject(new Error('ended')),
    onFault: ended.resolve,
  });
  equal((await ended.promise).kind, 'unreadable');
  ok(held.bytes <= MAX_ANSWER_BYTES);
  await until(() => opened.upstream.requests[0]?.isAborted === true, 'the upstream to be hung up on');
});

test('a stalled call is ended by cancel only, before its head and in its midst', async () => {
  await using opened = await open();
  for (const model of ['stall', 'stall-midway']) {
    const answer: RecordedAnswer = recordAnswer(opened.provider, opened.call(model, true));
    await until(() => opened.upstream.requests.at(-1)?.model === model, 'the call to arrive');
    if (model === 'stall-midway') await until(() => answer.events.includes('data'), 'its first data');
    answer.exchange.cancel();
    await answer.ended;
    equal(answer.fault?.kind, 'cancelled');
    await until(() => opened.upstream.requests.at(-1)?.isAborted === true, 'the upstream to be hung up on');
  }
});

test('a provider that is not there is unreachable: refused, unknown, no address at all', async () => {
  await using opened = await open();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  server.close();
  await once(server, 'close');
  const faultAt = async (baseUrl: string, credential: string | null = null) => {
    const target = contractTarget('ok', { ...opened.connection, baseUrl, credential });
    const answer = recordAnswer(opened.provider, contractCall(target, false));
    await answer.ended;
    equal(answer.wasSynchronous, false);
    return answer.fault?.kind;
  };
  equal(await faultAt(`http://127.0.0.1:${port}/v1`), 'unreachable');
  equal(await faultAt('http://nowhere.invalid/v1'), 'unreachable');
  equal(await faultAt('ftp://127.0.0.1/v1'), 'credential');
  equal(await faultAt('no url'), 'credential');
  equal(await faultAt(opened.upstream.url, 'key\nwith a line break'), 'credential');
});

test('the list of models is read as servers write it, and its faults are named', async () => {
  await using opened = await open({ listed: ['a', 'b/c:d', 'a', '', 'x'.repeat(201), 'bad\nid'] });
  const { connection, provider } = opened;
  const list = (baseUrl: string) =>
    provider.listModels?.(
      contractTarget('x', { ...connection, baseUrl }).provider,
      AbortSignal.timeout(2_000),
    ) ?? Promise.reject(new Error('no list'));
  deepEqual(
    (await list(opened.upstream.url)).map((model) => model.id),
    ['a', 'b/c:d'],
  );
  deepEqual((await list(opened.upstream.url))[0], { id: 'a', createdAt: 1_700_000_000, ownedBy: 'upstream' });
  opened.upstream.listed = null;
  const hasCode = (code: string) => (error: unknown) => error instanceof AppError && error.code === code;
  await rejects(list(opened.upstream.url), hasCode('provider_error'));
  await rejects(list('http://nowhere.invalid/v1'), hasCode('provider_unreachable'));
  await rejects(list('no url'), hasCode('provider_misconfigured'));
});
