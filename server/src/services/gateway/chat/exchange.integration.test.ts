import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { AppError, type ManualClock, manualClock } from '#kernel';
import type { Reservation } from '#quotas';
import type { Span } from '#telemetry';
import {
  type ChatServer,
  type ChatServerOptions,
  completion,
  doneFrame,
  DrivenProvider,
  frame,
  grantingQuotas,
  hangingPost,
  openChatServer,
  pass,
  post,
  testTarget,
  usageFrame,
} from './chat-path.harness.ts';

const chatPath = '/v1/chat/completions';
const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };
const streamed = { ...chat, stream: true };

interface Opened extends ChatServer {
  readonly provider: DrivenProvider;
  readonly clock: ManualClock;
}

let opened: Opened | null = null;

async function open(options: ChatServerOptions = {}): Promise<Opened> {
  const provider = new DrivenProvider();
  const clock = manualClock();
  opened = { ...(await openChatServer({ provider, clock, ...options })), provider, clock };
  return opened;
}

afterEach(async () => {
  await opened?.close();
  opened = null;
});

function errorCode(body: string): string {
  return /"code":"(\w+)"/.exec(body)?.[1] ?? '';
}

test('an answer in one piece arrives as the provider sent it, once it is on record', async () => {
  const server = await open();
  const text = `{ "choices":[{"message":{"content":"x"}}], "usage":{"prompt_tokens":10,"completion_tokens":5}, "big":9007199254740993 }`;
  let release = (): void => undefined;
  server.journal.hold = new Promise((resolve) => {
    release = resolve;
  });
  const asking = post(server.url, chatPath, { ...chat, user: 'u', metadata: { team: 'a' } });
  const call = await server.provider.nth(1);
  assert.equal(server.journal.opened.length, 1, 'opened before the call');
  call.answer(text);
  const record = await server.journal.nth(1);
  let hasAnswer = false;
  const answered = asking.then((answer) => {
    hasAnswer = true;
    return answer;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(hasAnswer, false, 'held until the record is committed');
  release();
  const answer = await answered;
  assert.equal(await answer.whole, text);
  assert.deepEqual(
    [answer.status, answer.headers['x-stoa-target'], answer.headers['content-length']],
    [200, 'm', String(text.length)],
  );
  assert.equal(record.outcome, 'completed');
  assert.deepEqual(record.tags, { from: 'key', team: 'a' });
  assert.deepEqual(
    [record.end_user, record.project_id, record.endpoint],
    ['u', 'project', 'chat.completions'],
  );
  assert.deepEqual(
    [record.usage.input_tokens, record.usage.output_tokens, record.usage.estimated],
    [10, 5, false],
  );
  assert.deepEqual([record.priced, record.cost_femto, record.price_version], [true, '5010', 'test-1']);
  assert.deepEqual(record.decision, { target: 'm', probability: 1, reason: 'named' });
  assert.deepEqual(
    record.attempts.map(({ target, status, error, provider_request_id: id }) => [target, status, error, id]),
    [['m', 200, null, 'up-1']],
  );
});

test('a stream passes through, asks for usage by itself, and ends in [DONE] after its record', async () => {
  const server = await open();
  let release = (): void => undefined;
  server.journal.hold = new Promise((resolve) => {
    release = resolve;
  });
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  assert.deepEqual(JSON.parse(call.sentBody), { ...streamed, stream_options: { include_usage: true } });
  call.stream(frame('hel'));
  const answer = await asking;
  await answer.until('hel');
  assert.equal(answer.headers['content-type'], 'text/event-stream; charset=utf-8');
  call.sink.onData(Buffer.from(frame('lo') + usageFrame + doneFrame));
  call.end();
  await answer.until('lo');
  const record = await server.journal.nth(1);
  assert.ok(!answer.text().includes('[DONE]'), 'held until the record is committed');
  release();
  assert.equal(await answer.whole, frame('hel') + frame('lo') + doneFrame);
  assert.deepEqual([record.outcome, record.usage.output_tokens, record.stream], ['completed', 2, true]);
  assert.equal(record.attempts[0]?.time_to_first_token_ms, 0);
});

test('a target without a price has no cost, never a cost of zero', async () => {
  const server = await open({ targets: [testTarget({ id: 'unpriced' })] });
  const asking = post(server.url, chatPath, { ...chat, model: 'unpriced' });
  (await server.provider.nth(1)).answer(completion);
  await (await asking).whole;
  const record = await server.journal.nth(1);
  assert.deepEqual(
    [record.priced, record.cost_femto, record.charge_femto, record.price_version],
    [false, null, null, null],
  );
});

test('an unknown model is looked up once more; unknown and not allowed are the same 404, on record as refused', async () => {
  const hidden = testTarget({ id: 'hidden' });
  const server = await open({
    targets: [testTarget(), hidden],
    later: [testTarget({ id: 'later' })],
    isAllowed: ({ id }) => id !== 'hidden',
  });
  const bodies = [];
  for (const model of ['none', 'hidden']) {
    const answer = await post(server.url, chatPath, { ...chat, model });
    assert.equal(answer.status, 404);
    bodies.push((await answer.whole).replaceAll(model, '?'));
  }
  assert.equal(bodies[0], bodies[1]);
  assert.equal(errorCode(bodies[0] ?? ''), 'model_not_found');
  const record = await server.journal.nth(2);
  assert.deepEqual(
    [record.outcome, record.error?.code, record.priced, record.decision],
    ['refused', 'model_not_found', false, null],
  );
  const asking = post(server.url, chatPath, { ...chat, model: 'later' });
  (await server.provider.nth(1)).answer(completion);
  assert.equal((await asking).status, 200);
  assert.equal(server.journal.opened.length, 1);
});

test('a request that is not valid is refused without a record', async () => {
  const server = await open();
  const answer = await post(server.url, chatPath, { ...chat, messages: [] });
  assert.deepEqual([answer.status, errorCode(await answer.whole)], [400, 'invalid_request']);
  for (const value of ['0', 'soon', '600001', '1.5', '-1']) {
    const refused = await post(server.url, chatPath, chat, { 'x-stoa-timeout-ms': value });
    assert.deepEqual([refused.status, errorCode(await refused.whole)], [400, 'invalid_request'], value);
  }
  assert.equal(server.journal.settled.length, 0);
  assert.equal(server.provider.calls.length, 0);
});

test('a denied reservation is the answer, and a granted one is settled with what was used', async () => {
  const settled: unknown[] = [];
  const asked: unknown[] = [];
  const server = await open({
    quotas: {
      ...grantingQuotas,
      hasHardBudget: () => true,
      outputCap: () => 100,
      reserve: (request) => {
        asked.push([request.inputTokens > 100, request.outputTokens, request.costFemto !== null]);
        if (asked.length === 1) {
          return {
            isGranted: false,
            rateLimit: null,
            error: new AppError('insufficient_quota', 'The budget is spent.'),
          };
        }
        const settle = (...used: unknown[]): number => settled.push(used);
        return Promise.resolve({ isGranted: true, reservedFemto: 77n, rateLimit: null, settle });
      },
    },
  });
  const denied = await post(server.url, chatPath, chat);
  assert.deepEqual([denied.status, denied.headers['x-should-retry']], [429, 'false']);
  const asking = post(server.url, chatPath, { ...chat, n: 2 });
  const call = await server.provider.nth(1);
  assert.ok(call.sentBody.includes('"max_tokens":100'), 'the cap holds where the client set no limit');
  call.answer(completion);
  await (await asking).whole;
  assert.deepEqual(asked, [
    [true, 300, true],
    [true, 600, true],
  ]);
  assert.deepEqual(settled, [[5_010n, 10, 5]]);
  assert.deepEqual(
    server.journal.settled.map(({ outcome, reserved_femto: reserved }) => [outcome, reserved]),
    [
      ['refused', null],
      ['completed', '77'],
    ],
  );
});

test('with nothing to record in, no provider is called', async () => {
  const server = await open();
  server.journal.isUnavailable = true;
  const answer = await post(server.url, chatPath, chat);
  assert.deepEqual([answer.status, errorCode(await answer.whole)], [503, 'metering_unavailable']);
  assert.equal(server.provider.calls.length, 0);
  assert.equal(server.journal.settled.length, 0, 'nothing waits for a record that cannot be written');
  server.journal.isUnavailable = false;
  const asking = post(server.url, chatPath, chat);
  (await server.provider.nth(1)).answer(completion);
  assert.equal((await asking).status, 200, 'nothing is held that the next request needs');
});

test('a client that hangs up cancels the call and is billed for what was delivered', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  call.stream(frame('x'.repeat(40)));
  const answer = await asking;
  await answer.until('xxx');
  answer.hangUp();
  const record = await server.journal.nth(1);
  assert.equal(call.isCancelled, true);
  assert.deepEqual([record.outcome, record.error?.code], ['client_cancelled', 'client_closed']);
  assert.deepEqual([record.usage.output_tokens, record.usage.estimated], [10, true]);
  assert.ok(BigInt(record.cost_femto ?? '0') > 10_000n);
});

test('a client that hangs up while its reservation is looked up gives all of it back', async () => {
  let grant: (reservation: Reservation) => void = () => undefined;
  const settled: unknown[] = [];
  const asked = Promise.withResolvers<void>();
  const server = await open({
    quotas: {
      ...grantingQuotas,
      reserve: () => {
        asked.resolve();
        return new Promise((resolve) => {
          grant = resolve;
        });
      },
    },
  });
  const request = hangingPost(server.url, chatPath, chat);
  await asked.promise;
  request.hangUp();
  const record = await server.journal.nth(1);
  assert.equal(record.outcome, 'client_cancelled');
  const given = Promise.withResolvers<void>();
  grant({
    isGranted: true,
    rateLimit: null,
    reservedFemto: 5n,
    settle: (...used) => {
      settled.push(used);
      given.resolve();
    },
  });
  await given.promise;
  assert.deepEqual([settled, server.provider.calls.length], [[[null, 0, 0]], 0]);
});

test('a client that hangs up in the queue of a full bulkhead leaves its turn to the next', async () => {
  const server = await open({ targets: [testTarget({ maxConcurrency: 1 })] });
  const running = post(server.url, chatPath, chat);
  const first = await server.provider.nth(1);
  const impatient = hangingPost(server.url, chatPath, chat);
  while (server.journal.opened.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const waiting = post(server.url, chatPath, chat);
  while (server.journal.opened.length < 3) await new Promise((resolve) => setImmediate(resolve));
  impatient.hangUp();
  await server.journal.nth(1);
  first.answer(completion);
  await (await running).whole;
  (await server.provider.nth(2)).answer(completion);
  assert.equal((await waiting).status, 200);
  assert.equal(server.provider.calls.length, 2);
});

test('a client that hangs up before anything was delivered owes nothing', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  call.stream(': provider comment\n\n');
  asking.catch(() => undefined);
  pass(server.chat, server.clock, 10_000);
  const answer = await asking;
  answer.hangUp();
  const record = await server.journal.nth(1);
  assert.equal(call.isCancelled, true);
  assert.deepEqual(
    [record.outcome, record.usage.input_tokens, record.cost_femto],
    ['client_cancelled', 0, '0'],
  );
});

test('a waiting stream gets a comment before 15 s of silence, and an error after it comes in band', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  pass(server.chat, server.clock, 10_000);
  const answer = await asking;
  assert.equal(answer.status, 200);
  await answer.until(': waiting\n\n');
  pass(server.chat, server.clock, 10_000);
  await answer.until(': waiting\n\n: waiting\n\n');
  call.fault('rejected', {
    status: 400,
    rejection: { code: 'context_length_exceeded', param: 'messages', message: 'too long' },
  });
  const text = await answer.whole;
  assert.ok(
    text.endsWith(
      'data: {"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}\n\n',
    ),
  );
  assert.ok(!text.includes('[DONE]'));
});

test('a comment does not end the tries: another target may still answer', async () => {
  const server = await open({ targets: [testTarget({ id: 'a' }), testTarget({ id: 'b', providerId: 'b' })] });
  const asking = post(server.url, chatPath, { ...streamed, model: 'auto' });
  const call = await server.provider.nth(1);
  pass(server.chat, server.clock, 10_000);
  const answer = await asking;
  assert.equal(answer.headers['x-stoa-target'], undefined, 'nobody can say yet who answers');
  call.fault('throttled');
  const next = await server.provider.nth(2);
  assert.equal(next.call.target.id, 'b');
  next.stream(frame('hi') + usageFrame + doneFrame);
  next.end();
  assert.ok((await answer.whole).endsWith(frame('hi') + doneFrame));
  const record = await server.journal.nth(1);
  assert.deepEqual(
    record.attempts.map(({ target, error }) => [target, error?.code ?? null]),
    [
      ['a', 'provider_throttled'],
      ['b', null],
    ],
  );
});

test('deadlines: none for the first frame, between frames, for the whole, is missed by more than a sweep', async () => {
  const deadlines = { wholeMs: 600_000, firstFrameMs: 120_000, betweenFramesMs: 60_000 };
  const server = await open({ targets: [testTarget({ deadlines })] });
  const first = post(server.url, chatPath, streamed);
  const silent = await server.provider.nth(1);
  pass(server.chat, server.clock, 119_999);
  assert.equal(silent.isCancelled, false);
  pass(server.chat, server.clock, 1);
  assert.equal(silent.isCancelled, true);
  assert.equal(errorCode(await (await first).whole), 'provider_timeout');

  const second = post(server.url, chatPath, streamed);
  const stalled = await server.provider.nth(2);
  stalled.stream(frame('a'));
  const answer = await second;
  await answer.until('"a"');
  pass(server.chat, server.clock, 60_100);
  assert.equal(stalled.isCancelled, true);
  assert.equal(errorCode(await answer.whole), 'provider_timeout');
  const record = await server.journal.nth(2);
  assert.deepEqual([record.outcome, record.usage.estimated], ['failed', true]);

  const steady = post(server.url, chatPath, streamed);
  const talking = await server.provider.nth(3);
  talking.stream(frame('a'));
  for (let minute = 0; minute < 3; minute += 1) {
    pass(server.chat, server.clock, 40_000);
    talking.sink.onData(Buffer.from(frame('b')));
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(talking.isCancelled, false, 'each frame begins the wait anew');
  (await steady).hangUp();

  const third = post(server.url, chatPath, chat);
  await server.provider.nth(4);
  pass(server.chat, server.clock, 600_000);
  const late = await third;
  assert.deepEqual([late.status, late.headers['x-should-retry']], [504, 'false']);
});

test('a caller shortens all deadlines, and its impatience is not held against the provider', async () => {
  const server = await open();
  for (let index = 1; index <= 12; index += 1) {
    const asking = post(server.url, chatPath, index % 2 ? chat : streamed, { 'x-stoa-timeout-ms': '250' });
    const call = await server.provider.nth(index);
    pass(server.chat, server.clock, 249);
    assert.equal(call.isCancelled, false);
    pass(server.chat, server.clock, 1);
    const answer = await asking;
    assert.deepEqual([answer.status, errorCode(await answer.whole)], [504, 'provider_timeout']);
  }
  const endless = post(server.url, chatPath, streamed, { 'x-stoa-timeout-ms': '250' });
  const call = await server.provider.nth(13);
  call.stream(frame('on'));
  const answer = await endless;
  await answer.until('"on"');
  pass(server.chat, server.clock, 100);
  call.sink.onData(Buffer.from(frame('and on')));
  pass(server.chat, server.clock, 150);
  assert.equal(errorCode(await answer.whole), 'provider_timeout');
});

test('a key that is revoked while an answer runs ends it in band within one sweep', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  call.stream(frame('a'));
  const answer = await asking;
  await answer.until('"a"');
  server.principal.standing.refusal = new AppError('tenant_suspended', 'The tenant is suspended.');
  pass(server.chat, server.clock, 100);
  assert.equal(errorCode(await answer.whole), 'tenant_suspended');
  assert.equal(call.isCancelled, true);
  const record = await server.journal.nth(1);
  assert.deepEqual(
    [record.outcome, record.error?.code, record.usage.estimated],
    ['failed', 'tenant_suspended', true],
  );
});

test('a fault is tried again after a pause, then another target answers, and all of it is on record', async () => {
  const server = await open({ targets: [testTarget({ id: 'a' }), testTarget({ id: 'b', providerId: 'b' })] });
  const asking = post(server.url, chatPath, { ...chat, model: 'auto' });
  (await server.provider.nth(1)).answer('<html>gpu-7</html>');
  assert.equal(server.provider.calls.length, 1);
  pass(server.chat, server.clock, 200);
  (await server.provider.nth(2)).fault('unreachable');
  const third = await server.provider.nth(3);
  assert.deepEqual([third.call.target.id, third.sentBody.includes('"model":"b"')], ['b', true]);
  third.answer(completion);
  const answer = await asking;
  assert.deepEqual([answer.status, answer.headers['x-stoa-target']], [200, 'b']);
  const record = await server.journal.nth(1);
  assert.deepEqual(
    record.attempts.map(({ target, error }) => [target, error?.code ?? null]),
    [
      ['a', 'provider_unreadable'],
      ['a', 'provider_unreachable'],
      ['b', null],
    ],
  );
  assert.ok(!JSON.stringify(record).includes('gpu-7'), 'nothing of the provider in what a tenant can read');
  assert.equal(server.journal.opened.length, 1);
});

test('the breaker opens on repeated faults, answers 503 at once, and a probe closes it', async () => {
  const server = await open();
  const codes: string[] = [];
  let failed = 0;
  while (failed < 10) {
    const asking = post(server.url, chatPath, chat);
    for (;;) {
      const next = server.provider.nth(failed + 1);
      const call = await Promise.race([next, asking.then(() => null)]);
      if (call === null) break;
      failed += 1;
      call.fault('status', { status: 500 });
      pass(server.chat, server.clock, 400);
    }
    codes.push(errorCode(await (await asking).whole));
  }
  assert.ok(codes.includes('provider_error'));
  const refused = await post(server.url, chatPath, chat);
  assert.deepEqual([refused.status, errorCode(await refused.whole)], [503, 'target_unavailable']);
  assert.equal(refused.headers['retry-after'], '1');
  assert.equal(server.chat.health.isHealthy(), false);
  assert.equal(server.journal.settled.at(-1)?.outcome, 'refused');
  pass(server.chat, server.clock, 1_000);
  const before = server.provider.calls.length;
  const asking = post(server.url, chatPath, chat);
  (await server.provider.nth(before + 1)).answer(completion);
  assert.equal((await asking).status, 200);
  assert.equal(server.chat.health.isHealthy(), true);
});

test('a probe that streams closes the breaker with its first frame, not with its end', async () => {
  const server = await open({ targets: [testTarget({ deadlines: { betweenFramesMs: 1_000 } })] });
  for (let failed = 1; failed <= 10; failed += 1) {
    const asking = post(server.url, chatPath, streamed);
    const call = await server.provider.nth(failed);
    call.stream(frame('a'));
    call.fault('cut');
    await (await asking).whole;
  }
  assert.equal((await post(server.url, chatPath, streamed)).status, 503);
  pass(server.chat, server.clock, 1_000);
  const probing = post(server.url, chatPath, streamed);
  const probe = await server.provider.nth(11);
  assert.equal((await post(server.url, chatPath, chat)).status, 503, 'one probe at a time');
  probe.stream(frame('a'));
  await (await probing).until('"a"');
  const asking = post(server.url, chatPath, chat);
  (await server.provider.nth(12)).answer(completion);
  assert.equal((await asking).status, 200);
});

test('a traced request has a span for each call of a provider, and the provider gets its traceparent', async () => {
  const ended: string[] = [];
  const spanOf = (name: string): Span => ({
    traceId: 'trace',
    traceparent: `parent-${name}`,
    setAttribute: () => undefined,
    end: (error) => {
      ended.push(`${name} ${error === undefined ? 'ok' : 'failed'}`);
    },
  });
  let calls = 0;
  const server = await open({
    tracer: {
      isEnabled: true,
      startRequest: (name, linked) => spanOf(`${name} ${linked ?? ''}`),
      startChild: () => spanOf(`call ${(calls += 1)}`),
    },
  });
  const asking = post(server.url, chatPath, chat, { traceparent: 'theirs' });
  (await server.provider.nth(1)).fault('unreachable');
  pass(server.chat, server.clock, 400);
  const call = await server.provider.nth(2);
  assert.equal(call.call.traceparent, 'parent-call 2');
  call.answer(completion);
  await (await asking).whole;
  assert.deepEqual(ended, ['call 1 failed', 'call 2 ok', 'chat.completions theirs ok']);
});

test('a full bulkhead makes a call wait for a second, then answers 503; a place that frees is taken in order', async () => {
  const server = await open({ targets: [testTarget({ maxConcurrency: 1 })] });
  const running = post(server.url, chatPath, chat);
  const call = await server.provider.nth(1);
  const waiting = post(server.url, chatPath, chat);
  const tooLate = post(server.url, chatPath, chat, { 'x-client': 'late' });
  while (server.journal.opened.length < 3) await new Promise((resolve) => setImmediate(resolve));
  call.answer(completion);
  assert.equal((await running).status, 200);
  const second = await server.provider.nth(2);
  pass(server.chat, server.clock, 1_000);
  const answers = await Promise.race([waiting, tooLate]);
  assert.deepEqual([answers.status, errorCode(await answers.whole)], [503, 'target_unavailable']);
  second.answer(completion);
  const both = await Promise.all([waiting, tooLate]);
  assert.deepEqual(new Set(both.map(({ status }) => status)), new Set([200, 503]));
});

test('a slow reader pauses the provider, and one that reads nothing for a minute is cut', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  call.stream(frame('begin'));
  const answer = await asking;
  await answer.until('begin');
  answer.pause();
  const big = Buffer.from(frame('x'.repeat(500_000)));
  let sent = 0;
  while (call.sink.onData(big)) {
    sent += 1;
    assert.ok(sent < 200, 'what is held for a slow client is bounded');
    await new Promise((resolve) => setImmediate(resolve));
  }
  pass(server.chat, server.clock, 59_999);
  assert.equal(call.isCancelled, false, 'the silence of a paused provider is ours');
  answer.unpause();
  while (call.resumes === 0) await new Promise((resolve) => setImmediate(resolve));
  answer.pause();
  while (call.sink.onData(big)) await new Promise((resolve) => setImmediate(resolve));
  pass(server.chat, server.clock, 100);
  pass(server.chat, server.clock, 60_000);
  const record = await server.journal.nth(1);
  assert.deepEqual([record.outcome, call.isCancelled], ['client_cancelled', true]);
});

test('a drain lets running requests finish, serves what still comes until its deadline, and then ends the rest in band', async () => {
  const server = await open();
  const streaming = post(server.url, chatPath, streamed);
  (await server.provider.nth(1)).stream(frame('a'));
  const answer = await streaming;
  await answer.until('"a"');
  const finishing = post(server.url, chatPath, chat);
  const call = await server.provider.nth(2);
  const drained = server.chat.drain(500);
  call.answer(completion);
  assert.equal((await finishing).status, 200);
  const late = post(server.url, chatPath, chat);
  (await server.provider.nth(3)).answer(completion);
  assert.equal((await late).status, 200);
  await drained;
  const refused = await post(server.url, chatPath, chat);
  assert.deepEqual([refused.status, errorCode(await refused.whole)], [503, 'draining']);
  assert.equal(errorCode(await answer.whole), 'draining');
  assert.deepEqual(
    server.journal.settled.map(({ outcome, error }) => [outcome, error?.code ?? null]),
    [
      ['completed', null],
      ['completed', null],
      ['failed', 'draining'],
    ],
  );
});

test('a provider that holds its stream open behind [DONE] is cancelled, the client long served', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(1);
  call.stream(frame('a') + usageFrame + doneFrame);
  assert.ok((await (await asking).whole).endsWith(doneFrame));
  assert.equal(call.isCancelled, false);
  pass(server.chat, server.clock, 1_100);
  assert.equal(call.isCancelled, true);
  assert.equal(server.journal.settled.length, 1);
});

test('a usage that nobody told is estimated and marked', async () => {
  const server = await open();
  const whole = post(server.url, chatPath, chat);
  (await server.provider.nth(1)).answer({ ...completion, usage: undefined });
  await (await whole).whole;
  const stream = post(server.url, chatPath, streamed);
  const call = await server.provider.nth(2);
  call.stream(frame('x'.repeat(80)) + doneFrame);
  call.end();
  await (await stream).whole;
  const usages = server.journal.settled.map(({ usage }) => [usage.output_tokens, usage.estimated]);
  assert.deepEqual(usages, [
    [2, true],
    [20, true],
  ]);
});

test('a client that asked for usage gets the frame that tells it', async () => {
  const server = await open();
  const asking = post(server.url, chatPath, { ...streamed, stream_options: { include_usage: true } });
  const call = await server.provider.nth(1);
  call.stream(frame('a') + usageFrame + doneFrame);
  call.end();
  assert.equal(await (await asking).whole, frame('a') + usageFrame + doneFrame);
});
