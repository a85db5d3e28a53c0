import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { TenantLimitRule } from '@stoa/contracts';
import { memoryLimits, memoryRollCall } from '#cache';
import { type ManualClock, manualClock, silentLogger } from '#kernel';
import { createQuotas } from '#quotas';
import { openTestDatabase, type TestDatabase } from '#testing';
import {
  type ChatServer,
  completion,
  doneFrame,
  DrivenProvider,
  frame,
  openChatServer,
  post,
  usageFrame,
} from './chat-path.harness.ts';

const chatPath = '/v1/chat/completions';
const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };
const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
const metrics = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};

let database: TestDatabase;
let server: ChatServer | null = null;
let provider: DrivenProvider;
let clock: ManualClock;

before(async () => {
  database = await openTestDatabase();
});
after(() => database.close());
afterEach(async () => {
  await server?.close();
  server = null;
});

async function open(rules: readonly Partial<TenantLimitRule>[]): Promise<string> {
  provider = new DrivenProvider();
  clock = manualClock();
  const whole = {
    meter: 'requests',
    per: 'tenant',
    route_class: 'any',
    limit: 10,
    period_s: 60,
    burst: 1,
  } as const;
  const quotas = createQuotas(
    {
      db: database.db,
      clock,
      logger: silentLogger,
      metrics,
      limits: memoryLimits(clock),
      rollCall: memoryRollCall,
    },
    { defaultRules: rules.map((rule) => ({ ...whole, ...rule })) },
  );
  server = await openChatServer({ provider, clock, quotas: quotas.api });
  return server.url;
}

/** What remains of the one limit, as the answer says it. */
function remainingIn(headers: Readonly<Record<string, string | string[] | undefined>>): number {
  return Number(/;r=(\d+);/.exec(String(headers['ratelimit']))?.[1]);
}

test('a chat says how its limits stand; the one too many is 429 with Retry-After and no provider is called', async () => {
  const url = await open([{ route_class: 'chat' }]);
  const asking = post(url, chatPath, chat);
  (await provider.nth(1)).answer(completion);
  const answer = await asking;
  await answer.whole;
  assert.equal(answer.headers['ratelimit-policy'], '"tenant-chat-requests-60s";q=10;w=60');
  assert.equal(answer.headers['ratelimit'], '"tenant-chat-requests-60s";r=0;t=6');
  const refused = await post(url, chatPath, chat);
  assert.equal(refused.status, 429);
  assert.equal(refused.headers['retry-after'], '6');
  assert.equal(refused.headers['ratelimit'], '"tenant-chat-requests-60s";r=0;t=6');
  assert.match(await refused.whole, /"code":"rate_limit_exceeded"/);
  assert.equal(provider.calls.length, 1);
  clock.advance(6_000);
  const again = post(url, chatPath, { ...chat, stream: true });
  (await provider.nth(2)).stream(frame('a') + usageFrame + doneFrame);
  const streamed = await again;
  assert.deepEqual([streamed.status, remainingIn(streamed.headers)], [200, 0]);
  assert.match(await streamed.whole, /\[DONE\]/);
});

test('tokens are taken by the estimate and corrected by the use, of streams too', async () => {
  const url = await open([{ meter: 'tokens', limit: 1_000, burst: 1_000 }]);
  const body = { ...chat, max_tokens: 600 };
  const asking = post(url, chatPath, body);
  (await provider.nth(1)).answer(completion);
  const first = await asking;
  await first.whole;
  assert.ok(remainingIn(first.headers) < 400, 'the limit that was asked for is taken');
  const next = post(url, chatPath, { ...body, stream: true });
  (await provider.nth(2)).stream(frame('a') + usageFrame + doneFrame);
  const second = await next;
  await second.whole;
  const estimate = 1_000 - remainingIn(first.headers);
  assert.ok(remainingIn(second.headers) > 900 - estimate, 'of the first, 15 were used');
  const third = post(url, chatPath, body);
  (await provider.nth(3)).answer(completion);
  assert.equal(remainingIn((await third).headers), 1_000 - 15 - 12 - estimate, 'and 12 of the stream');
});

test('a chat that asks for more tokens than a limit has at once is refused for good', async () => {
  const url = await open([{ meter: 'tokens', limit: 1_000, burst: 100 }]);
  const refused = await post(url, chatPath, { ...chat, max_tokens: 101 });
  assert.deepEqual([refused.status, refused.headers['x-should-retry']], [429, 'false']);
  assert.equal(refused.headers['retry-after'], undefined);
  assert.match(await refused.whole, /"code":"request_exceeds_limit"/);
  const asking = post(url, chatPath, chat);
  (await provider.nth(1)).answer(completion);
  assert.equal((await asking).status, 200, 'what nobody limited is assumed to fit');
});

test('a failed chat gives its tokens back', async () => {
  const url = await open([{ meter: 'tokens', limit: 1_000, burst: 1_000 }]);
  const missing = await post(url, chatPath, { ...chat, model: 'unknown', max_tokens: 900 });
  assert.equal(missing.status, 404);
  const asking = post(url, chatPath, { ...chat, max_tokens: 900 });
  const call = await provider.nth(1);
  const gone = await Promise.race([asking.then(() => 'answered'), Promise.resolve('waiting')]);
  assert.equal(gone, 'waiting');
  call.answer({ ...completion, usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } });
  await (await asking).whole;
  const again = post(url, chatPath, { ...chat, max_tokens: 900 });
  (await provider.nth(2)).answer(completion);
  assert.equal((await again).status, 200);
});
