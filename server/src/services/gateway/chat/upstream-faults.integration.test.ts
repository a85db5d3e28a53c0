import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOutboundClient, type OutboundClient } from '#http';
import { systemClock } from '#kernel';
import { openAiCompatible } from '#models';
import { createMisbehavingUpstream, type MisbehavingUpstream, upstreamSecrets } from '#testing';
import { type ChatServer, openChatServer, post, testTarget } from './chat-path.harness.ts';

/** The whole way: the edge, the chat path, the real adapter, and an upstream that does everything wrong. */
let upstream: MisbehavingUpstream;
let outbound: OutboundClient;
let server: ChatServer;

const modes = [
  'ok',
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
  'huge-header',
  'context-length',
  'leaky',
  '400',
  '401',
  '404',
  '413',
  '500',
  '503',
];

before(async () => {
  upstream = await createMisbehavingUpstream();
  outbound = createOutboundClient();
  const targets = modes.map((mode) =>
    testTarget({
      id: mode,
      baseUrl: upstream.url,
      kind: mode === 'ok-embedding' ? 'embedding' : 'chat',
      deadlines: { firstFrameMs: 700, betweenFramesMs: 700, wholeMs: 2_000 },
    }),
  );
  const refused = testTarget({ id: 'refused', baseUrl: 'http://127.0.0.1:1/v1' });
  server = await openChatServer({
    targets: [...targets, refused],
    provider: openAiCompatible({ outbound, clock: systemClock }),
    clock: systemClock,
  });
  server.chat.sweep.start();
});

after(async () => {
  await server.close();
  await outbound.close();
  await upstream.close();
});

interface Asked {
  readonly status: number;
  readonly code: string;
  readonly text: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly outcome: string | undefined;
  readonly attempts: readonly (string | null)[];
}

async function ask(model: string, stream: boolean): Promise<Asked> {
  const body = { model, stream, messages: [{ role: 'user', content: 'hi' }] };
  const answer = await post(server.url, '/v1/chat/completions', body);
  const text = await answer.whole;
  for (const secret of upstreamSecrets) assert.ok(!text.includes(secret), `${secret} reached the client`);
  const record = server.journal.settled.at(-1);
  assert.equal(record?.requested_model, model, 'every request is on record before its end');
  return {
    status: answer.status,
    code: /"code":"(\w+)"/.exec(text)?.[1] ?? '',
    text,
    headers: answer.headers,
    outcome: record?.outcome,
    attempts: record?.attempts.map(({ error }) => error?.code ?? null) ?? [],
  };
}

const thrice = (code: string): string[] => [code, code, code];

test('an answer in one piece: each fault before it has its status and code, and all its tries on record', async () => {
  const expected: [model: string, status: number, code: string, attempts: (string | null)[]][] = [
    ['ok', 200, '', [null]],
    ['html', 502, 'provider_unreadable', thrice('provider_unreadable')],
    ['broken-json', 502, 'provider_unreadable', thrice('provider_unreadable')],
    ['empty', 502, 'provider_unreadable', thrice('provider_unreadable')],
    ['cut', 502, 'provider_error', thrice('provider_error')],
    ['reset', 502, 'provider_unreachable', thrice('provider_unreachable')],
    ['refused', 502, 'provider_unreachable', thrice('provider_unreachable')],
    ['500', 502, 'provider_error', thrice('provider_error')],
    ['redirect', 502, 'provider_error', thrice('provider_error')],
    ['401', 502, 'provider_misconfigured', ['provider_misconfigured']],
    ['spent', 502, 'provider_misconfigured', ['provider_misconfigured']],
    ['stall', 504, 'provider_timeout', ['provider_timeout', 'provider_timeout', 'provider_timeout']],
    ['throttle', 429, 'provider_throttled', ['provider_throttled']],
    ['context-length', 400, 'context_length_exceeded', ['context_length_exceeded']],
    ['leaky', 400, 'provider_rejected', ['provider_rejected']],
    ['400', 400, 'provider_rejected', ['provider_rejected']],
    ['404', 404, 'model_not_found', ['model_not_found']],
    ['413', 413, 'body_too_large', ['body_too_large']],
  ];
  for (const [model, status, code, attempts] of expected) {
    const asked = await ask(model, false);
    const tries = model === 'stall' ? attempts.slice(0, asked.attempts.length) : attempts;
    assert.deepEqual([asked.status, asked.code, asked.attempts], [status, code, tries], model);
    assert.equal(asked.outcome, status === 200 ? 'completed' : 'failed', model);
  }
});

test('a provider that throttles is answered by its Retry-After, at once and without a call the next time', async () => {
  upstream.modes.set('throttled again', 'throttle');
  const first = await ask('throttle', false);
  assert.deepEqual([first.status, first.code], [429, 'provider_throttled']);
  const seconds = Number(first.headers['retry-after']);
  assert.ok(seconds >= 1 && seconds <= 2);
  const calls = upstream.requests.length;
  const again = await ask('throttle', true);
  assert.deepEqual([again.status, again.outcome, again.attempts], [429, 'refused', []]);
  assert.equal(upstream.requests.length, calls);
});

test('a stream: faults before its first frame have a status, later ones come in band, and none ends in silence', async () => {
  const expected: [model: string, status: number, code: string][] = [
    ['ok', 200, ''],
    ['no-usage', 200, ''],
    ['empty-stream', 502, 'provider_unreadable'],
    ['error-first', 502, 'provider_error'],
    ['large-frame', 502, 'provider_unreadable'],
    ['no-done', 200, 'stream_interrupted'],
    ['broken-frame', 200, 'provider_unreadable'],
    ['error-frame', 200, 'provider_error'],
    ['stall-midway', 200, 'provider_timeout'],
    ['endless', 200, 'provider_timeout'],
  ];
  for (const [model, status, code] of expected) {
    const asked = await ask(model, true);
    assert.deepEqual([asked.status, asked.code], [status, code], model);
    assert.equal(asked.outcome, code === '' ? 'completed' : 'failed', model);
    if (status === 200) {
      const last = asked.text.trimEnd().split('\n\n').at(-1) ?? '';
      assert.ok(code === '' ? last === 'data: [DONE]' : last.startsWith('data: {"error":{'), model);
      assert.equal(asked.attempts.length, 1, 'no second try once bytes reached the client');
    }
  }
});

test('a cut in the middle of a stream is an error in band', async () => {
  const asked = await ask('cut', true);
  assert.equal(asked.status, 200);
  assert.equal(asked.code, 'stream_interrupted');
});

test('a client that goes away ends the call at the provider within 2 s', async () => {
  const before = upstream.requests.length;
  const body = { model: 'endless', stream: true, messages: [{ role: 'user', content: 'hi' }] };
  const answer = await post(server.url, '/v1/chat/completions', body);
  await answer.until('more');
  const startedMs = performance.now();
  answer.hangUp();
  const request = upstream.requests[before];
  assert.ok(request);
  while (!request.isAborted) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(performance.now() - startedMs < 2_000);
});
