import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#kernel';
import { readChatRequest } from './chat-request.ts';
import { maximumParts } from './member-scan.ts';

const messages = '"messages":[{"role":"user","content":"hi"}]';

function refusal(body: string | Buffer): { code: string; param: string | null } {
  try {
    readChatRequest(typeof body === 'string' ? Buffer.from(body) : body);
  } catch (error) {
    if (error instanceof AppError) return { code: error.code, param: error.param };
    throw error;
  }
  return { code: 'accepted', param: null };
}

function refusalOf(fields: Record<string, unknown>): { code: string; param: string | null } {
  return refusal(JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hi' }], ...fields }));
}

test('the fields that Stoa reads come out, and nothing else is checked', () => {
  const body = JSON.stringify({
    model: 'auto',
    messages: [{ role: 'user', content: 'hi', unknown: { deep: true } }],
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 10,
    max_completion_tokens: 20,
    n: 2,
    user: 'end user',
    metadata: { team: 'a' },
    temperature: 'whatever the provider thinks of it',
  });
  const intake = readChatRequest(Buffer.from(body));
  assert.equal(intake.model, 'auto');
  assert.equal(intake.stream, true);
  assert.equal(intake.isUsageWanted, true);
  assert.equal(intake.outputLimit, 20);
  assert.equal(intake.choices, 2);
  assert.equal(intake.endUser, 'end user');
  assert.deepEqual(intake.tags, { team: 'a' });
  assert.equal(intake.inputTokensBound, body.length);
  const messages = '[{"role":"user","content":"hi","unknown":{"deep":true}}]';
  assert.equal(intake.inputTokensEstimate, Math.ceil(messages.length / 4));
});

test('what is likely to be read is estimated: messages and tools, not the envelope around them', () => {
  const asked = { model: 'm', messages: [{ role: 'user', content: 'How are tenants isolated?' }] };
  const tools = [{ type: 'function', function: { name: 'look_up', description: 'x'.repeat(100) } }];
  const estimate = (body: object): number =>
    readChatRequest(Buffer.from(JSON.stringify(body))).inputTokensEstimate;
  const plain = estimate(asked);
  assert.equal(plain, Math.ceil(JSON.stringify(asked.messages).length / 4));
  assert.equal(
    estimate({ ...asked, stream: true, user: 'u'.repeat(90), metadata: { a: 'b'.repeat(400) } }),
    plain,
  );
  assert.equal(
    estimate({ ...asked, tools }),
    Math.ceil((JSON.stringify(asked.messages).length + JSON.stringify(tools).length) / 4),
  );
});

test('content that is neither text nor a list of parts is refused', () => {
  for (const content of [5, true, {}]) {
    assert.deepEqual(refusal(JSON.stringify({ model: 'm', messages: [{ role: 'user', content }] })), {
      code: 'invalid_request',
      param: 'messages[0].content',
    });
  }
});

test('null counts as absent', () => {
  const nulls = {
    stream: null,
    stream_options: null,
    max_tokens: null,
    max_completion_tokens: null,
    n: null,
    user: null,
    metadata: null,
    tools: null,
  };
  const intake = readChatRequest(
    Buffer.from(JSON.stringify({ model: 'm', messages: [{ role: 'user' }], ...nulls })),
  );
  assert.deepEqual(
    [intake.stream, intake.outputLimit, intake.choices, intake.endUser, intake.isUsageWanted],
    [false, null, 1, null, false],
  );
});

test('each way in which bytes are no request has its code', () => {
  assert.equal(refusal(Buffer.from([0x7b, 0xff, 0x7d])).code, 'invalid_encoding');
  for (const text of [
    '',
    ' ',
    '{',
    '{"model":',
    '{"model":"m"]',
    '{"a":1}}',
    '\ufeff{}',
    '{"a" 1}',
    "{'a':1}",
    '{"a":"\u0001"}',
  ]) {
    assert.equal(refusal(text).code, 'invalid_json', JSON.stringify(text));
  }
  for (const text of ['[]', '1', 'null', '"text"']) assert.equal(refusal(text).code, 'invalid_request', text);
});

test('a body of 128 levels is read, one of 129 is refused, wherever the depth lies', () => {
  const nested = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
  assert.equal(refusal(`{"model":"m",${messages},"x":${nested(127)}}`).code, 'accepted');
  assert.equal(refusal(`{"model":"m",${messages},"x":${nested(128)}}`).code, 'json_too_deep');
  assert.equal(refusal(nested(200)).code, 'json_too_deep');
  assert.equal(refusal(`{"x":"${'['.repeat(500)}","model":"m",${messages}}`).code, 'accepted');
});

test('a body of countless little parts is refused before it is parsed', () => {
  assert.equal(
    refusal(`{"model":"m",${messages},"x":[${'[],'.repeat(maximumParts)}0]}`).code,
    'invalid_request',
  );
});

test('a wrong field is named', () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ model: undefined }, 'model'],
    [{ model: '' }, 'model'],
    [{ model: 7 }, 'model'],
    [{ model: 'x'.repeat(201) }, 'model'],
    [{ messages: undefined }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages: {} }, 'messages'],
    [{ messages: ['hi'] }, 'messages[0]'],
    [{ messages: [{ role: 'user' }, { content: 'x' }] }, 'messages[1].role'],
    [{ stream: 'yes' }, 'stream'],
    [{ stream_options: [] }, 'stream_options'],
    [{ stream_options: { include_usage: 1 } }, 'include_usage'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: 1.5 }, 'max_tokens'],
    [{ max_tokens: '5' }, 'max_tokens'],
    [{ max_completion_tokens: -1 }, 'max_completion_tokens'],
    [{ n: 0 }, 'n'],
    [{ n: 129 }, 'n'],
    [{ user: 5 }, 'user'],
    [{ user: 'x'.repeat(513) }, 'user'],
    [{ metadata: [] }, 'metadata'],
    [{ metadata: { a: 1 } }, 'metadata'],
    [{ metadata: { '': 'x' } }, 'metadata'],
    [
      { metadata: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, 'v'])) },
      'metadata',
    ],
    [{ tools: {} }, 'tools'],
    [{ tools: [1] }, 'tools[0]'],
  ];
  for (const [fields, param] of cases) {
    assert.deepEqual(refusalOf(fields), { code: 'invalid_request', param }, JSON.stringify(fields));
  }
});

test('text that cannot be stored is refused with its own code', () => {
  assert.deepEqual(refusalOf({ user: 'a\u0000b' }), { code: 'invalid_text', param: 'user' });
  assert.deepEqual(refusalOf({ metadata: { team: 'x\ud800' } }), { code: 'invalid_text', param: 'metadata' });
  assert.deepEqual(refusalOf({ model: 'm\udfff' }), { code: 'invalid_text', param: 'model' });
  assert.equal(refusalOf({ messages: [{ role: 'user', content: 'a\u0000\ud800' }] }).code, 'accepted');
});

test('a repeated field that Stoa reads is refused, also when its second name is escaped or in another case', () => {
  assert.deepEqual(refusal(`{"model":"a",${messages},"model":"b"}`), {
    code: 'invalid_request',
    param: 'model',
  });
  assert.deepEqual(refusal(`{"model":"a",${messages},"mod\\u0065l":"b"}`), {
    code: 'invalid_request',
    param: 'model',
  });
  assert.deepEqual(refusal(`{"model":"a",${messages},"Model":"b"}`), {
    code: 'invalid_request',
    param: 'model',
  });
  assert.deepEqual(refusal(`{"model":"a",${messages},"MAX_TOKENS":5}`), {
    code: 'invalid_request',
    param: 'max_tokens',
  });
  assert.equal(refusal(`{"model":"a",${messages},"x":1,"x":2,"y":{"model":1,"model":2}}`).code, 'accepted');
});

test('a key __proto__ changes nothing that is read', () => {
  const intake = readChatRequest(
    Buffer.from(`{"__proto__":{"stream":true,"n":5,"user":"x"},"model":"m",${messages}}`),
  );
  assert.deepEqual([intake.stream, intake.choices, intake.endUser], [false, 1, null]);
  assert.equal(refusal(`{"__proto__":{"model":"m"},${messages}}`).code, 'invalid_request');
});

test('media parts are bounded by themselves and their inline bytes are not counted as text', () => {
  const image = `data:image/png;base64,${'A'.repeat(100_000)}`;
  const body = {
    model: 'm',
    messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: image } }] }],
  };
  const inline = readChatRequest(Buffer.from(JSON.stringify(body)));
  assert.ok(inline.inputTokensBound > 48_000 && inline.inputTokensBound < 50_000);
  assert.ok(inline.inputTokensEstimate < 2_000);
});
