import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { ErrorCode } from '@stoa/contracts';
import { z } from 'zod';
import { type Answer, type StoaProcess, startStoa } from '../journeys/stoa-process.ts';
import { echoModel, type EchoUpstream, fingerprintOf, startEchoUpstream } from './echo-upstream.ts';
import { everyEndpoint, pathOf } from './endpoints.ts';
import { assertError, errorCodeOf } from './error-answer.ts';

let upstream: EchoUpstream;
let stoa: StoaProcess;

before(async () => {
  upstream = await startEchoUpstream();
  stoa = await startStoa({ env: { STOA_OPENAI_BASE_URL: upstream.url, STOA_LOG_LEVEL: 'error' } });
});

after(async () => {
  await stoa?.dispose();
  await upstream?.close();
});

const messages = [{ role: 'user', content: 'hi' }];
const chatPath = '/v1/chat/completions';
const echoed = z.looseObject({ system_fingerprint: z.string() });

async function chat(fields: Record<string, unknown>): Promise<Answer> {
  return stoa.call('POST', chatPath, { body: { model: echoModel, messages, ...fields } });
}

async function chatText(text: string): Promise<Answer> {
  return stoa.call('POST', chatPath, { body: text });
}

/** The upstream got exactly these bytes. */
async function assertForwarded(text: string): Promise<void> {
  const answer = await chatText(text);
  assert.equal(answer.status, 200, `${text.slice(0, 200)}: ${answer.text}`);
  assert.equal(echoed.parse(answer.json).system_fingerprint, fingerprintOf(text), text.slice(0, 200));
}

test('a field of a chat that Stoa reads and that has a wrong type or range is refused by its name', async () => {
  const wrong: [name: string, values: readonly unknown[], param?: string][] = [
    ['model', [null, 7, true, '', [], {}, 'x'.repeat(201)]],
    ['messages', [null, 7, true, 'hi', {}, []]],
    ['messages', [[7], [null], ['hi'], [[]]], 'messages[0]'],
    ['messages', [[{}], [{ role: 7 }], [{ role: null }]], 'messages[0].role'],
    ['stream', ['true', 1, [], {}]],
    ['stream_options', ['x', 1, true, []]],
    ['stream_options', [{ include_usage: 'yes' }, { include_usage: 1 }], 'include_usage'],
    ['max_tokens', ['1', 0, -1, 1.5, 1e300, [], {}, true]],
    ['max_completion_tokens', ['1', 0, -1, 1.5, 1e300, [], {}, true]],
    ['n', ['1', 0, -1, 129, 1.5, [], {}]],
    ['user', [7, true, [], {}, 'x'.repeat(513)]],
    ['metadata', ['x', 7, true, [], { a: 1 }, { a: null }, { '': 'x' }, { ['k'.repeat(65)]: 'x' }]],
    [
      'metadata',
      [{ a: 'x'.repeat(513) }, Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`k${at}`, 'v']))],
    ],
    ['tools', ['x', 7, true, {}]],
    ['tools', [[7], [null], ['x']], 'tools[0]'],
  ];
  const before = upstream.callCount;
  for (const [name, values, param = name] of wrong) {
    for (const value of values) {
      const what = `${name}: ${JSON.stringify(value).slice(0, 60)}`;
      assertError(await chat({ [name]: value }), 'invalid_request', param, what);
    }
  }
  assert.equal(upstream.callCount, before, 'nothing that was refused reached the provider');
});

test('a field of an embeddings request that has a wrong type or range is refused by its name', async () => {
  const wrong: [name: string, values: readonly unknown[], param?: string][] = [
    ['model', [undefined, null, 7, '']],
    ['input', [undefined, null, 7, true, '', {}, []]],
    ['input', [['']], 'input[0]'],
    ['encoding_format', ['x', 7, [], {}]],
    ['dimensions', ['1', 0, -1, 1.5]],
    ['user', [7, {}]],
    ['metadata', ['x', { a: 1 }]],
  ];
  for (const [name, values, param = name] of wrong) {
    for (const value of values) {
      const body = { model: 'auto', input: 'x', [name]: value };
      const what = `${name}: ${JSON.stringify(value)}`;
      assertError(await stoa.call('POST', '/v1/embeddings', { body }), 'invalid_request', param, what);
    }
  }
});

const record = z.record(z.string(), z.unknown());
/** The endpoints whose bodies go through their schema; chat and embeddings read theirs field by field. */
const jsonEndpoints = everyEndpoint.filter(
  ({ id, body }) => body !== undefined && !id.startsWith('chat.') && !id.startsWith('embeddings.'),
);

test('a field of any other endpoint that breaks its contract is refused with 400, wherever the field stands', async () => {
  const values = [null, true, 7, -1.5, '', 'x\u0000y', [], [7], {}, { a: 7 }, 'x'.repeat(5_000)];
  let refused = 0;
  for (const endpoint of jsonEndpoints) {
    const example = record.parse(endpoint.example.body);
    const path = pathOf(endpoint);
    const bodies: unknown[] = [null, 7, 'text', [], {}, { ...example, unknown_member: 1 }];
    for (const name of Object.keys(example))
      for (const value of values) bodies.push({ ...example, [name]: value });
    for (const body of bodies) {
      if (endpoint.body?.safeParse(body).success !== false) continue;
      const what = `${endpoint.id} ${JSON.stringify(body).slice(0, 200)}`;
      const answer = await stoa.call(endpoint.method, path, { body: JSON.stringify(body) });
      assert.ok(
        ['invalid_request', 'invalid_text'].includes(errorCodeOf(answer, what)),
        `${what}: ${answer.text}`,
      );
      refused += 1;
    }
  }
  assert.ok(refused > 200, `only ${refused} bodies were refused`);
});

test('an unknown model is 404 and an empty list of messages is 400', async () => {
  assertError(await chat({ model: 'no-such-model' }), 'model_not_found', 'model');
  assertError(await chat({ model: "echo' or 1=1 --" }), 'model_not_found', 'model');
  assertError(await chat({ model: '__proto__' }), 'model_not_found', 'model');
  assertError(await chat({ model: 'constructor' }), 'model_not_found', 'model');
  assertError(await chat({ messages: [] }), 'invalid_request', 'messages');
});

test('JSON that is no value, no UTF-8 or too deep is refused by three codes, at chat and at the control plane', async () => {
  const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
  const cases: [ErrorCode, string | Buffer][] = [
    ['invalid_json', '{'],
    ['invalid_json', ''],
    ['invalid_json', '{"a":1}}'],
    ['invalid_json', '{"a":NaN}'],
    ['invalid_json', '{"a":"\u0001"}'],
    ['invalid_json', "{'a':1}"],
    ['invalid_json', '\ufeff{}'],
    ['invalid_encoding', Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d])],
    ['invalid_encoding', Buffer.from('{"a":"é"}', 'latin1')],
    ['invalid_encoding', Buffer.from('\ufeff{"a":1}', 'utf16le')],
    ['json_too_deep', deep(129)],
    ['json_too_deep', deep(2_000_000)],
    ['json_too_deep', `{"model":"echo","messages":${deep(200)}}`],
    ['json_too_deep', '{"a":'.repeat(100_000)],
  ];
  for (const path of [
    chatPath,
    '/v1/embeddings',
    '/v1/keys',
    '/control/v1/tenants',
    '/control/v1/prices/import',
  ]) {
    for (const [code, body] of cases) {
      assertError(
        await stoa.call('POST', path, { body }),
        code,
        null,
        `${path} ${String(body).slice(0, 40)}`,
      );
    }
  }
});

test('a body of very many small parts is refused before it is parsed', async () => {
  const body = `{"model":"echo","messages":[${'[],'.repeat(1_000_000)}0]}`;
  const startedAt = performance.now();
  assertError(await chatText(body), 'invalid_request');
  assert.ok(performance.now() - startedAt < 5_000);
});

test('__proto__ and constructor are members like others: forwarded byte for byte, read by nobody', async () => {
  const said = '"messages":[{"role":"user","content":"hi"}]';
  await assertForwarded(`{"__proto__":{"stream":true,"n":99,"user":7},"model":"echo",${said}}`);
  await assertForwarded(`{"constructor":{"prototype":{"stream":true}},"model":"echo",${said}}`);
  await assertForwarded(
    `{"model":"echo","messages":[{"__proto__":{"role":7},"role":"user","content":"hi"}]}`,
  );
  assertError(await chatText(`{"__proto__":{"model":"echo"},${said}}`), 'invalid_request', 'model');
  assertError(await chatText(`{"model":"echo","__proto__":{${said}}}`), 'invalid_request', 'messages');
  const plain = await chat({});
  assert.equal(plain.status, 200, 'the prototype of objects is as it was');
  const created = await stoa.call('POST', '/control/v1/tenants', { body: '{"__proto__":{"name":"x"}}' });
  assertError(created, 'invalid_request');
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty']) {
    const answer = await stoa.call('POST', '/v1/keys', {
      body: `{"name":"k","role":"viewer","tags":{"${name}":"v"}}`,
    });
    if (answer.status === 201) assert.ok(answer.text.includes(`"tags":{"${name}":"v"}`), answer.text);
    else assertError(answer, 'invalid_request', undefined, name);
  }
});

test('metadata named __proto__ comes back in the explanation or is refused, never dropped', async () => {
  const body = `{"model":"echo","messages":[{"role":"user","content":"hi"}],"metadata":{"__proto__":"v","a":"b"}}`;
  const answer = await chatText(body);
  if (answer.status !== 200) {
    assertError(answer, 'invalid_request', 'metadata');
    return;
  }
  const explained = await stoa.call('GET', `/v1/requests/${String(answer.headers['x-request-id'])}`);
  assert.ok(explained.text.includes('"__proto__":"v"'), explained.text);
});

test('a member that Stoa reads is refused twice in one body; others pass with their repetition', async () => {
  const said = '"messages":[{"role":"user","content":"hi"}]';
  assertError(await chatText(`{"model":"echo",${said},"model":"auto"}`), 'invalid_request', 'model');
  assertError(
    await chatText(`{"model":"echo",${said},"max_tokens":1,"max_\\u0074okens":9}`),
    'invalid_request',
    'max_tokens',
  );
  await assertForwarded(`{"model":"echo",${said},"x":1,"x":2,"y":{"model":1,"model":2}}`);
});

test('NUL and lone surrogates are refused where they would be stored and pass where they are only forwarded', async () => {
  for (const text of ['a\\u0000b', '\\ud800', 'x\\udfffy', '\\udc00\\ud800']) {
    const said = `"messages":[{"role":"user","content":"${text}"}]`;
    await assertForwarded(`{"model":"echo",${said}}`);
    const stored = '"messages":[{"role":"user","content":"hi"}]';
    assertError(await chatText(`{"model":"echo",${stored},"user":"${text}"}`), 'invalid_text', 'user');
    assertError(
      await chatText(`{"model":"echo",${stored},"metadata":{"a":"${text}"}}`),
      'invalid_text',
      'metadata',
    );
    assertError(
      await chatText(`{"model":"echo",${stored},"metadata":{"${text}":"a"}}`),
      'invalid_text',
      'metadata',
    );
    assertError(await chatText(`{"model":"${text}",${stored}}`), 'invalid_text', 'model');
    const created = await stoa.call('POST', '/control/v1/tenants', { body: `{"name":"${text}"}` });
    assertError(created, 'invalid_text', 'name');
    const key = await stoa.call('POST', '/v1/keys', { body: `{"name":"${text}","role":"viewer"}` });
    assertError(key, 'invalid_text', 'name');
    const tagged = await stoa.call('POST', '/v1/keys', {
      body: `{"name":"k","role":"viewer","tags":{"a":"${text}"}}`,
    });
    assertError(tagged, 'invalid_text', 'tags.a');
  }
});

test('numbers beyond what a double holds are forwarded digit for digit', async () => {
  const said = '"messages":[{"role":"user","content":"hi"}]';
  await assertForwarded(`{"model":"echo",${said},"seed":9007199254740993,"x":1e400,"y":-0.0,"z":1.10}`);
  await assertForwarded(`{"model":"echo",${said},"logit_bias":{"50256":-100.000000000000000000001}}`);
  assertError(
    await chatText(`{"model":"echo",${said},"max_tokens":9007199254740993}`),
    'invalid_request',
    'max_tokens',
  );
  assertError(await chatText(`{"model":"echo",${said},"n":1e400}`), 'invalid_request', 'n');
});
