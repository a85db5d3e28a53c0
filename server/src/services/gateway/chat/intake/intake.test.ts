import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Target } from '#models';
import { testTarget } from '../chat-path.harness.ts';
import { readChatRequest } from './chat-request.ts';
import { spliceBody } from './body-splice.ts';
import { bodyFor } from './intake.ts';

const same: Target = testTarget({ id: 'm', model: 'm' });
const renamed: Target = testTarget({ id: 'm', model: 'real "model"' });
const tail = '"messages":[{"role":"user","content":"é \\" {","big":9007199254740993}],"x":1,"x":2';

function rewritten(body: string, target: Target, limit: number | null = null): string {
  return bodyFor(readChatRequest(Buffer.from(body)), target, limit).toString();
}

test('a body that needs no change is forwarded as the very bytes that came', () => {
  const body = Buffer.from(` { "model" : "m" , ${tail} } `);
  assert.equal(bodyFor(readChatRequest(body), same, null), body);
  const asked = Buffer.from(`{"model":"m","stream":true,"stream_options":{"include_usage":true},${tail}}`);
  assert.equal(bodyFor(readChatRequest(asked), same, null), asked);
});

test('a renamed model changes its value and no other byte', () => {
  assert.equal(
    rewritten(`{ "model" : "m" , ${tail} }`, renamed),
    `{ "model" : "real \\"model\\"" , ${tail} }`,
  );
  assert.equal(
    rewritten(`{${tail},"mod\\u0065l":"m"}`, renamed),
    `{${tail},"mod\\u0065l":"real \\"model\\""}`,
  );
});

test('large integers keep their digits and repeated unknown keys stay', () => {
  const sent = rewritten(`{"model":"m","stream":true,${tail}}`, renamed);
  assert.ok(sent.includes('9007199254740993'));
  assert.ok(sent.endsWith('"x":1,"x":2}'));
});

test('a stream asks for usage, whatever its options were', () => {
  const head = '{"model":"m","stream":true';
  assert.equal(
    rewritten(`${head},${tail}}`, same),
    `{"stream_options":{"include_usage":true},"model":"m","stream":true,${tail}}`,
  );
  const cases = [
    ['null', '{"include_usage":true}'],
    ['{}', '{"include_usage":true}'],
    ['{ }', '{"include_usage":true }'],
    ['{"include_usage":false}', '{"include_usage":true}'],
    ['{"include_usage":null}', '{"include_usage":true}'],
    ['{"a":[1,{"include_usage":false}]}', '{"include_usage":true,"a":[1,{"include_usage":false}]}'],
    ['{"a":1, "include_usage" : false , "b":2}', '{"a":1, "include_usage" : true , "b":2}'],
    ['{"include_usage":true}', '{"include_usage":true}'],
  ] as const;
  for (const [given, expected] of cases) {
    assert.equal(
      rewritten(`${head},"stream_options":${given},${tail}}`, same),
      `${head},"stream_options":${expected},${tail}}`,
    );
  }
  assert.equal(rewritten(`{"model":"m",${tail}}`, same), `{"model":"m",${tail}}`, 'no stream, no question');
});

test('an output limit is added under the name that the provider knows', () => {
  assert.equal(rewritten(`{"model":"m",${tail}}`, same, 50), `{"max_tokens":50,"model":"m",${tail}}`);
  assert.equal(
    rewritten(`{"model":"m","max_completion_tokens":null,${tail}}`, same, 50),
    `{"model":"m","max_completion_tokens":50,${tail}}`,
  );
  const openAi = testTarget({ id: 'm', model: 'm', baseUrl: 'https://api.openai.com/v1' });
  assert.equal(
    rewritten(`{"model":"m",${tail}}`, openAi, 50),
    `{"max_completion_tokens":50,"model":"m",${tail}}`,
  );
});

test('splices apply in any order, and every rewritten body is still the same JSON but for the change', () => {
  const body = Buffer.from('0123456789');
  const splices = [
    { start: 8, end: 9, text: 'eight' },
    { start: 0, end: 0, text: '<' },
    { start: 2, end: 4, text: 'é' },
  ];
  assert.equal(spliceBody(body, splices).toString(), '<01é4567eight9');
  const sent: unknown = JSON.parse(rewritten(`{"model":"m","stream":true,${tail}}`, renamed, 7));
  assert.deepEqual(sent, {
    max_tokens: 7,
    stream_options: { include_usage: true },
    model: 'real "model"',
    stream: true,
    messages: [{ role: 'user', content: 'é " {', big: 9007199254740992 }],
    x: 2,
  });
});
