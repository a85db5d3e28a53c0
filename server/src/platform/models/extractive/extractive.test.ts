import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { silentLogger, systemClock } from '#kernel';
import { chatCall, collect, json, type Recorded, streamedText } from '../in-process/testing.ts';
import type { ModelCall } from '../types.ts';
import { extractive } from './extractive.ts';

const root = resolve(import.meta.dirname, '../../../../..');
const engine = extractive(
  { clock: systemClock, logger: silentLogger },
  { root, sources: ['README.md', 'ARCHITECTURE.md', 'docs'] },
);

const isolationQuestion = 'How are tenants isolated?';

async function ask(
  question: string,
  fields: Record<string, unknown> = {},
  using = engine,
): Promise<Recorded> {
  const body = { model: 'extractive', messages: [{ role: 'user', content: question }], ...fields };
  return collect(using, chatCall('extractive', body));
}

function citations(recorded: Recorded) {
  const list: unknown = Reflect.get(Object(Reflect.get(Object(json(recorded)), 'stoa')), 'citations');
  assert.ok(Array.isArray(list));
  return list.map((one: unknown) => {
    assert.ok(typeof one === 'object' && one !== null);
    const { file, line, start, end, quote } = Object.fromEntries(Object.entries(one));
    assert.ok(typeof file === 'string' && typeof quote === 'string');
    assert.ok(typeof line === 'number' && typeof start === 'number' && typeof end === 'number');
    return { file, line, start, end, quote };
  });
}

test('what a quotation cannot honour is refused by its name, with the setting that gives a generative model', async () => {
  const named = { type: 'function', function: { name: 'f' } };
  const listed = { type: 'allowed_tools', allowed_tools: { mode: 'required', tools: [named] } };
  const refused: readonly (readonly [param: string, value: unknown])[] = [
    ['n', 2],
    ['response_format', { type: 'json_object' }],
    ['response_format', { type: 'json_schema', json_schema: { name: 'x', schema: {} } }],
    ['tool_choice', 'required'],
    ['tool_choice', named],
    ['tool_choice', listed],
    ['function_call', { name: 'f' }],
  ];
  for (const [param, value] of refused) {
    for (const stream of [false, true]) {
      const { fault, chunks } = await ask(isolationQuestion, { tools: [named], stream, [param]: value });
      assert.deepEqual([fault?.kind, fault?.status, chunks.length], ['rejected', 400, 0], param);
      assert.deepEqual([fault?.rejection?.code, fault?.rejection?.param], ['unsupported_parameter', param]);
      assert.match(fault?.rejection?.message ?? '', new RegExp(`^${param}: .*STOA_OPENAI_BASE_URL`));
    }
  }
});

test('what leaves a plain answer open is answered', async () => {
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const fields = [
    { n: 1 },
    { n: null, response_format: null, tool_choice: null },
    { response_format: { type: 'text' } },
    { tools },
    { tools, tool_choice: 'auto' },
    { tools, tool_choice: 'none', function_call: 'auto' },
    { tools, tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools } } },
  ];
  for (const one of fields) {
    const recorded = await ask(isolationQuestion, one);
    assert.equal(recorded.fault, null, JSON.stringify(one));
    assert.ok(citations(recorded).length > 0);
  }
});

test('every sentence of the collection is byte for byte where it says it is', async () => {
  const sentences = (await engine.index()).all();
  assert.ok(sentences.length > 50);
  const files = new Map<string, string>();
  for (const { file, line, start, end, quote } of sentences) {
    const text = files.get(file) ?? (await readFile(join(root, file), 'utf8'));
    files.set(file, text);
    assert.equal(text.slice(start, end), quote);
    assert.equal(text.slice(0, start).split('\n').length, line);
    assert.equal(quote, quote.trim());
  }
});

test('a question about isolation is answered by true quotations of the page about it', async () => {
  const recorded = await ask(isolationQuestion);
  assert.equal(recorded.contentType, 'application/json');
  const found = citations(recorded);
  assert.ok(found.length >= 1 && found.length <= 3);
  const text = String(json(recorded, 'choices', 0, 'message', 'content'));
  for (const { file, line, start, end, quote } of found) {
    assert.equal((await readFile(join(root, file), 'utf8')).slice(start, end), quote);
    assert.ok(text.includes(`"${quote}" (${file}, line ${line})`));
  }
  assert.equal(found[0]?.file, 'docs/concepts/isolation.md');
  assert.match(found[0]?.quote ?? '', /isolated/);
  assert.equal(json(recorded, 'stoa', 'engine'), 'extractive');
  assert.equal(json(recorded, 'stoa', 'generative'), false);
  assert.equal(json(recorded, 'choices', 0, 'finish_reason'), 'stop');
});

test('what the collection does not answer is said to be so, without a quotation', async () => {
  const questions = [
    'What is the capital of France?',
    'Write a poem about the sea',
    'hello',
    'Reply with the single word pong',
    '???',
    '\u{1F600}',
    '地球は丸いですか',
  ];
  for (const question of questions) {
    const recorded = await ask(question);
    assert.match(
      String(json(recorded, 'choices', 0, 'message', 'content')),
      /^Nothing in the collection answers this/,
    );
    assert.deepEqual(citations(recorded), [], question);
  }
});

test('a stream says the same words, a few a frame: role first, then text, finish with citations, usage, DONE', async () => {
  const whole = await ask(isolationQuestion);
  const recorded = await ask(isolationQuestion, { stream: true });
  assert.equal(recorded.contentType, 'text/event-stream');
  const { text, frames } = streamedText(recorded);
  assert.equal(text, json(whole, 'choices', 0, 'message', 'content'));
  assert.ok(frames.length > 8);
  assert.deepEqual(json(frames[0], 'choices', 0, 'delta'), { role: 'assistant', content: '' });
  const finish = frames.at(-3);
  assert.equal(json(finish, 'choices', 0, 'finish_reason'), 'stop');
  assert.deepEqual(json(finish, 'stoa'), json(whole, 'stoa'));
  assert.deepEqual(json(frames.at(-2), 'choices'), []);
  assert.ok(Number(json(frames.at(-2), 'usage', 'completion_tokens')) > 0);
  assert.equal(frames.at(-1), '[DONE]');
  assert.equal(new Set(frames.slice(0, -1).map((frame) => json(frame, 'id'))).size, 1);
});

test('usage of the input is the estimate of the call, of the output a quarter of its bytes, and marked as an estimate', async () => {
  const recorded = await ask(isolationQuestion);
  const text = String(json(recorded, 'choices', 0, 'message', 'content'));
  assert.equal(json(recorded, 'usage', 'prompt_tokens'), 7);
  assert.equal(json(recorded, 'usage', 'completion_tokens'), Math.ceil(Buffer.byteLength(text) / 4));
  assert.equal(json(recorded, 'usage', 'estimated'), true);
});

test('an output limit costs quotations first, then words, and is said as `length`', async () => {
  const full = citations(await ask(isolationQuestion)).length;
  let fewest = full;
  for (const limit of [1, 2, 5, 20, 60, 90, 130, 10_000]) {
    for (const name of ['max_tokens', 'max_completion_tokens']) {
      const recorded = await ask(isolationQuestion, { [name]: limit });
      const text = String(json(recorded, 'choices', 0, 'message', 'content'));
      assert.ok(Math.ceil(Buffer.byteLength(text) / 4) <= limit, `${limit}: ${text}`);
      const found = citations(recorded);
      fewest = Math.min(fewest, found.length);
      for (const { quote } of found) assert.ok(text.includes(quote));
      const isShort = found.length < full;
      assert.equal(json(recorded, 'choices', 0, 'finish_reason'), isShort ? 'length' : 'stop', String(limit));
    }
  }
  assert.ok(full > 1 && fewest === 0);
});

test('the last user message is the question; its images and every other message are passed over', async () => {
  const content = [
    { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } },
    { type: 'text', text: isolationQuestion },
  ];
  const messages = [
    { role: 'system', content: 'You know the capital of France.' },
    { role: 'user', content: 'What is the capital of France?' },
    { role: 'user', content },
    { role: 'assistant', content: 'Let me see.' },
  ];
  const recorded = await ask('', {
    messages,
    tools: [{ type: 'function', function: { name: 'f' } }],
    tool_choice: 'auto',
  });
  assert.deepEqual(citations(recorded), citations(await ask(isolationQuestion)));
  const image = [content[0]];
  for (const odd of [[], [null], 'text', [{ role: 'user' }], [{ role: 'user', content: image }], undefined]) {
    const { fault } = await ask('', { messages: odd });
    assert.equal(fault?.kind, 'rejected');
    assert.match(fault.rejection?.message ?? '', /needs a message of role "user" with text/);
  }
});

test('a question of any length costs a few milliseconds', async () => {
  const index = await engine.index();
  const words = index.all().map((sentence) => sentence.quote);
  const question = words.join(' ').repeat(20);
  index.find(question, 3);
  const started = performance.now();
  for (let round = 0; round < 20; round++) index.find(question, 3);
  const perQuestionMs = (performance.now() - started) / 20;
  assert.ok(perQuestionMs < 25, `${perQuestionMs} ms`);
});

test('an answer that is cancelled ends at once with that fault, and one that is paused waits', async () => {
  const call: ModelCall = chatCall('extractive', {
    stream: true,
    messages: [{ role: 'user', content: isolationQuestion }],
  });
  const cancelled = await collect(engine, call, { cancelAfterChunks: 3 });
  assert.equal(cancelled.fault?.kind, 'cancelled');
  assert.equal(cancelled.chunks.length, 3);
  const paused = await collect(engine, call, { pauseAfterEachChunk: true });
  assert.equal(paused.fault, null);
  assert.equal(streamedText(paused).text, streamedText(await collect(engine, call)).text);
});

test('embeddings are refused as a request that this model does not take', async () => {
  const recorded = await collect(engine, {
    ...chatCall('extractive', { input: 'x' }),
    operation: 'embeddings',
  });
  assert.equal(recorded.fault?.kind, 'rejected');
  assert.equal(recorded.fault?.rejection?.param, 'model');
});

test('a collection with missing, binary and oversized files is what is left of it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'stoa-collection-'));
  try {
    await mkdir(join(folder, 'docs', 'deep'), { recursive: true });
    await writeFile(join(folder, 'docs', 'deep', 'good.md'), 'The pelican is a bird with a large beak.\n');
    await writeFile(join(folder, 'docs', 'binary.md'), Buffer.from([0xff, 0xfe, 0x00, 0xd8]));
    await writeFile(join(folder, 'docs', 'huge.md'), 'The walrus is a large mammal. '.repeat(20_000));
    await writeFile(join(folder, 'docs', 'note.txt'), 'The ostrich is a bird that runs fast.');
    const small = extractive(
      { clock: systemClock, logger: silentLogger },
      { root: folder, sources: ['missing.md', 'docs', 'docs/deep/good.md'] },
    );
    assert.deepEqual((await small.index()).files, ['docs/deep/good.md']);
    assert.equal(citations(await ask('What is a pelican?', {}, small))[0]?.file, 'docs/deep/good.md');
    const empty = extractive({ clock: systemClock, logger: silentLogger }, { root: folder, sources: [] });
    const answer = await ask('What is a pelican?', {}, empty);
    assert.match(String(json(answer, 'choices', 0, 'message', 'content')), /holds no documents/);
  } finally {
    await rm(folder, { recursive: true });
  }
});
