/**
 * Every way in which a provider fails, seen from outside over HTTP: what the client reads, how soon, after how many tries,
 * and that nothing of the provider's insides is in it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { z } from 'zod';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
  upstreamModes,
  upstreamSecrets,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { codeOf, explain, headerOf } from './answer-shapes.ts';
import { type Answer, eventually, startStoa, type StoaProcess } from './stoa-process.ts';
import { dataOf, type StreamedAnswer, streamChat } from './streamed-answer.ts';

/** What shows itself is answered within these, whatever the provider does. */
const answeredWithinMs = 30_000;
const mostTries = 3;

let upstream: MisbehavingUpstream;
let stoa: StoaProcess;
let key: string;

/** Models that stand still are called under these names, with deadlines that a test can wait for. */
const shortDeadlines = { whole_ms: 600, first_frame_ms: 600, between_frames_ms: 600 };
const standing = ['stall', 'stall-midway', 'endless-error', 'huge-body', 'endless'];

before(async () => {
  upstream = await createMisbehavingUpstream({
    listed: [
      ...upstreamModes.filter((mode) => !standing.includes(mode)),
      'failing',
      'recovering',
      'first',
      'second',
    ],
    modes: { failing: '500', recovering: '502', first: '503', second: 'error-frame' },
  });
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url } });
  ({ apiKey: key } = await stoa.newTenant('Resilient'));
  const provider = await stoa.call('POST', '/control/v1/providers', {
    body: { name: 'standing', kind: 'openai-compatible', base_url: upstream.url, discover: false },
  });
  assert.equal(provider.status, 201, provider.text);
  const { id } = z.object({ id: z.string() }).parse(provider.json);
  for (const target of standing) {
    const model = await stoa.call('POST', '/control/v1/models', {
      body: { target, provider_id: id, deadlines: shortDeadlines },
    });
    assert.equal(model.status, 201, model.text);
  }
  await eventually('models', async () => {
    const { text } = await stoa.call('GET', '/v1/models', { key });
    return ['endless', 'failing'].every((name) => text.includes(`"${name}"`));
  });
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

function chat(model: string, headers: Record<string, string> = {}): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', {
    key,
    body: { model, messages: [{ role: 'user', content: 'Hello' }] },
    headers,
  });
}

function stream(model: string, headers: Record<string, string> = {}): Promise<StreamedAnswer> {
  return streamChat(stoa.credentials.baseUrl, key, { model }, headers);
}

function triesOf(model: string): number {
  return upstream.requests.filter((request) => request.model === model).length;
}

/** Fails where an answer or its explanation holds something that only the provider knew. */
async function assertNothingInside(
  model: string,
  answer: { readonly headers: Answer['headers']; readonly text: string },
): Promise<void> {
  const insides = [...upstreamSecrets, 'nginx', 'up-1', new URL(upstream.url).host, '/elsewhere'];
  const told = await stoa.call('GET', `/v1/requests/${headerOf(answer, 'x-request-id')}`, { key });
  assert.equal(told.status, 200, model);
  for (const text of [answer.text, JSON.stringify(answer.headers), told.text]) {
    for (const inside of insides) assert.ok(!text.includes(inside), `${model}: ${inside} in ${text}`);
  }
}

/** What a client reads instead of an answer in one piece. */
const wholeFaults: [mode: string, status: number, code: string, tries: number][] = [
  ['html', 502, 'provider_unreadable', 3],
  ['broken-json', 502, 'provider_unreadable', 3],
  ['empty', 502, 'provider_unreadable', 3],
  ['gzip', 502, 'provider_unreadable', 3],
  ['huge-header', 502, 'provider_unreadable', 3],
  ['huge-body', 502, 'provider_unreadable', 3],
  ['cut', 502, 'provider_error', 3],
  ['reset', 502, 'provider_unreachable', 3],
  ['redirect', 502, 'provider_error', 3],
  ['500', 502, 'provider_error', 3],
  ['502', 502, 'provider_error', 3],
  ['503', 502, 'provider_error', 1],
  ['cut-error', 502, 'provider_error', 3],
  ['stalled-error', 502, 'provider_error', 3],
  ['endless-error', 502, 'provider_error', 3],
  ['401', 502, 'provider_misconfigured', 1],
  ['403', 502, 'provider_misconfigured', 1],
  ['spent', 502, 'provider_misconfigured', 1],
  ['throttle', 429, 'provider_throttled', 1],
  ['stall', 504, 'provider_timeout', 1],
  ['400', 400, 'provider_rejected', 1],
  ['422', 400, 'provider_rejected', 1],
  ['leaky', 400, 'provider_rejected', 1],
  ['context-length', 400, 'context_length_exceeded', 1],
  ['413', 413, 'body_too_large', 1],
  ['404', 404, 'model_not_found', 1],
];

test('every fault before the answer has its status and code, soon, after three tries at most, and gives nothing away', async () => {
  const seen = [];
  for (const [mode, , , tries] of wholeFaults) {
    const startedMs = performance.now();
    const answer = await chat(mode);
    const tookMs = performance.now() - startedMs;
    seen.push([mode, answer.status, codeOf(answer), triesOf(mode)]);
    assert.ok(tookMs < answeredWithinMs, `${mode} took ${Math.round(tookMs)} ms`);
    assert.ok(triesOf(mode) <= mostTries && tries <= mostTries, mode);
    await assertNothingInside(mode, answer);
  }
  assert.deepEqual(seen, wholeFaults);
});

test('a provider that sends without end is not read without end', () => {
  for (const mode of ['huge-body', 'endless-error']) {
    for (const { bytesWritten } of upstream.requests.filter(({ model }) => model === mode)) {
      assert.ok(bytesWritten < 96 * 2 ** 20, `${mode}: ${bytesWritten} bytes were taken`);
    }
  }
});

/** What ends a stream: by a status before its first frame, in band after it. */
const streamFaults: [mode: string, status: number, code: string][] = [
  ['html', 502, 'provider_unreadable'],
  ['broken-json', 502, 'provider_unreadable'],
  ['empty', 502, 'provider_unreadable'],
  ['empty-stream', 502, 'provider_unreadable'],
  ['error-first', 502, 'provider_error'],
  ['large-frame', 502, 'provider_unreadable'],
  ['reset', 502, 'provider_unreachable'],
  ['500', 502, 'provider_error'],
  ['401', 502, 'provider_misconfigured'],
  ['throttle', 429, 'provider_throttled'],
  ['stall', 504, 'provider_timeout'],
  ['400', 400, 'provider_rejected'],
  ['404', 404, 'model_not_found'],
  ['cut', 200, 'stream_interrupted'],
  ['no-done', 200, 'stream_interrupted'],
  ['broken-frame', 200, 'provider_unreadable'],
  ['error-frame', 200, 'provider_error'],
  ['stall-midway', 200, 'provider_timeout'],
];

const inBand = z.object({
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string(),
  }),
});

test('a stream that fails says so: by its status before the first frame, in band after it, and never in silence', async () => {
  for (const [mode, status, code] of streamFaults) {
    const before = triesOf(mode);
    const answer = await stream(mode);
    const text = await answer.whole();
    assert.equal(answer.status, status, `${mode}: ${text}`);
    if (status === 200) {
      const last = dataOf(text).at(-1) ?? '';
      assert.equal(inBand.parse(JSON.parse(last)).error.code, code, mode);
      assert.ok(!text.includes('[DONE]'), mode);
      assert.equal(triesOf(mode) - before, 1, `${mode}: no second try once a byte reached the client`);
    } else {
      assert.equal(
        inBand.parse(z.object({ error: z.unknown() }).parse(JSON.parse(text))).error.code,
        code,
        mode,
      );
    }
    await assertNothingInside(mode, { headers: answer.headers, text });
    const { outcome } = await explain(stoa, headerOf(answer, 'x-request-id'), key);
    const isLeftAlone = mode === 'throttle' && outcome === 'refused';
    assert.ok(isLeftAlone || outcome === 'failed', `${mode}: ${outcome}`);
  }
});

test('what money may have been spent on tells clients not to try again; what was never sent does not', async () => {
  for (const [mode, advice] of [
    ['html', 'false'],
    ['400', 'false'],
    ['reset', undefined],
  ] as const) {
    assert.equal((await chat(mode)).headers['x-should-retry'], advice, mode);
  }
});

test('a provider that throttles is left alone for the time it asks for, and that time is told', async () => {
  upstream.modes.set('failing', 'throttle');
  const first = await chat('failing');
  assert.deepEqual([first.status, codeOf(first)], [429, 'provider_throttled']);
  assert.ok(['1', '2'].includes(headerOf(first, 'retry-after')));
  const tries = triesOf('failing');
  const again = await chat('failing');
  assert.deepEqual([again.status, codeOf(again)], [429, 'provider_throttled']);
  assert.equal(triesOf('failing'), tries, 'nothing was sent meanwhile');
  assert.equal((await chat('ok')).status, 200, 'another model of that provider goes on');
  upstream.modes.set('failing', 'ok');
  await eventually('answer after the wait', async () => (await chat('failing')).status === 200, 5_000);
});

test('a target that fails again and again is left alone: 503 with Retry-After, no call, and back once it works', async () => {
  const open = await eventually(
    'open breaker',
    async () => {
      const answer = await chat('recovering');
      return answer.status === 503 ? answer : null;
    },
    20_000,
  );
  assert.equal(codeOf(open), 'target_unavailable');
  const seconds = Number(headerOf(open, 'retry-after'));
  assert.ok(seconds >= 1 && seconds <= 30, `Retry-After ${seconds}`);
  const refused = await explain(stoa, headerOf(open, 'x-request-id'), key);
  assert.deepEqual([refused.outcome, refused.attempts], ['refused', []]);
  assert.equal((await chat('ok')).status, 200, 'another model of that provider goes on');
  upstream.modes.set('recovering', 'ok');
  await eventually('recovery', async () => (await chat('recovering')).status === 200, 35_000);
});

test('auto goes on to the next target, whole and streamed, and says which one answered', async () => {
  const policy = await stoa.call('PUT', '/v1/policy', { key, body: { order: ['first', 'ok'] } });
  assert.equal(policy.status, 200, policy.text);
  const whole = await chat('auto');
  assert.deepEqual([whole.status, headerOf(whole, 'x-stoa-target')], [200, 'ok']);
  upstream.modes.set('first', '500');
  const streamed = await stream('auto');
  assert.equal(headerOf(streamed, 'x-stoa-target'), 'ok');
  assert.ok((await streamed.whole()).trimEnd().endsWith('data: [DONE]'));
  const explained = await explain(stoa, headerOf(whole, 'x-request-id'), key);
  assert.deepEqual(
    explained.attempts.map(({ target, error }) => [target, error?.code ?? null]),
    [
      ['first', 'provider_error'],
      ['ok', null],
    ],
  );
});

test('auto does not go on once words of a target reached the client', async () => {
  const policy = await stoa.call('PUT', '/v1/policy', { key, body: { order: ['second', 'ok'] } });
  assert.equal(policy.status, 200, policy.text);
  const answer = await stream('auto');
  const text = await answer.whole();
  assert.equal(headerOf(answer, 'x-stoa-target'), 'second');
  assert.equal(inBand.parse(JSON.parse(dataOf(text).at(-1) ?? '')).error.code, 'provider_error');
  const explained = await explain(stoa, headerOf(answer, 'x-request-id'), key);
  assert.equal(explained.attempts.length, 1);
});

test('a caller shortens every deadline by a header, for an answer in one piece and for a stream', async () => {
  upstream.modes.set('second', 'slow:20000');
  for (const ask of [chat, stream]) {
    const startedMs = performance.now();
    const answer = await ask('second', { 'x-stoa-timeout-ms': '300' });
    assert.equal(answer.status, 504);
    assert.ok(performance.now() - startedMs < 3_000);
    if ('whole' in answer) await answer.whole();
  }
  assert.equal(codeOf(await chat('ok', { 'x-stoa-timeout-ms': 'soon' })), 'invalid_request');
});
