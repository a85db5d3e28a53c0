/**
 * `kill -9` under load, again and again, on the same data: every request that a client saw completed has exactly one usage
 * record, an interrupted one has at most one, and none is counted twice.
 *
 * STOA_TEST_KILLS says how often (default 20; 10 on the embedded database, whose start takes longer), STOA_TEST_SEED repeats a run's moments of death.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { request } from 'undici';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { explain, headerOf, listRequests, readUsage } from './answer-shapes.ts';
import { startStoa, type StoaProcess, usesPostgres } from './stoa-process.ts';
import { streamChat } from './streamed-answer.ts';

const kills = Number(process.env['STOA_TEST_KILLS'] ?? (usesPostgres ? 20 : 10));
const seed = Number(process.env['STOA_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const clients = 8;
/** The load of a round before its death may come, and how long it may be put off. */
const answersBeforeDeath = 40;
const longestDelayMs = 300;

let upstream: MisbehavingUpstream;
let stoa: StoaProcess;

/** What the clients know, over all rounds. */
const completed = new Set<string>();
const interrupted = new Set<string>();
let sent = 0;

/** Answers that are under way for a while, so that death meets them in the middle. */
const script = JSON.stringify({
  models: [{ id: 'trickle' }],
  rules: [
    {
      reply: Array.from({ length: 20 }, (_, index) => `word${index} `),
      tokens: { input: 6, output: 20 },
      latency: { between_chunks: { distribution: 'uniform', min_ms: 1, max_ms: 8 } },
    },
  ],
});
const models = ['slow:4', 'slow:25', 'ok:60', 'trickle'];

before(async () => {
  upstream = await createMisbehavingUpstream({ listed: ['slow:4', 'slow:25', 'ok:60'] });
  stoa = await startStoa({
    script,
    env: {
      STOA_OPENAI_BASE_URL: upstream.url,
      STOA_LOG_LEVEL: 'warn',
      STOA_JOURNAL_SEGMENT_BYTES: '64KiB',
      STOA_JOURNAL_MAX_BYTES: '8MiB',
    },
  });
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

/** mulberry32: 0 (included) to 1 (excluded), the same row of numbers for the same seed. */
function randomNumbers(from: number): () => number {
  let state = from;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One chat in one piece; its id once all of the answer was read. */
async function askWhole(model: string): Promise<void> {
  const { baseUrl, demo } = stoa.credentials;
  const answer = await request(`${baseUrl}/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${demo.apiKey}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }] }),
  });
  const id = headerOf(answer, 'x-request-id');
  interrupted.add(id);
  const text = await answer.body.text();
  assert.equal(answer.statusCode, 200, text);
  JSON.parse(text);
  interrupted.delete(id);
  completed.add(id);
}

/** One streamed chat; its id once `[DONE]` was read. */
async function askStream(model: string): Promise<void> {
  const { baseUrl, demo } = stoa.credentials;
  const stream = await streamChat(baseUrl, demo.apiKey, { model });
  assert.equal(stream.status, 200);
  const id = headerOf(stream, 'x-request-id');
  interrupted.add(id);
  await stream.until('data: [DONE]');
  interrupted.delete(id);
  completed.add(id);
  await stream.whole().catch(() => undefined);
}

/** Whether an error is what a client gets when its server dies. */
function isDeath(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? String(error.code) : '';
  return (
    ['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'UND_ERR_SOCKET', 'UND_ERR_ABORTED'].includes(code) ||
    /ended without|terminated|other side closed|aborted/.test(error.message)
  );
}

/** Asks without pause until the server dies. */
async function load(random: () => number): Promise<void> {
  for (;;) {
    const model = models[Math.floor(random() * models.length)] ?? 'ok:60';
    sent += 1;
    try {
      await (random() < 0.5 ? askWhole(model) : askStream(model));
    } catch (error) {
      if (isDeath(error)) return;
      throw error;
    }
  }
}

/** A round: load, death at a random moment, start. */
async function round(random: () => number): Promise<void> {
  const enough = completed.size + answersBeforeDeath;
  const running = Promise.all(Array.from({ length: clients }, () => load(random)));
  const death = (async () => {
    while (completed.size < enough) await new Promise((resume) => setTimeout(resume, 5));
    await new Promise((resume) => setTimeout(resume, random() * longestDelayMs));
    await stoa.kill();
  })();
  await Promise.all([running, death]);
  await stoa.restart();
}

test(`${kills} times kill -9 under load: what a client saw completed has exactly one usage record, at once after each start`, {
  timeout: 900_000,
}, async (context) => {
  assert.ok(Number.isSafeInteger(kills) && kills > 0, 'STOA_TEST_KILLS must be a whole number');
  context.diagnostic(`seed ${seed}`);
  const random = randomNumbers(seed);
  const startedMs = performance.now();
  const proven = new Set<string>();
  for (let kill = 1; kill <= kills; kill += 1) {
    const sentBefore = sent;
    await round(random);
    for (const id of completed) {
      if (proven.has(id)) continue;
      const explained = await explain(stoa, id);
      assert.equal(explained.outcome, 'completed', id);
      assert.ok(explained.usage.output_tokens > 0 && !explained.usage.estimated, id);
      proven.add(id);
    }
    const { totals } = await readUsage(stoa);
    const counts = `kill ${kill}: ${totals.requests} records, ${completed.size} completed, ${sent} sent`;
    assert.ok(totals.requests >= completed.size, counts);
    assert.ok(totals.requests <= sent, counts);
    assert.ok(sent - sentBefore >= answersBeforeDeath, counts);
  }
  const seconds = ((performance.now() - startedMs) / 1_000).toFixed(1);
  context.diagnostic(
    `${kills} kills in ${seconds} s: ${sent} sent, ${completed.size} completed, ${interrupted.size} cut off after the head`,
  );
  console.log(
    `kill -9: seed ${seed}, ${kills} kills in ${seconds} s, ${sent} requests sent, ${completed.size} seen completed, ` +
      `${interrupted.size} cut off after the head`,
  );
  assert.ok(completed.size >= kills * answersBeforeDeath);
});

test('no request is recorded or counted twice, an interrupted one at most once, and the sums are those of the records', async () => {
  const records = new Map<string, { input: number; output: number }>();
  let after = '';
  for (;;) {
    const page = await listRequests(stoa, after);
    for (const { id, usage } of page) {
      assert.ok(!records.has(id), `${id} is listed twice`);
      records.set(id, { input: usage.input_tokens, output: usage.output_tokens });
    }
    const last = page.at(-1);
    if (page.length < 100 || !last) break;
    after = `&after=${last.id}`;
  }
  for (const id of completed) assert.ok(records.has(id), `${id} was seen completed and has no record`);
  const sum = { input: 0, output: 0 };
  for (const { input, output } of records.values()) {
    sum.input += input;
    sum.output += output;
  }
  const { totals } = await readUsage(stoa);
  assert.deepEqual(
    [totals.requests, totals.input_tokens, totals.output_tokens],
    [records.size, sum.input, sum.output],
  );
  assert.ok(records.size <= sent);
});

test('an interrupted request that has a record is told as failed, or as completed with its whole usage', async () => {
  for (const id of interrupted) {
    const answer = await stoa.call('GET', `/v1/requests/${id}`);
    if (answer.status === 404) continue;
    const explained = await explain(stoa, id);
    assert.ok(['failed', 'completed', 'client_cancelled'].includes(explained.outcome), explained.outcome);
    if (explained.outcome === 'completed') assert.ok(explained.usage.output_tokens > 0);
    else assert.notEqual(explained.error, null);
  }
});
