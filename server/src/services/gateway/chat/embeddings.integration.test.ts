import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { manualClock } from '#kernel';
import {
  type ChatServer,
  DrivenProvider,
  openChatServer,
  pass,
  post,
  testTarget,
} from './chat-path.harness.ts';

let server: ChatServer | null = null;
const provider = new DrivenProvider();
const clock = manualClock();

afterEach(async () => {
  await server?.close();
  server = null;
});

async function open(): Promise<ChatServer> {
  const targets = [testTarget({ id: 'talker' }), testTarget({ id: 'vectors', kind: 'embedding' })];
  server = await openChatServer({ targets, provider, clock });
  return server;
}

const floats = [0.25, -0.5, 1];
const base64 = 'AACAPgAAAL8AAIA/';
const list = (embedding: unknown): object => ({
  object: 'list',
  model: 'vectors',
  data: [{ object: 'embedding', index: 0, embedding }],
  usage: { prompt_tokens: 3, total_tokens: 3 },
});

test('vectors come in the encoding that the client asked for, whatever the provider sends', async () => {
  const { url, journal } = await open();
  let calls = provider.calls.length;
  for (const [asked, sent, expected] of [
    ['base64', floats, base64],
    ['base64', base64, base64],
    ['float', base64, floats],
    [undefined, base64, floats],
    [undefined, floats, floats],
  ]) {
    const asking = post(url, '/v1/embeddings', { model: 'auto', input: 'hi', encoding_format: asked });
    const call = await provider.nth((calls += 1));
    assert.equal(call.call.target.id, 'vectors', 'auto is the first embedding target');
    assert.equal(call.call.operation, 'embeddings');
    call.answer(list(sent));
    const answer = await asking;
    assert.deepEqual(JSON.parse(await answer.whole), list(expected));
    assert.equal(answer.headers['x-stoa-target'], 'vectors');
  }
  const record = journal.settled.at(-1);
  assert.deepEqual(
    [record?.endpoint, record?.usage.input_tokens, record?.usage.output_tokens, record?.cost_femto],
    ['embeddings', 3, 0, '3'],
  );
});

test('auto without an embedding model is a final 404 that says so, since trying again finds none', async () => {
  server = await openChatServer({ targets: [testTarget({ id: 'talker' })], provider, clock });
  const answer = await post(server.url, '/v1/embeddings', { model: 'auto', input: 'hi' });
  const body = await answer.whole;
  assert.equal(answer.status, 404);
  assert.match(body, /"code":"model_not_found"/);
  assert.match(body, /No embedding model is open to you/);
  assert.equal(answer.headers['retry-after'], undefined);
});

test('empty vectors are a fault of the provider, not an answer', async () => {
  const { url, chat } = await open();
  const calls = provider.calls.length;
  const asking = post(url, '/v1/embeddings', { model: 'vectors', input: 'hi' });
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    (await provider.nth(calls + attempt)).answer(list([]));
    pass(chat, clock, 400);
  }
  assert.equal((await asking).status, 502);
});

test('the Responses API says where to go instead', async () => {
  const { url } = await open();
  const answer = await post(url, '/v1/responses', { model: 'auto', input: 'hi' });
  const text = await answer.whole;
  assert.equal(answer.status, 404);
  assert.ok(text.includes('"code":"unsupported_endpoint"') && text.includes('POST /v1/chat/completions'));
});
