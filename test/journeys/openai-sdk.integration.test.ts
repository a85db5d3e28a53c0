/**
 * The official `openai` package, unchanged, pointed at Stoa with a tenant's key: what an application that exists already
 * does on its first day here.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI, {
  APIError,
  APIUserAbortError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
} from 'openai';
import {
  createMisbehavingUpstream,
  type MisbehavingUpstream,
} from '../../server/src/testing/misbehaving-upstream.ts';
import { explain, listRequests } from './answer-shapes.ts';
import { eventually, startStoa, type StoaProcess } from './stoa-process.ts';

let upstream: MisbehavingUpstream;
let stoa: StoaProcess;
let client: OpenAI;

const script = `
models: [{ id: tooled }, { id: vectors, kind: embedding, dimensions: 5 }]
rules:
  - when: { text: weather }
    reply: Let me look.
    tool_calls:
      - { name: get_weather, arguments: { city: Athens, days: 2 } }
      - { name: get_time, arguments: { zone: Europe/Athens } }
    tokens: { input: 42, output: 12, cached_input: 32 }
  - reply: ["Stoa", " is a", " covered walk."]
    tokens: { input: 5, output: 7 }
`;

const weatherTool = {
  type: 'function',
  function: { name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
} as const;

before(async () => {
  upstream = await createMisbehavingUpstream({
    listed: [
      'ok',
      'ok:40',
      'vendor/ok-embedding',
      'throttle',
      '400',
      'error-frame',
      'endless',
      'html',
      'reset',
    ],
    modes: { 'vendor/ok-embedding': 'ok-embedding' },
  });
  stoa = await startStoa({ script, env: { STOA_OPENAI_BASE_URL: upstream.url } });
  client = clientWith(stoa.credentials.demo.apiKey);
});

after(async () => {
  await stoa.dispose();
  await upstream.close();
});

function clientWith(apiKey: string, maxRetries = 0): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${stoa.credentials.baseUrl}/v1`, maxRetries });
}

const messages = [{ role: 'user', content: 'Hello' } as const];
const weather = [{ role: 'user', content: 'How is the weather?' } as const];

/** Name and arguments of a tool call of the SDK. */
function told(call: OpenAI.ChatCompletionMessageToolCall): [string, unknown] {
  if (call.type !== 'function') throw new Error(`a call of the kind ${call.type}`);
  const read: unknown = JSON.parse(call.function.arguments);
  return [call.function.name, read];
}

/** What the call rejects with, which has to be one of the SDK's own errors of the class. */
async function failure<Kind extends APIError>(
  kind: abstract new (...parts: never[]) => Kind,
  call: Promise<unknown>,
): Promise<Kind> {
  const thrown: unknown = await call.then(
    () => null,
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof kind, `expected ${kind.name}, got ${String(thrown)}`);
  return thrown;
}

test('a chat is answered whole, with its usage and a request id that can be asked about at once', async () => {
  const { data, request_id: requestId } = await client.chat.completions
    .create({ model: 'ok', messages })
    .withResponse();
  assert.equal(data.choices[0]?.message.content, 'w0 w1 w2 ');
  assert.deepEqual(data.usage, { prompt_tokens: 9, completion_tokens: 3, total_tokens: 12 });
  assert.match(requestId ?? '', /^req_[0-9a-z]{26}$/);
  const explained = await explain(stoa, requestId ?? '');
  assert.equal(explained.outcome, 'completed');
  assert.equal(explained.usage.output_tokens, 3);
});

test('a chat is streamed word by word; its usage comes only where it was asked for', async () => {
  const plain = await client.chat.completions.create({ model: 'ok', messages, stream: true });
  let text = '';
  for await (const chunk of plain) {
    text += chunk.choices[0]?.delta.content ?? '';
    assert.equal(chunk.usage ?? null, null, 'nobody asked for the usage');
    assert.equal(chunk.choices.length, 1);
  }
  assert.equal(text, 'w0 w1 w2 ');

  const counted = await client.chat.completions.create({
    model: 'ok:40',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of counted) chunks.push(chunk);
  const last = chunks.at(-1);
  assert.deepEqual(last?.choices, []);
  assert.deepEqual(last?.usage, { prompt_tokens: 9, completion_tokens: 40, total_tokens: 49 });
  assert.equal(chunks.filter((chunk) => chunk.usage).length, 1);
});

test('the stream helper of the SDK puts the whole answer together', async () => {
  const stream = client.chat.completions.stream({ model: 'tooled', messages });
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0]?.message.content, 'Stoa is a covered walk.');
  assert.equal(whole.choices[0]?.finish_reason, 'stop');
});

test('tool calls arrive whole and streamed, with the same names and arguments', async () => {
  const whole = await client.chat.completions.create({
    model: 'tooled',
    messages: weather,
    tools: [weatherTool],
  });
  const calls = whole.choices[0]?.message.tool_calls ?? [];
  const wanted = [
    ['get_weather', { city: 'Athens', days: 2 }],
    ['get_time', { zone: 'Europe/Athens' }],
  ];
  assert.deepEqual(calls.map(told), wanted);
  assert.equal(whole.choices[0]?.finish_reason, 'tool_calls');
  assert.equal(whole.usage?.prompt_tokens_details?.cached_tokens, 32);

  const stream = client.chat.completions.stream({ model: 'tooled', messages: weather, tools: [weatherTool] });
  const streamed = await stream.finalChatCompletion();
  assert.deepEqual(streamed.choices[0]?.message.tool_calls?.map(told), wanted);
});

test('a tool result, an image and a response_format reach the provider as they were written', async () => {
  const body: OpenAI.ChatCompletionCreateParamsNonStreaming = {
    model: 'ok',
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What is this?' },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,iVBORw0KGgo=', detail: 'low' } },
        ],
      },
      {
        role: 'assistant',
        content: null,
        tool_calls: [{ id: 'call_1', type: 'function', function: { name: 'look', arguments: '{"at":1}' } }],
      },
      { role: 'tool', tool_call_id: 'call_1', content: '{"seen":9007199254740993}' },
    ],
    response_format: {
      type: 'json_schema',
      json_schema: { name: 'thing', strict: true, schema: { type: 'object' } },
    },
    n: 1,
    logit_bias: { '50256': -100 },
  };
  await client.chat.completions.create(body);
  assert.deepEqual(JSON.parse(upstream.requests.at(-1)?.bodyText ?? ''), body);
});

test('the engine that only quotes refuses what it cannot honour: several answers, JSON, a tool that must be called', async () => {
  const messages = [{ role: 'user', content: 'How are tenants isolated?' }] as const;
  const ask = (wanted: Partial<OpenAI.ChatCompletionCreateParams>) =>
    client.chat.completions.create({ model: 'extractive', ...wanted, messages: [...messages] });
  const refused: Partial<OpenAI.ChatCompletionCreateParams>[] = [
    { n: 2 },
    { response_format: { type: 'json_object' } },
    { response_format: { type: 'json_schema', json_schema: { name: 'thing', schema: {} } }, stream: true },
    { tool_choice: 'required', tools: [weatherTool] },
    { tool_choice: { type: 'function', function: { name: 'get_weather' } }, tools: [weatherTool] },
  ];
  for (const wanted of refused) {
    await assert.rejects(ask(wanted), (error) => {
      assert.ok(error instanceof BadRequestError);
      assert.deepEqual([error.code, error.param], ['unsupported_parameter', Object.keys(wanted)[0]]);
      assert.match(error.message, /STOA_OPENAI_BASE_URL/);
      return true;
    });
  }
  for (const choice of ['auto', 'none'] as const) {
    const answered = await client.chat.completions.create({
      model: 'extractive',
      messages: [...messages],
      tools: [weatherTool],
      tool_choice: choice,
    });
    assert.match(answered.choices[0]?.message.content ?? '', /These are quotations/);
  }
});

test('embeddings come as floats, whatever encoding the SDK asks for by itself or by request', async () => {
  const asBase64 = await client.embeddings.create({ model: 'vendor/ok-embedding', input: 'one' });
  assert.deepEqual(asBase64.data[0]?.embedding, [0.25, -0.5, 1]);
  const asFloat = await client.embeddings.create({
    model: 'vendor/ok-embedding',
    input: ['one'],
    encoding_format: 'float',
  });
  assert.deepEqual(asFloat.data[0]?.embedding, [0.25, -0.5, 1]);
  assert.equal(asFloat.usage.prompt_tokens, 3);
  const inProcess = await client.embeddings.create({ model: 'vectors', input: ['one', 'two'] });
  assert.deepEqual(
    inProcess.data.map(({ index, embedding }) => [index, embedding.length]),
    [
      [0, 5],
      [1, 5],
    ],
  );
});

test('models are listed and read by the SDK, a slash in an id among them', async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  for (const id of ['ok', 'tooled', 'vectors', 'extractive', 'vendor/ok-embedding']) {
    assert.ok(ids.includes(id), `${id} is not among ${ids.join(', ')}`);
    assert.equal((await client.models.retrieve(id)).id, id);
  }
  const missing = await failure(NotFoundError, client.models.retrieve('nowhere'));
  assert.equal(missing.code, 'model_not_found');
});

test('each refusal has the class and the code that the SDK knows', async () => {
  const strange = await failure(
    AuthenticationError,
    clientWith('sk-not-one-of-ours').chat.completions.create({ model: 'ok', messages }),
  );
  assert.equal(strange.code, 'invalid_api_key');

  const missing = await failure(
    NotFoundError,
    client.chat.completions.create({ model: 'nowhere', messages }),
  );
  assert.deepEqual([missing.code, missing.param], ['model_not_found', 'model']);
  assert.match(missing.requestID ?? '', /^req_/);

  const throttled = await failure(
    RateLimitError,
    client.chat.completions.create({ model: 'throttle', messages }),
  );
  assert.equal(throttled.code, 'provider_throttled');
  assert.ok(Number(throttled.headers.get('retry-after')) >= 1);

  const empty = await failure(BadRequestError, client.chat.completions.create({ model: 'ok', messages: [] }));
  assert.deepEqual([empty.code, empty.param], ['invalid_request', 'messages']);
  const rejected = await failure(BadRequestError, client.chat.completions.create({ model: '400', messages }));
  assert.deepEqual([rejected.code, rejected.param], ['provider_rejected', 'temperature']);

  const { apiKey } = await stoa.newTenant('viewer only', 'viewer');
  const denied = await failure(
    PermissionDeniedError,
    clientWith(apiKey).chat.completions.create({ model: 'ok', messages }),
  );
  assert.equal(denied.code, 'permission_denied');

  const unbuilt = await failure(NotFoundError, client.responses.create({ model: 'ok', input: 'Hello' }));
  assert.equal(unbuilt.code, 'unsupported_endpoint');
  assert.match(unbuilt.message, /chat\/completions/);
});

test('an error in the middle of a stream is raised, after the words that came before it', async () => {
  const stream = await client.chat.completions.create({ model: 'error-frame', messages, stream: true });
  let text = '';
  const thrown: unknown = await (async () => {
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
    return null;
  })().catch((error: unknown) => error);
  assert.ok(thrown instanceof APIError, String(thrown));
  assert.equal(thrown.code, 'provider_error');
  assert.equal(text, 'a');
});

test('an abort ends the call at the provider within 2 s, and the request is on record as cancelled', async () => {
  const abort = new AbortController();
  const { data: stream, request_id: requestId } = await client.chat.completions
    .create({ model: 'endless', messages, stream: true }, { signal: abort.signal })
    .withResponse();
  for await (const chunk of stream) {
    assert.match(chunk.choices[0]?.delta.content ?? '', /more/);
    break;
  }
  abort.abort();
  const call = upstream.requests.findLast(({ model }) => model === 'endless');
  await eventually('cancelled call at the provider', async () => call?.isAborted, 2_000);
  const explained = await eventually('record', () => explain(stoa, requestId ?? '').catch(() => null), 2_000);
  assert.equal(explained.outcome, 'client_cancelled');
  assert.ok(explained.usage.output_tokens > 0, 'what was delivered is counted');
  assert.equal(explained.usage.estimated, true);

  const early = new AbortController();
  const waiting = client.chat.completions.create({ model: 'endless', messages }, { signal: early.signal });
  early.abort();
  await failure(APIUserAbortError, waiting);
});

test('the SDK retries by itself only where no money may have been spent', async () => {
  const retrying = clientWith(stoa.credentials.demo.apiKey, 1);
  await failure(InternalServerError, retrying.chat.completions.create({ model: 'html', messages }));
  const spent = await listRequests(stoa, '&model=html');
  assert.equal(spent.length, 1, 'the provider worked on it, so x-should-retry is false');
  await failure(InternalServerError, retrying.chat.completions.create({ model: 'reset', messages }));
  const free = await listRequests(stoa, '&model=reset');
  assert.equal(free.length, 2, 'nothing was sent, so the SDK may try again');
});
