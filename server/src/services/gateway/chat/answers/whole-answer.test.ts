import assert from 'node:assert/strict';
import { test } from 'node:test';
import { completion } from '../chat-path.harness.ts';
import { isJsonObject } from '../intake/fields.ts';
import { inWantedEncoding } from './embedding-encoding.ts';
import { readUsage } from './token-usage.ts';
import { type CheckedAnswer, checkAnswer, estimateOutputTokens } from './whole-answer.ts';

const bytes = (value: unknown): Buffer =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

function kindOf(operation: 'chat.completions' | 'embeddings', value: unknown): string {
  const checked = checkAnswer(operation, bytes(value));
  return 'kind' in checked ? checked.kind : 'good';
}

test('a 200 that holds no answer is a fault of the provider', () => {
  assert.equal(kindOf('chat.completions', completion), 'good');
  assert.equal(kindOf('chat.completions', ''), 'empty');
  for (const value of [
    '<html>',
    '{"choices":[',
    '[]',
    'null',
    '{}',
    { choices: [] },
    { choices: [1] },
    { choices: [{}] },
  ]) {
    assert.equal(kindOf('chat.completions', value), 'unreadable', JSON.stringify(value));
  }
  assert.equal(kindOf('chat.completions', { error: { message: 'x' } }), 'error_frame');
  const broken = checkAnswer(
    'chat.completions',
    Buffer.concat([bytes('{"a":"'), Buffer.from([0xff]), bytes('"}')]),
  );
  assert.ok('kind' in broken && broken.kind === 'unreadable');
});

test('a list of vectors must hold vectors, none of them empty', () => {
  assert.equal(kindOf('embeddings', { data: [{ embedding: [1] }] }), 'good');
  assert.equal(kindOf('embeddings', { data: [{ embedding: 'AACAPw==' }] }), 'good');
  for (const data of [
    undefined,
    [],
    [{}],
    [{ embedding: [] }],
    [{ embedding: '' }],
    [{ embedding: [1] }, {}],
  ]) {
    assert.equal(kindOf('embeddings', { data }), 'unreadable');
  }
});

test('usage is read in its kinds, in the dialects of the field, and never exceeds its total', () => {
  const base = { input_audio_tokens: 0, output_audio_tokens: 0, reasoning_tokens: 0, estimated: false };
  assert.deepEqual(
    readUsage({
      prompt_tokens: 100,
      completion_tokens: 50,
      prompt_tokens_details: { cached_tokens: 30, audio_tokens: 7, cache_creation_tokens: 20 },
      completion_tokens_details: { reasoning_tokens: 40, audio_tokens: 3 },
    }),
    {
      input_tokens: 100,
      output_tokens: 50,
      cached_input_tokens: 30,
      cache_write_tokens: 20,
      reasoning_tokens: 40,
      input_audio_tokens: 7,
      output_audio_tokens: 3,
      estimated: false,
    },
  );
  const anthropic = {
    prompt_tokens: 9,
    completion_tokens: 1,
    cache_read_input_tokens: 4,
    cache_creation_input_tokens: 3,
  };
  assert.deepEqual(readUsage(anthropic), {
    ...base,
    input_tokens: 9,
    output_tokens: 1,
    cached_input_tokens: 4,
    cache_write_tokens: 3,
  });
  assert.equal(
    readUsage({ prompt_tokens: 9, total_tokens: 11, prompt_cache_hit_tokens: 99 })?.cached_input_tokens,
    9,
  );
  assert.equal(readUsage({ prompt_tokens: 9, total_tokens: 11 })?.output_tokens, 2);
  for (const value of [
    null,
    undefined,
    5,
    {},
    { prompt_tokens: -1 },
    { prompt_tokens: 1.5 },
    { prompt_tokens: '9' },
  ]) {
    assert.equal(readUsage(value), null);
  }
});

test('an answer without usage is estimated by its bytes', () => {
  const json = { choices: [{ message: { content: 'x'.repeat(40) } }, { message: { content: 'é' } }] };
  assert.equal(estimateOutputTokens(json), Math.ceil(42 / 4));
  assert.equal(estimateOutputTokens({}), 0);
});

function answerWith(embedding: unknown): CheckedAnswer {
  const json: unknown = {
    object: 'list',
    data: [{ object: 'embedding', index: 0, embedding }],
    usage: { prompt_tokens: 1 },
  };
  assert.ok(isJsonObject(json));
  return { body: bytes(json), json, usage: null };
}

test('vectors come in the encoding that was asked for, and as they were where they already do', () => {
  const floats = [0.25, -0.5, 1];
  const packed = Buffer.alloc(12);
  floats.forEach((number, index) => packed.writeFloatLE(number, index * 4));
  const base64 = packed.toString('base64');
  const asFloats = answerWith(floats);
  const asBase64 = answerWith(base64);
  assert.equal(inWantedEncoding(asFloats, 'float'), asFloats.body);
  assert.equal(inWantedEncoding(asBase64, 'base64'), asBase64.body);
  assert.deepEqual(inWantedEncoding(asFloats, 'base64'), asBase64.body);
  assert.deepEqual(inWantedEncoding(asBase64, 'float'), asFloats.body);
});
