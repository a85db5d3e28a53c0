/** Vercel's AI SDK, unchanged, with both providers that an application would choose for Stoa. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import {
  APICallError,
  embed,
  embedMany,
  type EmbeddingModel,
  generateText,
  isStepCount,
  type LanguageModel,
  Output,
  streamText,
  tool,
} from 'ai';
import { z } from 'zod';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { listRequests } from './answer-shapes.ts';
import { eventually, startStoa, type StoaProcess } from './stoa-process.ts';

let upstream: MisbehavingUpstream;
let stoa: StoaProcess;

const script = `
models: [{ id: tooled }, { id: structured }, { id: vectors, kind: embedding, dimensions: 5 }]
rules:
  - when: { model: structured }
    reply: '{"city":"Athens","celsius":31}'
${`
  - { when: { text: weather }, times: 1, tool_calls: [{ name: get_weather, arguments: { city: Athens } }] }
  - { when: { text: weather }, times: 1, reply: ["It is", " sunny", " in Athens."] }
`.repeat(4)}
`;

interface Models {
  readonly chat: (id: string) => Exclude<LanguageModel, string>;
  readonly embedding: (id: string) => Exclude<EmbeddingModel, string>;
}

/** Both ways into the AI SDK, with the demo tenant's key or another. */
function providers(apiKey = stoa.credentials.demo.apiKey): [name: string, models: Models][] {
  const baseURL = `${stoa.credentials.baseUrl}/v1`;
  const compatible = createOpenAICompatible({
    name: 'stoa',
    baseURL,
    apiKey,
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
  const openai = createOpenAI({ baseURL, apiKey });
  return [
    [
      '@ai-sdk/openai-compatible',
      { chat: (id) => compatible.chatModel(id), embedding: (id) => compatible.embeddingModel(id) },
    ],
    ['@ai-sdk/openai', { chat: (id) => openai.chat(id), embedding: (id) => openai.embeddingModel(id) }],
  ];
}

before(async () => {
  upstream = await createMisbehavingUpstream({
    listed: ['ok', 'ok-embedding', 'error-frame', 'html', 'throttle', 'endless'],
  });
  stoa = await startStoa({ script, env: { STOA_OPENAI_BASE_URL: upstream.url } });
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

test('generateText gives the text, the reason to stop and the usage', async () => {
  for (const [name, { chat }] of providers()) {
    const answer = await generateText({ model: chat('ok'), prompt: 'Hello', maxRetries: 0 });
    assert.equal(answer.text, 'w0 w1 w2 ', name);
    assert.equal(answer.finishReason, 'stop', name);
    assert.deepEqual([answer.usage.inputTokens, answer.usage.outputTokens], [9, 3], name);
  }
});

test('streamText gives the words one by one, and the usage behind them', async () => {
  for (const [name, { chat }] of providers()) {
    const answer = streamText({ model: chat('ok'), prompt: 'Hello', maxRetries: 0 });
    const words = [];
    for await (const word of answer.textStream) words.push(word);
    assert.equal(words.join(''), 'w0 w1 w2 ', name);
    assert.ok(words.length > 1, `${name}: the words came at once`);
    const usage = await answer.usage;
    assert.deepEqual([usage.inputTokens, usage.outputTokens], [9, 3], name);
  }
});

test('a tool is called with its arguments and its result leads to the answer, whole and streamed', async () => {
  for (const [name, { chat }] of providers()) {
    const asked: string[] = [];
    const getWeather = tool({
      description: 'The weather of a city',
      inputSchema: z.object({ city: z.string() }),
      execute: ({ city }) => {
        asked.push(city);
        return { sky: 'sunny' };
      },
    });
    const options = {
      model: chat('tooled'),
      tools: { get_weather: getWeather },
      stopWhen: isStepCount(2),
      maxRetries: 0,
    };
    const whole = await generateText({ ...options, prompt: 'How is the weather?' });
    assert.deepEqual(asked, ['Athens'], name);
    assert.deepEqual(
      whole.steps.map(({ finishReason }) => finishReason),
      ['tool-calls', 'stop'],
      name,
    );
    assert.equal(whole.text, 'It is sunny in Athens.', name);
    const streamed = streamText({ ...options, prompt: 'How is the weather?' });
    assert.equal(await streamed.text, 'It is sunny in Athens.', name);
    assert.deepEqual(asked, ['Athens', 'Athens'], name);
    assert.deepEqual((await streamed.steps)[0]?.toolResults[0]?.output, { sky: 'sunny' }, name);
  }
});

test('an object comes back by its schema, and the schema went to the provider as response_format', async () => {
  const schema = z.object({ city: z.string(), celsius: z.number() });
  for (const [name, { chat }] of providers()) {
    const answer = await generateText({
      model: chat('structured'),
      prompt: 'Hello',
      output: Output.object({ schema }),
      maxRetries: 0,
    });
    assert.deepEqual(answer.output, { city: 'Athens', celsius: 31 }, name);
    await generateText({
      model: chat('ok'),
      prompt: 'Hello',
      output: Output.object({ schema }),
      maxRetries: 0,
    }).catch(() => undefined);
    const sent = z
      .object({
        response_format: z.object({
          type: z.literal('json_schema'),
          json_schema: z.object({ schema: z.object({ required: z.array(z.string()) }) }),
        }),
      })
      .parse(JSON.parse(upstream.requests.at(-1)?.bodyText ?? ''));
    assert.deepEqual(sent.response_format.json_schema.schema.required, ['city', 'celsius'], name);
  }
});

test('embed and embedMany give vectors and their usage', async () => {
  for (const [name, { embedding }] of providers()) {
    const one = await embed({ model: embedding('ok-embedding'), value: 'one', maxRetries: 0 });
    assert.deepEqual(one.embedding, [0.25, -0.5, 1], name);
    assert.equal(one.usage.tokens, 3, name);
    const many = await embedMany({ model: embedding('vectors'), values: ['a', 'b', 'c'], maxRetries: 0 });
    assert.deepEqual(
      many.embeddings.map((vector) => vector.length),
      [5, 5, 5],
      name,
    );
  }
});

test('an error is an APICallError with our status and our message, and is retryable only where that is safe', async () => {
  const cases: [model: string, status: number, message: RegExp][] = [
    ['nowhere', 404, /nowhere/],
    ['throttle', 429, /no more requests/],
    ['html', 502, /cannot be read/],
  ];
  for (const [name, { chat }] of providers()) {
    for (const [model, status, message] of cases) {
      const thrown: unknown = await generateText({
        model: chat(model),
        prompt: 'Hello',
        maxRetries: 0,
      }).catch((error: unknown) => error);
      assert.ok(APICallError.isInstance(thrown), `${name} ${model}: ${String(thrown)}`);
      assert.equal(thrown.statusCode, status, `${name} ${model}`);
      assert.match(thrown.message, message, `${name} ${model}`);
    }
  }
  for (const [name, { chat }] of providers('stoa_sk_nobody')) {
    const thrown: unknown = await generateText({ model: chat('ok'), prompt: 'Hello' }).catch(
      (error: unknown) => error,
    );
    assert.ok(APICallError.isInstance(thrown), name);
    assert.deepEqual([thrown.statusCode, thrown.isRetryable], [401, false], name);
  }
});

test('an error in the middle of a stream is raised in the stream, after the words before it', async () => {
  for (const [name, { chat }] of providers()) {
    const raised: unknown[] = [];
    const answer = streamText({
      model: chat('error-frame'),
      prompt: 'Hello',
      maxRetries: 0,
      onError: ({ error }) => {
        raised.push(error);
      },
    });
    let text = '';
    for await (const part of answer.stream) {
      if (part.type === 'text-delta') text += part.text;
      if (part.type === 'error') raised.push(part.error);
    }
    assert.equal(text, 'a', name);
    assert.match(JSON.stringify(raised), /provider_error|failed to answer/, name);
  }
});

test('an abort is on record as cancelled', async () => {
  const [, models] = providers()[0] ?? [];
  assert.ok(models);
  const abort = new AbortController();
  const answer = streamText({
    model: models.chat('endless'),
    prompt: 'Hello',
    abortSignal: abort.signal,
    maxRetries: 0,
    onError: () => undefined,
  });
  for await (const word of answer.textStream) {
    assert.match(word, /more/);
    abort.abort();
    break;
  }
  const record = await eventually(
    'record',
    async () => (await listRequests(stoa, '&model=endless'))[0],
    2_000,
  );
  assert.equal(record.outcome, 'client_cancelled');
});
