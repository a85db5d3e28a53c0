import assert from 'node:assert/strict';
import { test } from 'node:test';
import { memberOf, parseStrictObject } from './strict-json.ts';

function parsed(text: string | Buffer): unknown {
  return parseStrictObject(Buffer.from(text));
}

test('objects are read as they are, whatever stands in their strings', () => {
  for (const text of [
    '{}',
    '{"a":{"a":1},"b":[{"a":1},{"a":2}]}',
    '{"a":"\\"b\\":1","b":"{\\"a\\":","c":"\\\\"}',
    ' {"a" : 1} ',
  ])
    assert.deepEqual(parsed(text), JSON.parse(text), text);
});

test('a member that is there twice, however it is spelled, is refused', () => {
  for (const text of [
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"b":{"a":1,"a":2}}',
    '[{"a":1}]',
    '{"b":[{"a":1,"a":2}]}',
  ])
    assert.equal(parsed(text), null, text);
});

test('what is no JSON object in UTF-8 of at most 16 levels is refused', () => {
  const deep = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;
  for (const text of ['', 'null', '1', '"a"', '[]', '{', '{"a":1}x', '{"a":1,}', deep(17)])
    assert.equal(parsed(text), null, text);
  assert.equal(parsed(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), null);
  assert.notEqual(parsed(deep(16)), null);
});

test('what an object inherits is no member of it', () => {
  const object = parseStrictObject(Buffer.from('{"__proto__":{"role":"admin"}}')) ?? {};
  assert.equal(memberOf(object, 'role'), undefined);
  assert.equal(memberOf(object, 'constructor'), undefined);
});
