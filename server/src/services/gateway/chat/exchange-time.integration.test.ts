import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { AppError } from '#kernel';
import type { Reservation } from '#quotas';
import {
  completion,
  doneFrame,
  frame,
  hangingPost,
  pass,
  post,
  testTarget,
  usageFrame,
  grantingQuotas,
} from './chat-path.harness.ts';
import { chat, chatPath, closeOpened, errorCode, open, streamed } from './exchange.harness.ts';

afterEach(closeOpened);

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
  assert.deepEqual([record.outcome, record.usage.estimated], ['client_cancelled', false]);
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

test('a client that hangs up before anything was delivered owes nothing, and what the call took is marked as unknown', async () => {
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
    [record.outcome, record.usage.input_tokens, record.usage.estimated, record.cost_femto],
    ['client_cancelled', 0, true, '0'],
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
