import { deepEqual, equal } from 'node:assert/strict';
import { test } from 'node:test';
import { contractTarget } from '../contract.ts';
import { translateRequest } from './request.ts';

const target = contractTarget('claude-test', { kind: 'anthropic', baseUrl: 'https://api.example/v1' });

/** The translated body's members; comparing them with `deepEqual` needs no type. */
function translated(
  fields: Readonly<Record<string, unknown>>,
  stream = false,
): Readonly<Record<string, unknown>> {
  const json = { model: 'x', messages: [{ role: 'user', content: 'Hi' }], ...fields };
  const translation = translateRequest(Buffer.from(JSON.stringify(json)), target, stream);
  if (translation.outcome === 'refused') throw new Error(`${translation.code} ${translation.param}`);
  const body: unknown = JSON.parse(translation.body.toString());
  return typeof body === 'object' && body !== null ? { ...body } : {};
}

function refused(fields: Readonly<Record<string, unknown>>): string {
  const json = { model: 'x', messages: [{ role: 'user', content: 'Hi' }], ...fields };
  const translation = translateRequest(Buffer.from(JSON.stringify(json)), target, false);
  return translation.outcome === 'refused' ? `${translation.code} ${translation.param}` : 'translated';
}

test('the smallest request has a model, a limit and the message', () => {
  deepEqual(translated({}), {
    model: 'claude-test',
    max_tokens: 4096,
    messages: [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }],
  });
});

test('the output limit is the request’s, else the target’s, else 4096', () => {
  equal(translated({ max_tokens: 7 })['max_tokens'], 7);
  equal(translated({ max_tokens: 7, max_completion_tokens: 9 })['max_tokens'], 9);
  const body = Buffer.from(JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }] }));
  const translation = translateRequest(body, { ...target, maxOutputTokens: 8192 }, false);
  equal(
    translation.outcome === 'translated' && translation.body.toString().includes('"max_tokens":8192'),
    true,
  );
  equal(refused({ max_tokens: 0 }), 'invalid_value max_tokens');
  equal(refused({ max_tokens: 1.5 }), 'invalid_value max_tokens');
  equal(refused({ max_tokens: '5' }), 'invalid_value max_tokens');
});

test('system and developer messages become the system prompt, in order', () => {
  const body = translated({
    messages: [
      { role: 'system', content: 'A' },
      { role: 'user', content: 'Hi' },
      { role: 'developer', content: [{ type: 'text', text: 'B' }] },
    ],
  });
  deepEqual(body['system'], [
    { type: 'text', text: 'A' },
    { type: 'text', text: 'B' },
  ]);
  deepEqual(body['messages'], [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }]);
});

test('images are passed as data or address, PDF files as documents, cache marks with their part', () => {
  const body = translated({
    messages: [
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What?', cache_control: { type: 'ephemeral' } },
          { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA', detail: 'low' } },
          { type: 'image_url', image_url: { url: 'https://pictures.example/a.jpg' } },
          { type: 'file', file: { filename: 'a.pdf', file_data: 'data:application/pdf;base64,JVBE' } },
        ],
      },
    ],
  });
  deepEqual(body['messages'], [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'What?', cache_control: { type: 'ephemeral' } },
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: 'AAAA' } },
        { type: 'image', source: { type: 'url', url: 'https://pictures.example/a.jpg' } },
        {
          type: 'document',
          source: { type: 'base64', media_type: 'application/pdf', data: 'JVBE' },
          title: 'a.pdf',
        },
      ],
    },
  ]);
  const image = (url: unknown) => [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }];
  equal(
    refused({ messages: image('data:image/tiff;base64,AAAA') }),
    'invalid_value messages[0].content[0].image_url.url',
  );
  equal(
    refused({ messages: image('file:///etc/passwd') }),
    'invalid_value messages[0].content[0].image_url.url',
  );
  const audio = [{ role: 'user', content: [{ type: 'input_audio', input_audio: {} }] }];
  equal(refused({ messages: audio }), 'unsupported_parameter messages[0].content[0].type');
});

test('tool calls and their results keep their ids, and results share one turn with what the user says next', () => {
  const body = translated({
    messages: [
      { role: 'user', content: 'Weather in Rome and Oslo?' },
      {
        role: 'assistant',
        content: null,
        tool_calls: [
          { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } },
          { id: 'call.2', type: 'function', function: { name: 'weather', arguments: '' } },
        ],
      },
      { role: 'tool', tool_call_id: 'call_1', content: 'sunny' },
      { role: 'tool', tool_call_id: 'call.2', content: [{ type: 'text', text: 'snow' }] },
      { role: 'user', content: 'And?' },
    ],
    tools: [
      {
        type: 'function',
        function: { name: 'weather', description: 'd', parameters: { type: 'object' }, strict: true },
      },
    ],
  });
  deepEqual(body['messages'], [
    { role: 'user', content: [{ type: 'text', text: 'Weather in Rome and Oslo?' }] },
    {
      role: 'assistant',
      content: [
        { type: 'tool_use', id: 'call_1', name: 'weather', input: { city: 'Rome' } },
        { type: 'tool_use', id: 'call_2', name: 'weather', input: {} },
      ],
    },
    {
      role: 'user',
      content: [
        { type: 'tool_result', tool_use_id: 'call_1', content: [{ type: 'text', text: 'sunny' }] },
        { type: 'tool_result', tool_use_id: 'call_2', content: [{ type: 'text', text: 'snow' }] },
        { type: 'text', text: 'And?' },
      ],
    },
  ]);
  deepEqual(body['tools'], [
    { name: 'weather', description: 'd', input_schema: { type: 'object' }, strict: true },
  ]);
});

test('the arguments of a tool call must be an object', () => {
  const messages = (given: string) => [
    {
      role: 'assistant',
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'f', arguments: given } }],
    },
  ];
  const param = 'invalid_value messages[0].tool_calls[0].function.arguments';
  equal(refused({ messages: messages('[1]') }), param);
  equal(refused({ messages: messages('{') }), param);
  equal(refused({ messages: messages('7') }), param);
});

test('tool_choice and parallel_tool_calls are translated', () => {
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const choice = (fields: Readonly<Record<string, unknown>>) =>
    translated({ tools, ...fields })['tool_choice'];
  equal(choice({}), undefined);
  deepEqual(choice({ tool_choice: 'auto' }), { type: 'auto' });
  deepEqual(choice({ tool_choice: 'none', parallel_tool_calls: false }), { type: 'none' });
  deepEqual(choice({ tool_choice: 'required' }), { type: 'any' });
  deepEqual(choice({ tool_choice: { type: 'function', function: { name: 'f' } } }), {
    type: 'tool',
    name: 'f',
  });
  deepEqual(choice({ parallel_tool_calls: false }), { type: 'auto', disable_parallel_tool_use: true });
  deepEqual(choice({ tool_choice: 'required', parallel_tool_calls: false }), {
    type: 'any',
    disable_parallel_tool_use: true,
  });
  deepEqual(translated({ tools })['tools'], [
    { name: 'f', input_schema: { type: 'object', properties: {} } },
  ]);
  equal(refused({ tools, tool_choice: { type: 'allowed_tools' } }), 'unsupported_parameter tool_choice');
  equal(refused({ tool_choice: 'required' }), 'invalid_value tool_choice');
  equal(translated({ tool_choice: 'auto' })['tool_choice'], undefined);
  equal(refused({ tools: [{ type: 'custom' }] }), 'unsupported_parameter tools[0].type');
});

test('sampling stays in the range that the provider has, and defaults are left out', () => {
  equal(translated({ temperature: 1.7 })['temperature'], undefined);
  equal(translated({ temperature: 1 })['temperature'], undefined);
  equal(translated({ temperature: 0.5 })['temperature'], 0.5);
  equal(translated({ temperature: 0 })['temperature'], 0);
  equal(translated({ top_p: 0.9 })['top_p'], 0.9);
  equal(translated({ top_p: 1 })['top_p'], undefined);
  equal(refused({ temperature: 'hot' }), 'invalid_value temperature');
});

test('stop, user, schema and effort are translated', () => {
  deepEqual(translated({ stop: 'END' })['stop_sequences'], ['END']);
  deepEqual(translated({ stop: ['a', 'b'] })['stop_sequences'], ['a', 'b']);
  equal(translated({ stop: [] })['stop_sequences'], undefined);
  equal(refused({ stop: [1] }), 'invalid_value stop');
  deepEqual(translated({ user: 'u-1' })['metadata'], { user_id: 'u-1' });
  const schema = { type: 'object', properties: { a: { type: 'string' } } };
  deepEqual(
    translated({
      response_format: { type: 'json_schema', json_schema: { name: 'n', schema, strict: true } },
      reasoning_effort: 'high',
    })['output_config'],
    { format: { type: 'json_schema', schema }, effort: 'high' },
  );
  equal(translated({ response_format: { type: 'text' } })['output_config'], undefined);
  deepEqual(translated({ reasoning_effort: 'none' })['thinking'], { type: 'disabled' });
  equal(translated({}, true)['stream'], true);
});

test('what the provider cannot do is refused with its parameter; a value that changes nothing passes', () => {
  equal(refused({ n: 2 }), 'unsupported_parameter n');
  equal(refused({ logprobs: true }), 'unsupported_parameter logprobs');
  equal(refused({ top_logprobs: 3 }), 'unsupported_parameter logprobs');
  equal(refused({ frequency_penalty: 0.5 }), 'unsupported_parameter frequency_penalty');
  equal(refused({ presence_penalty: -1 }), 'unsupported_parameter presence_penalty');
  equal(refused({ logit_bias: { 50256: -100 } }), 'unsupported_parameter logit_bias');
  equal(refused({ response_format: { type: 'json_object' } }), 'unsupported_parameter response_format');
  equal(refused({ functions: [] }), 'unsupported_parameter functions');
  equal(refused({ audio: { voice: 'x' } }), 'unsupported_parameter audio');
  equal(refused({ modalities: ['text', 'audio'] }), 'unsupported_parameter modalities');
  equal(
    refused({ messages: [{ role: 'function', content: 'x' }] }),
    'unsupported_parameter messages[0].role',
  );
  equal(
    refused({
      n: 1,
      logprobs: false,
      frequency_penalty: 0,
      presence_penalty: null,
      logit_bias: {},
      modalities: ['text'],
      seed: 7,
      store: false,
      service_tier: 'auto',
    }),
    'translated',
  );
});

test('turns that the provider would refuse are mended: empty texts, a last turn with white space, no user', () => {
  const messages = (list: readonly object[]) => translated({ messages: list })['messages'];
  deepEqual(
    messages([
      { role: 'user', content: '' },
      { role: 'user', content: 'Hi' },
    ]),
    [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }],
  );
  deepEqual(
    messages([
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'It is  \n' },
    ]),
    [
      { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
      { role: 'assistant', content: [{ type: 'text', text: 'It is' }] },
    ],
  );
  equal(refused({ messages: [{ role: 'system', content: 'A' }] }), 'invalid_value messages');
  equal(refused({ messages: 'Hi' }), 'invalid_value messages');
  equal(refused({ messages: [null] }), 'unsupported_parameter messages[0].role');
  equal(refused({ messages: [{ role: 'user', content: 7 }] }), 'invalid_value messages[0].content');
});

test('a body that is no JSON is refused, not thrown', () => {
  const translation = translateRequest(Buffer.from('{'), target, false);
  equal(translation.outcome === 'refused' && translation.code, 'invalid_json');
});
