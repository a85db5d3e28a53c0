/**
 * One request id joins the decision, every attempt, the tokens, the price and the trace, at once; and the sums of a
 * tenant's usage are those of its requests, to the last femto-dollar.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type ExplainedRequest, usageGroups } from '@stoa/contracts';
import { z } from 'zod';
import { codeOf, explain, headerOf, listRequests, readUsage } from './answer-shapes.ts';
import { type Answer, eventually, startStoa, type StoaProcess } from './stoa-process.ts';
import { streamChat } from './streamed-answer.ts';

const script = `
models: [{ id: priced }, { id: tiny }, { id: unpriced }, { id: down }, { id: backup }, { id: waiting }]
rules:
  - { when: { model: priced }, reply: Paid, tokens: { input: 1234567, output: 89, cached_input: 1000, reasoning: 9 } }
  - { when: { model: tiny }, reply: Cheap, tokens: { input: 3, output: 5 } }
  - { when: { model: unpriced, text: silent }, reply: "twelve bytes", tokens: omit }
  - { when: { model: unpriced }, reply: Free, tokens: { input: 11, output: 2 } }
  - { when: { model: down }, error: { status: 503, body: { error: { message: secret of the provider } } } }
  - { when: { model: backup }, reply: Here, tokens: { input: 4, output: 1 } }
  - { when: { model: waiting }, reply: [one, two], tokens: { input: 7, output: 9 }, stall: { after_chunks: 2 } }
`;

/** Design section 10; what Stoa tells besides is not fixed there. */
const promised = [
  'id',
  'outcome',
  'decision',
  'attempts',
  'usage',
  'priced',
  'cost',
  'charge',
  'price_version',
  'trace_id',
  'created_at',
];
const promisedOfAttempt = [
  'target',
  'provider',
  'started_at',
  'duration_ms',
  'time_to_first_token_ms',
  'status',
  'error',
];

let stoa: StoaProcess;
let key: string;
let keyId: string;

before(async () => {
  stoa = await startStoa({ script });
  const tenant = await stoa.newTenant('Explained');
  key = tenant.apiKey;
  keyId = tenant.keyId;
});

after(() => stoa.dispose());

async function chat(body: Record<string, unknown>, headers: Record<string, string> = {}): Promise<Answer> {
  return stoa.call('POST', '/v1/chat/completions', {
    key,
    body: { messages: [{ role: 'user', content: 'Hello' }], ...body },
    headers,
  });
}

async function putPrice(body: unknown): Promise<void> {
  const answer = await stoa.call('PUT', '/control/v1/prices/overrides', { body });
  assert.equal(answer.status, 200, answer.text);
}

test('the explanation holds exactly what is promised, at once, with attempts in time and in order', async () => {
  const answer = await chat(
    { model: 'unpriced', user: 'customer-7', metadata: { team: 'blue' } },
    { 'x-request-id': 'mine-1', traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
  );
  const id = headerOf(answer, 'x-request-id');
  const told = await stoa.call('GET', `/v1/requests/${id}`, { key });
  const raw = z
    .looseObject({
      decision: z.looseObject({}),
      attempts: z.array(z.looseObject({})),
      usage: z.looseObject({}),
    })
    .parse(told.json);
  for (const member of promised) assert.ok(Object.hasOwn(raw, member), member);
  assert.deepEqual(Object.keys(raw.decision).sort(), ['probability', 'reason', 'target']);
  assert.deepEqual(Object.keys(raw.attempts[0] ?? {}).sort(), promisedOfAttempt.toSorted());

  const explained = await explain(stoa, id, key);
  assert.equal(explained.id, id);
  assert.deepEqual(explained.decision, { target: 'unpriced', probability: 1, reason: 'named' });
  assert.deepEqual([explained.outcome, explained.error], ['completed', null]);
  assert.deepEqual([explained.client_request_id, explained.end_user], ['mine-1', 'customer-7']);
  assert.deepEqual([explained.tags, explained.key_id], [{ team: 'blue' }, keyId]);
  assert.match(explained.trace_id, /^[0-9a-f]{32}$/);
  assert.notEqual(
    explained.trace_id,
    '0af7651916cd43dd8448eb211c80319c',
    'a tenant is linked, never the parent',
  );
  const [attempt] = explained.attempts;
  assert.ok(attempt);
  assert.deepEqual(
    [attempt.target, attempt.provider, attempt.status, attempt.error],
    ['unpriced', 'scripted', 200, null],
  );
  assert.ok(explained.created_at <= attempt.started_at && attempt.started_at <= explained.completed_at);
});

test('every one of fifty requests is explained by the first question, streamed or whole', async () => {
  await Promise.all(
    Array.from({ length: 25 }, async () => {
      const whole = await chat({ model: 'unpriced' });
      assert.equal((await explain(stoa, headerOf(whole, 'x-request-id'), key)).outcome, 'completed');
      const stream = await streamChat(stoa.credentials.baseUrl, key, { model: 'unpriced' });
      await stream.until('[DONE]');
      const explained = await explain(stoa, headerOf(stream, 'x-request-id'), key);
      assert.equal(explained.outcome, 'completed');
      const time = explained.attempts[0]?.time_to_first_token_ms ?? null;
      assert.ok(time !== null && time <= (explained.attempts[0]?.duration_ms ?? 0));
    }),
  );
});

test('a priced request costs each kind of token at its rate, exactly; an unpriced one costs null and never 0', async () => {
  const free = await explain(stoa, headerOf(await chat({ model: 'unpriced' }), 'x-request-id'), key);
  assert.deepEqual([free.priced, free.cost, free.charge, free.price_version], [false, null, null, null]);

  await putPrice({
    target: 'priced',
    rates: { input: '0.15', cached_input: '0.075', output: '0.6', reasoning: '2.4', per_request: '0.001' },
  });
  await putPrice({ target: 'tiny', rates: { input: '0.0000000015', output: '0.0000000025' } });
  await putPrice({ target: 'backup', per: 1, rates: { input: '1', output: '2' } });
  const paid = await explain(stoa, headerOf(await chat({ model: 'priced' }), 'x-request-id'), key);
  // 1,233,567 plain at 0.15, 1,000 cached at 0.075, 80 plain at 0.6, 9 reasoning at 2.4 a million, and 0.001 for the request:
  // 0.18503505 + 0.000075 + 0.000048 + 0.0000216 + 0.001
  assert.deepEqual([paid.priced, paid.cost, paid.charge], [true, '0.18617965', '0.18617965']);
  assert.ok(paid.price_version !== null && paid.price !== null);
  assert.deepEqual(
    [paid.usage.input_tokens, paid.usage.cached_input_tokens, paid.usage.reasoning_tokens],
    [1234567, 1000, 9],
  );
  // 1.5 and 2.5 femto-dollars a token become 2 and 2, half to even, once: 3 x 2 + 5 x 2 = 16.
  const tiny = await explain(stoa, headerOf(await chat({ model: 'tiny' }), 'x-request-id'), key);
  assert.equal(tiny.cost, '0.000000000000016');
});

test('a fault, its second try and the fallback are three attempts, and the one that answered is priced', async () => {
  const policy = await stoa.call('PUT', '/v1/policy', { key, body: { order: ['down', 'backup'] } });
  assert.equal(policy.status, 200, policy.text);
  const answer = await chat({ model: 'auto' });
  assert.deepEqual([answer.status, headerOf(answer, 'x-stoa-target')], [200, 'backup']);
  const explained = await explain(stoa, headerOf(answer, 'x-request-id'), key);
  assert.deepEqual([explained.model, explained.outcome], ['auto', 'completed']);
  assert.deepEqual(explained.decision, { target: 'down', probability: 1, reason: 'first_healthy' });
  assert.deepEqual(
    explained.attempts.map(({ target, status, error }) => [target, status, error?.code ?? null]),
    [
      ['down', 503, 'provider_error'],
      ['down', 503, 'provider_error'],
      ['backup', 200, null],
    ],
  );
  const starts = explained.attempts.map((attempt) => attempt.started_at);
  assert.deepEqual(starts, starts.toSorted());
  assert.equal(explained.cost, '6');
  assert.ok(!JSON.stringify(explained).includes('secret of the provider'));
});

test('failed, refused and cancelled requests are explained as what they are', async () => {
  const failed = await chat({ model: 'down' });
  assert.equal(failed.status, 502);
  const failure = await explain(stoa, headerOf(failed, 'x-request-id'), key);
  assert.deepEqual([failure.outcome, failure.error?.code], ['failed', 'provider_error']);
  assert.deepEqual([failure.usage.input_tokens, failure.usage.output_tokens, failure.cost], [0, 0, null]);

  const missing = await chat({ model: 'nowhere' });
  assert.equal(codeOf(missing), 'model_not_found');
  const refusal = await explain(stoa, headerOf(missing, 'x-request-id'), key);
  assert.deepEqual([refusal.outcome, refusal.error?.code], ['refused', 'model_not_found']);
  assert.deepEqual([refusal.decision, refusal.attempts, refusal.model], [null, [], 'nowhere']);

  const stream = await streamChat(stoa.credentials.baseUrl, key, { model: 'waiting' });
  await stream.until('one');
  stream.hangUp();
  const id = headerOf(stream, 'x-request-id');
  const left = await eventually('record', () => explain(stoa, id, key).catch(() => null), 5_000);
  assert.deepEqual([left.outcome, left.error?.code], ['client_cancelled', 'client_closed']);
  assert.equal(left.usage.estimated, true);
  assert.ok(left.usage.output_tokens > 0);
});

test('a provider that tells no usage is estimated, and marked so', async () => {
  const answer = await chat({ model: 'unpriced', messages: [{ role: 'user', content: 'be silent' }] });
  const { usage } = await explain(stoa, headerOf(answer, 'x-request-id'), key);
  assert.equal(usage.estimated, true);
  assert.ok(usage.input_tokens > 0 && usage.output_tokens > 0);
});

test("the usage of each grouping sums up to the tenant's requests, money included", async () => {
  const requests: ExplainedRequest[] = [];
  let after = '';
  for (;;) {
    const page = await listRequests(stoa, after, key);
    requests.push(...page);
    const last = page.at(-1);
    if (page.length < 100 || !last) break;
    after = `&after=${last.id}`;
  }
  assert.equal(new Set(requests.map(({ id }) => id)).size, requests.length);
  const count = (
    member: 'input_tokens' | 'output_tokens' | 'cached_input_tokens' | 'reasoning_tokens',
  ): number => requests.reduce((sum, { usage }) => sum + usage[member], 0);
  const cost = requests.reduce((sum, request) => sum + femtoOf(request.cost ?? '0'), 0n);
  for (const group of [...usageGroups, 'day,model,key,project,end_user']) {
    const report = await readUsage(stoa, key, `?group_by=${group}`);
    const { totals } = report;
    assert.equal(totals.requests, requests.length, group);
    assert.equal(totals.failed_requests, requests.filter(({ outcome }) => outcome === 'failed').length);
    assert.equal(totals.refused_requests, requests.filter(({ outcome }) => outcome === 'refused').length);
    assert.deepEqual(
      [totals.input_tokens, totals.output_tokens, totals.cached_input_tokens, totals.reasoning_tokens],
      [
        count('input_tokens'),
        count('output_tokens'),
        count('cached_input_tokens'),
        count('reasoning_tokens'),
      ],
      group,
    );
    assert.equal(femtoOf(totals.cost ?? '0'), cost, group);
    const rows = report.data.reduce((sum, row) => sum + femtoOf(row.cost ?? '0'), 0n);
    assert.equal(rows, cost, `the rows of ${group}`);
    assert.equal(
      report.data.reduce((sum, row) => sum + row.requests, 0),
      requests.length,
    );
  }
  assert.equal(cost, femtoOf('0.18617965') + 16n + femtoOf('6'));
  const [customer] = (await readUsage(stoa, key, '?group_by=end_user&end_user=customer-7')).data;
  assert.deepEqual([customer?.end_user, customer?.requests], ['customer-7', 1]);
});

test('after a restart every request is explained by the very same words', async () => {
  const ids = (await listRequests(stoa, '', key)).map(({ id }) => id);
  const read = async (): Promise<string[]> => {
    const texts = [];
    for (const id of ids) texts.push((await stoa.call('GET', `/v1/requests/${id}`, { key })).text);
    return texts;
  };
  const told = await read();
  assert.equal(await stoa.stop(), 0);
  await stoa.restart();
  assert.deepEqual(await read(), told);
});

/** Whole femto-dollars of a decimal amount. */
function femtoOf(amount: string): bigint {
  const [whole = '0', part = ''] = amount.split('.');
  assert.ok(part.length <= 15, `${amount} has more places than a femto-dollar`);
  return BigInt(whole) * 10n ** 15n + BigInt(part.padEnd(15, '0'));
}
