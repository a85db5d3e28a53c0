import { deepEqual, equal } from 'node:assert/strict';
import { test } from 'node:test';
import { readFrames } from '../contract.ts';
import { listOf, member } from '../json-member.ts';
import { translateAnswer } from './answer.ts';
import { translateStream } from './stream.ts';

const usage = {
  input_tokens: 10,
  cache_read_input_tokens: 20,
  cache_creation_input_tokens: 5,
  output_tokens: 1,
};

function event(type: string, fields: object = {}): string {
  return `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
}

const start = event('message_start', {
  message: { id: 'msg_1', type: 'message', model: 'claude-test', usage },
});
const text = (index: number, value: string): string =>
  event('content_block_delta', { index, delta: { type: 'text_delta', text: value } });
const end =
  event('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 7 } }) +
  event('message_stop');

/** Every chunk's `choices[0].delta` and `finish_reason`, and the usage of the last. */
function read(stream: string, pieceBytes = stream.length) {
  const translator = translateStream(1_700_000_000);
  const bytes = Buffer.from(stream);
  let out = '';
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const translated = translator.translate(Buffer.from(bytes.subarray(at, at + pieceBytes)));
    if (typeof translated !== 'string')
      return { problem: translated, out, state: translator.state, chunks: [] };
    out += translated;
  }
  const frames = readFrames(Buffer.from(out));
  const chunks = frames
    .filter((frame) => frame.shape === 'object')
    .map((frame): unknown => JSON.parse(frame.data));
  return { problem: null, out, state: translator.state, chunks };
}

function deltas(chunks: readonly unknown[]): unknown[] {
  return chunks.flatMap((chunk) => listOf(chunk, 'choices')).map((choice) => member(choice, 'delta'));
}

test('text, finish reason, usage and [DONE], wherever the events are cut', () => {
  const stream = start + event('ping') + text(0, 'Hel') + text(0, 'lo 😀') + end;
  const whole = read(stream);
  deepEqual(deltas(whole.chunks), [
    { role: 'assistant', content: '' },
    { content: 'Hel' },
    { content: 'lo 😀' },
    {},
  ]);
  const finish = whole.chunks
    .flatMap((chunk) => listOf(chunk, 'choices'))
    .map((choice) => member(choice, 'finish_reason'));
  deepEqual(finish, [null, null, null, 'stop']);
  deepEqual(member(whole.chunks.at(-1), 'choices'), []);
  deepEqual(member(whole.chunks.at(-1), 'usage'), {
    prompt_tokens: 35,
    completion_tokens: 7,
    total_tokens: 42,
    prompt_tokens_details: { cached_tokens: 20, cache_creation_tokens: 5 },
  });
  equal(whole.out.endsWith('data: [DONE]\n\n'), true);
  equal(whole.out.includes(': ping\n\n'), true);
  equal(whole.state, 'complete');
  for (const size of [1, 2, 7, 64]) equal(read(stream, size).out, whole.out);
  for (const chunk of whole.chunks) {
    equal(member(chunk, 'id'), 'msg_1');
    equal(member(chunk, 'model'), 'claude-test');
    equal(member(chunk, 'created'), 1_700_000_000);
  }
});

test('tools are numbered by themselves, and one without parameters gets an empty object', () => {
  const tool = (index: number, id: string, input: object = {}): string =>
    event('content_block_start', { index, content_block: { type: 'tool_use', id, name: 'f', input } });
  const json = (index: number, piece: string): string =>
    event('content_block_delta', { index, delta: { type: 'input_json_delta', partial_json: piece } });
  const stop = (index: number): string => event('content_block_stop', { index });
  const { chunks } = read(
    start +
      event('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }) +
      text(0, 'Let me see') +
      stop(0) +
      tool(1, 't1') +
      json(1, '') +
      json(1, '{"a":') +
      json(1, '1}') +
      stop(1) +
      tool(2, 't2') +
      stop(2) +
      tool(3, 't3', { b: 2 }) +
      stop(3) +
      event('message_delta', { delta: { stop_reason: 'tool_use' }, usage: { output_tokens: 9 } }) +
      event('message_stop'),
  );
  const calls = deltas(chunks).flatMap((delta) => listOf(delta, 'tool_calls'));
  const opened = (index: number, id: string) => ({
    index,
    id,
    type: 'function',
    function: { name: 'f', arguments: '' },
  });
  deepEqual(calls, [
    opened(0, 't1'),
    { index: 0, function: { arguments: '{"a":' } },
    { index: 0, function: { arguments: '1}' } },
    opened(1, 't2'),
    { index: 1, function: { arguments: '{}' } },
    opened(2, 't3'),
    { index: 2, function: { arguments: '{"b":2}' } },
  ]);
  equal(
    chunks
      .flatMap((chunk) => listOf(chunk, 'choices'))
      .map((choice) => member(choice, 'finish_reason'))
      .at(-1),
    'tool_calls',
  );
});

test('thinking is reasoning_content; signatures, citations and unknown events are skipped', () => {
  const { chunks } = read(
    start +
      event('content_block_delta', { index: 0, delta: { type: 'thinking_delta', thinking: 'hm' } }) +
      event('content_block_delta', { index: 0, delta: { type: 'signature_delta', signature: 's' } }) +
      event('content_block_delta', { index: 1, delta: { type: 'citations_delta', citation: {} } }) +
      event('something_new', { a: 1 }) +
      text(1, 'yes') +
      end,
  );
  deepEqual(deltas(chunks), [
    { role: 'assistant', content: '' },
    { reasoning_content: 'hm' },
    { content: 'yes' },
    {},
  ]);
});

test('stop reasons are OpenAI’s', () => {
  const pairs = {
    end_turn: 'stop',
    stop_sequence: 'stop',
    pause_turn: 'stop',
    max_tokens: 'length',
    model_context_window_exceeded: 'length',
    tool_use: 'tool_calls',
    refusal: 'content_filter',
    something_new: 'stop',
  };
  for (const [stopReason, finishReason] of Object.entries(pairs)) {
    const answer = translateAnswer({ type: 'message', content: [], stop_reason: stopReason, usage }, 1);
    equal(member(listOf(answer, 'choices')[0], 'finish_reason'), finishReason);
  }
});

test('an error event, a broken frame and a frame without end are problems, not chunks', () => {
  const error = { type: 'overloaded_error', message: 'Overloaded' };
  const failed = read(start + text(0, 'a') + event('error', { error }));
  deepEqual(failed.problem, { problem: 'error', error: { type: 'error', error } });
  equal(read(`${start}data: {"type":\n\n`).problem?.problem, 'unreadable');
  equal(read(`${start}data: ${'x'.repeat(1_100_000)}`).problem?.problem, 'unreadable');
});

test('a stream knows whether it is complete', () => {
  equal(read(': nothing\n\n').state, 'empty');
  equal(read(event('ping')).state, 'empty');
  equal(read(start + text(0, 'a')).state, 'running');
  equal(read(start + end + text(0, 'late')).out, read(start + end).out);
});

test('a whole answer keeps text, tools, thinking and every kind of token', () => {
  const answer = translateAnswer(
    {
      id: 'msg_2',
      type: 'message',
      model: 'claude-test',
      content: [
        { type: 'thinking', thinking: 'hm', signature: 's' },
        { type: 'text', text: 'It is ' },
        { type: 'text', text: 'sunny.' },
        { type: 'tool_use', id: 't1', name: 'f', input: { a: 1 } },
      ],
      stop_reason: 'tool_use',
      usage: { ...usage, output_tokens: 12, output_tokens_details: { thinking_tokens: 4 } },
    },
    1_700_000_000,
  );
  deepEqual(answer, {
    id: 'msg_2',
    object: 'chat.completion',
    created: 1_700_000_000,
    model: 'claude-test',
    choices: [
      {
        index: 0,
        message: {
          role: 'assistant',
          content: 'It is sunny.',
          refusal: null,
          reasoning_content: 'hm',
          tool_calls: [{ id: 't1', type: 'function', function: { name: 'f', arguments: '{"a":1}' } }],
        },
        logprobs: null,
        finish_reason: 'tool_calls',
      },
    ],
    usage: {
      prompt_tokens: 35,
      completion_tokens: 12,
      total_tokens: 47,
      prompt_tokens_details: { cached_tokens: 20, cache_creation_tokens: 5 },
      completion_tokens_details: { reasoning_tokens: 4 },
    },
  });
  equal(translateAnswer({ type: 'error' }, 1), null);
  equal(translateAnswer(null, 1), null);
  equal(translateAnswer([], 1), null);
});
