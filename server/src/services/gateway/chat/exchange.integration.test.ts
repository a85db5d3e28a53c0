import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { AppError } from '#kernel';
import type { Span } from '#telemetry';
import {
  completion,
  doneFrame,
  frame,
  grantingQuotas,
  pass,
  post,
  testTarget,
  usageFrame,
} from './chat-path.harness.ts';
import { chat, chatPath, closeOpened, errorCode, open, streamed } from './exchange.harness.ts';

afterEach(closeOpened);

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
