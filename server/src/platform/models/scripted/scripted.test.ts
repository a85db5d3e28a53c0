import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { AppError, systemClock } from '#kernel';
import type { StartTimer } from '../in-process/exchange.ts';
import { chatCall, collect, json, type Recorded, streamedText } from '../in-process/testing.ts';
import type { ModelProvider } from '../types.ts';
import { chanceOf, drawDelay, unitVector } from './chance.ts';
import { loadScript, parseScript } from './script.ts';
import { playScript } from './scripted.ts';

/** A timer whose waits end at once and are written down. */
function recordingTimer(): { readonly waits: number[]; readonly startTimer: StartTimer } {
  const waits: number[] = [];
  return {
    waits,
    startTimer(fn, delayMs) {
      waits.push(delayMs);
      const turn = setImmediate(fn);
      return () => clearImmediate(turn);
    },
  };
}

function engineOf(yaml: string, startTimer: StartTimer = recordingTimer().startTimer): ModelProvider {
  return playScript({ clock: systemClock, startTimer }, parseScript(yaml, 'test.yaml'));
}

const models = 'models: [{ id: m }, { id: other }, { id: e, kind: embedding, dimensions: 4 }]\n';

function say(engine: ModelProvider, text: string, fields: Record<string, unknown> = {}): Promise<Recorded> {
  return collect(engine, chatCall('m', { messages: [{ role: 'user', content: text }], ...fields }));
}

const content = (recorded: Recorded): unknown => json(recorded, 'choices', 0, 'message', 'content');

test('the first rule that fits the model and the text answers', async () => {
  const engine = engineOf(`${models}rules:
  - { when: { model: other }, reply: from other }
  - { when: { text: "/^he(l+)o/i" }, reply: "greeting: {{last_user_message}}" }
  - { when: { text: lo }, reply: [b, c] }
`);
  assert.equal(content(await say(engine, 'HELLO $& there')), 'greeting: HELLO $& there');
  assert.equal(content(await say(engine, 'so low')), 'bc');
  assert.match(String(content(await say(engine, 'x'))), /^No rule of the script/);
  const other = await collect(engine, chatCall('other', { messages: [{ role: 'user', content: 'hello' }] }));
  assert.equal(content(other), 'from other');
});

test('text is looked for in the first 4 KiB of the message', async () => {
  const engine = engineOf(`${models}rules: [{ when: { text: needle }, reply: found }]`);
  assert.equal(content(await say(engine, `${'x'.repeat(4000)}needle`)), 'found');
  assert.match(String(content(await say(engine, `${'x'.repeat(4096)}needle`))), /^No rule/);
});

test('a stream has a role, the chunks of the reply as they are, finish, usage and DONE', async () => {
  const engine = engineOf(
    `${models}rules: [{ reply: [one, " two", ""], tokens: { input: 5, output: 2, cached_input: 4, reasoning: 1 } }]`,
  );
  const { frames, text } = streamedText(await say(engine, 'x', { stream: true }));
  assert.equal(text, 'one two');
  assert.equal(frames.length, 7);
  assert.equal(json(frames[4], 'choices', 0, 'finish_reason'), 'stop');
  assert.deepEqual(json(frames[5], 'usage'), {
    prompt_tokens: 5,
    completion_tokens: 2,
    total_tokens: 7,
    prompt_tokens_details: { cached_tokens: 4 },
    completion_tokens_details: { reasoning_tokens: 1 },
  });
  assert.equal(frames[6], '[DONE]');
});

test('usage is left out where the script says so, streamed and whole', async () => {
  const engine = engineOf(`${models}rules: [{ reply: x, tokens: omit }]`);
  assert.equal(json(await say(engine, 'x'), 'usage'), undefined);
  const { frames } = streamedText(await say(engine, 'x', { stream: true }));
  assert.ok(!frames.join('').includes('usage'));
  assert.equal(frames.at(-1), '[DONE]');
});

test('tool calls come whole and as deltas that add up', async () => {
  const engine = engineOf(
    `${models}rules: [{ tool_calls: [{ name: weather, arguments: { city: Athens } }, { name: raw, arguments: "{" }] }]`,
  );
  const whole = await say(engine, 'x');
  assert.equal(json(whole, 'choices', 0, 'finish_reason'), 'tool_calls');
  assert.equal(content(whole), null);
  assert.equal(
    json(whole, 'choices', 0, 'message', 'tool_calls', 0, 'function', 'arguments'),
    '{"city":"Athens"}',
  );
  const { frames } = streamedText(await say(engine, 'x', { stream: true }));
  const deltas = frames.slice(0, -1).flatMap((frame) => {
    const list: unknown = json(frame, 'choices', 0, 'delta', 'tool_calls');
    return Array.isArray(list) ? list.map((one: unknown) => one) : [];
  });
  const joined = deltas
    .filter((delta) => json(delta, 'index') === 0)
    .map((delta) => String(json(delta, 'function', 'arguments')))
    .join('');
  assert.equal(joined, '{"city":"Athens"}');
  assert.equal(json(deltas[0], 'function', 'name'), 'weather');
  assert.equal(json(frames.at(-3), 'choices', 0, 'finish_reason'), 'tool_calls');
});

test('faults are told as the adapter of a real provider tells them', async () => {
  const engine = engineOf(`${models}rules:
  - { when: { text: "500" }, error: { status: 500, body: boom } }
  - { when: { text: "400" }, error: { status: 400, body: { error: { message: too odd, type: invalid_request_error, code: odd, param: messages } } } }
  - { when: { text: "401" }, error: { status: 401, body: { error: { message: no } } } }
  - { when: { text: "503" }, error: { status: 503, headers: { Retry-After: "3" } } }
  - { when: { text: throttle }, throttle: { retry_after: 1.5 } }
  - { when: { text: gone }, unreachable: true }
  - { when: { text: empty }, empty: true }
  - { when: { text: html }, raw: { content_type: text/html, chunks: ["<html>"] } }
`);
  const fault = async (text: string) => {
    const recorded = await say(engine, text);
    assert.deepEqual(recorded.chunks, []);
    assert.equal(recorded.contentType, null);
    return recorded.fault;
  };
  assert.partialDeepStrictEqual(await fault('500'), { kind: 'status', status: 500 });
  assert.partialDeepStrictEqual(await fault('400'), {
    kind: 'rejected',
    status: 400,
    rejection: { code: 'odd', param: 'messages', message: 'too odd' },
  });
  assert.partialDeepStrictEqual(await fault('401'), { kind: 'credential', status: 401 });
  assert.partialDeepStrictEqual(await fault('503'), { kind: 'status', status: 503, retryAfterMs: 3000 });
  assert.partialDeepStrictEqual(await fault('throttle'), {
    kind: 'throttled',
    status: 429,
    retryAfterMs: 1500,
  });
  assert.equal((await fault('gone'))?.kind, 'unreachable');
  assert.equal((await fault('empty'))?.kind, 'empty');
  assert.equal((await fault('html'))?.kind, 'unreadable');
});

test('an answer is cut after so many chunks, and 0 is before the head', async () => {
  const engine = engineOf(`${models}rules:
  - { when: { text: early }, cut: {} }
  - { when: { text: late }, reply: hi, cut: { after_chunks: 1000 } }
  - { reply: [one, two, three], cut: { after_chunks: 2 } }
`);
  const early = await say(engine, 'early', { stream: true });
  assert.deepEqual([early.contentType, early.fault?.kind], [null, 'cut']);
  const middle = await say(engine, 'x', { stream: true });
  assert.deepEqual([middle.chunks.length, middle.fault?.kind], [2, 'cut']);
  const whole = await say(engine, 'x');
  assert.deepEqual([whole.chunks.length, whole.fault?.kind], [2, 'cut']);
  assert.equal((await say(engine, 'late', { stream: true })).fault?.kind, 'cut');
});

test('a stall holds until it is cancelled', async () => {
  const engine = engineOf(`${models}rules: [{ reply: [one, two], stall: { after_chunks: 2 } }]`);
  let chunks = 0;
  const kind = await new Promise((resolve) => {
    const exchange = engine.call(chatCall('m', { stream: true }), {
      onHead: () => undefined,
      onData() {
        chunks++;
        if (chunks === 2)
          for (let turn = 0; turn < 20; turn++) setImmediate(() => turn === 19 && exchange.cancel());
        return true;
      },
      onEnd: () => resolve('end'),
      onFault: (fault) => resolve(fault.kind),
    });
  });
  assert.deepEqual([chunks, kind], [2, 'cancelled']);
});

test('cancelling ends a wait and leaves no timer behind', async () => {
  let running = 0;
  const engine = engineOf(
    `${models}rules: [{ latency: { first_byte: { distribution: fixed, ms: 60000 } } }]`,
    () => {
      running++;
      return () => {
        running--;
      };
    },
  );
  const kind = await new Promise((resolve) => {
    const exchange = engine.call(chatCall('m', {}), {
      onHead: () => resolve('head'),
      onData: () => true,
      onEnd: () => resolve('end'),
      onFault: (fault) => resolve(fault.kind),
    });
    setImmediate(() => setImmediate(() => exchange.cancel()));
  });
  assert.deepEqual([kind, running], ['cancelled', 0]);
});

test('raw bytes go out as they are, and a stream may end without DONE', async () => {
  const engine = engineOf(`${models}rules:
  - { when: { text: raw }, raw: { chunks: ["data: {\\"choices\\":[", "\\n\\nnonsense"] } }
  - { reply: [one], no_end: true }
`);
  const raw = await say(engine, 'raw', { stream: true });
  assert.equal(Buffer.concat([...raw.chunks]).toString(), 'data: {"choices":[\n\nnonsense');
  const open = streamedText(await say(engine, 'x', { stream: true }));
  assert.deepEqual([open.text, open.frames.length], ['one', 2]);
});

test('a rule with `times` answers so often, then the next one does', async () => {
  const engine = engineOf(`${models}rules: [{ times: 2, error: { status: 500 } }, { reply: fine }]`);
  const kinds = [];
  for (let call = 0; call < 4; call++) kinds.push((await say(engine, 'x')).fault?.kind ?? 'fine');
  assert.deepEqual(kinds, ['status', 'status', 'fine', 'fine']);
});

test('delays follow the seed, the rule and how often it was used, and nothing else', async () => {
  const yaml = (seed: number) => `seed: ${seed}\n${models}rules:
  - { when: { text: a }, latency: { first_byte: { distribution: lognormal, median_ms: 100, sigma: 0.5 } } }
  - { when: { text: b }, reply: [x, y], latency: { first_byte: { distribution: fixed, ms: 7 }, between_chunks: { distribution: uniform, min_ms: 5, max_ms: 6 } } }
`;
  const run = async (seed: number, texts: readonly string[]) => {
    const { waits, startTimer } = recordingTimer();
    const engine = engineOf(yaml(seed), startTimer);
    for (const text of texts) await say(engine, text, { stream: true });
    return waits;
  };
  const alone = await run(1, ['a', 'a']);
  const mixed = await run(1, ['a', 'b', 'a']);
  assert.deepEqual([mixed[0], mixed.at(-1)], alone);
  assert.notEqual(alone[0], alone[1]);
  assert.notDeepEqual(await run(2, ['a', 'a']), alone);
  const between = mixed.slice(1, -1);
  assert.equal(between[0], 7);
  assert.equal(between.length, 6);
  for (const wait of between.slice(1)) assert.ok(wait >= 5 && wait < 6);
});

test('draws have the distribution that the script names', () => {
  const chance = chanceOf('distribution');
  const draws = (count: number, draw: () => number) =>
    Array.from({ length: count }, draw).sort((a, b) => a - b);
  const lognormal = draws(20_000, () =>
    drawDelay({ distribution: 'lognormal', median_ms: 100, sigma: 0.5 }, chance),
  );
  const at = (share: number) => lognormal[Math.floor(share * lognormal.length)] ?? 0;
  assert.ok(Math.abs(at(0.5) - 100) < 3, `median ${at(0.5)}`);
  assert.ok(Math.abs(at(0.8413) - 100 * Math.exp(0.5)) < 6, `one sigma ${at(0.8413)}`);
  const uniform = draws(20_000, () => drawDelay({ distribution: 'uniform', min_ms: 10, max_ms: 20 }, chance));
  assert.ok((uniform[0] ?? 0) >= 10 && (uniform.at(-1) ?? 99) < 20);
  assert.ok(Math.abs((uniform[10_000] ?? 0) - 15) < 0.2);
});

test('embeddings are unit vectors that follow from the text alone, one for each input', async () => {
  const engine = engineOf(models);
  const embed = (input: unknown, fields: object = {}) =>
    collect(engine, { ...chatCall('e', { input, ...fields }), operation: 'embeddings' as const });
  const one = await embed('hello');
  const two = await embed(['world', 'hello']);
  assert.deepEqual(json(two, 'data', 1, 'embedding'), json(one, 'data', 0, 'embedding'));
  assert.notDeepEqual(json(two, 'data', 0, 'embedding'), json(one, 'data', 0, 'embedding'));
  assert.equal(json(two, 'data', 1, 'index'), 1);
  assert.equal(json(one, 'data', 0, 'embedding', 'length'), 4);
  assert.equal(json(await embed('x', { dimensions: 7 }), 'data', 0, 'embedding', 'length'), 7);
  assert.equal(json(await embed([1, 2, 3]), 'data', 'length'), 1);
  const vector = unitVector('any', 512);
  assert.ok(Math.abs(Math.hypot(...vector) - 1) < 1e-6);
  assert.equal((await say(engine, 'x')).fault, null);
  const wrong = await collect(engine, { ...chatCall('m', { input: 'x' }), operation: 'embeddings' });
  assert.equal(wrong.fault?.kind, 'rejected');
  assert.equal((await collect(engine, chatCall('e', {}))).fault?.kind, 'rejected');
});

test('faults of a script are all named with their path, at once', () => {
  const faulty = (yaml: string): AppError => {
    try {
      parseScript(yaml, 'file.yaml');
    } catch (error) {
      assert.ok(error instanceof AppError);
      return error;
    }
    return assert.fail('it was taken');
  };
  const message = faulty(`models: [{ id: "a b" }]
rules:
  - { when: { text: "/(/" } }
  - { latency: { first_byte: { distribution: fixed } }, repyl: x }
  - { error: { status: 200 } }
  - { empty: true, unreachable: true }
`).publicMessage;
  for (const path of [
    'models[0].id',
    'rules[0].when.text',
    'rules[1].latency.first_byte.ms',
    'rules[1]',
    'rules[2].error.status',
    'rules[3]',
  ]) {
    assert.ok(message.includes(`${path}: `), `${path} in ${message}`);
  }
  assert.ok(message.includes('repyl'));
  assert.match(faulty('models: [').publicMessage, /^file\.yaml: /);
  assert.equal(faulty('').code, 'invalid_configuration');
  assert.match(faulty('models: [{ id: a }, { id: a }]').publicMessage, /twice/);
});

test('the example that is shipped can be played, and a missing file is named', async () => {
  const path = resolve(import.meta.dirname, '../../../../../docs/examples/scripted.yaml');
  const script = await loadScript(path);
  const engine = playScript({ clock: systemClock, startTimer: recordingTimer().startTimer }, script);
  const recorded = await collect(
    engine,
    chatCall('scripted-chat', { messages: [{ role: 'user', content: 'hello' }] }),
  );
  assert.equal(content(recorded), 'Hello! You wrote: hello');
  await assert.rejects(
    loadScript('/nowhere/x.yaml'),
    (error) => error instanceof AppError && error.publicMessage.includes('/nowhere/x.yaml'),
  );
});
