import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { redactedJson } from './redact.ts';

test('values under the names of secrets are taken out at any depth, and whether there is one is kept', () => {
  const value = {
    key: 'stoa_sk_x',
    name: 'k',
    has_credential: true,
    credential: 'sk-abc',
    credential_last_four: 'abcd',
    nested: [{ key_hash: 'ff', credential_sealed: 'sealed', signing_secret: 's', client_secret: null }],
    secret: false,
    hash: new Uint8Array([1, 2, 3]),
  };
  assert.deepEqual(JSON.parse(redactedJson(value) ?? ''), {
    key: '[redacted]',
    name: 'k',
    has_credential: true,
    credential: '[redacted]',
    credential_last_four: 'abcd',
    nested: [
      {
        key_hash: '[redacted]',
        credential_sealed: '[redacted]',
        signing_secret: '[redacted]',
        client_secret: null,
      },
    ],
    secret: false,
    hash: '[redacted]',
  });
});

test('what looks like a key is taken out of any text', () => {
  const key = `stoa_sk_00abcdefghij_${'x'.repeat(30)}abcdef`;
  const jwt = `eyJhbGciOiJFZERTQSJ9.${'a'.repeat(30)}.${'b'.repeat(30)}`;
  const text = redactedJson({ note: `my key is ${key}, my token ${jwt}`, [key]: 1 }) ?? '';
  assert.ok(!text.includes(key) && !text.includes(jwt), text);
  assert.ok(text.includes('my key is [redacted], my token [redacted]'));
});

test('an address keeps its host and the words of its path, not its parameters nor what looks like a secret in it', () => {
  const shown = (url: string): unknown => JSON.parse(redactedJson({ url }) ?? '');
  assert.deepEqual(
    shown('https://hooks.example.com/services/T000/XXXX1secretpath9876543?token=super&api_key=abc#top'),
    { url: 'https://hooks.example.com/services/T000/[redacted]?token=[redacted]&api_key=[redacted]#top' },
  );
  const plain = 'https://id.example.com/realms/a-name-of-many-words/.well-known/jwks.json';
  assert.deepEqual(shown(plain), { url: plain });
  assert.deepEqual(JSON.parse(redactedJson({ text: `see ${plain}?a=1, please` }) ?? ''), {
    text: `see ${plain}?a=[redacted] please`,
  });
});

test('members of one letter are secrets in a key, and names like others elsewhere', () => {
  assert.deepEqual(
    JSON.parse(redactedJson({ tags: { d: 'red', k: 1 }, jwk: { kty: 'oct', k: 'x' } }) ?? ''),
    {
      tags: { d: 'red', k: 1 },
      jwk: { kty: 'oct', k: '[redacted]' },
    },
  );
});

test('nothing is null, and what cannot be stored is replaced', () => {
  assert.equal(redactedJson(undefined), null);
  assert.equal(redactedJson(null), null);
  assert.deepEqual(JSON.parse(redactedJson({ a: 'x\0y\ud800', b: 10n, c: new Date(0) }) ?? ''), {
    a: 'x\uFFFDy\uFFFD',
    b: '10',
    c: '1970-01-01T00:00:00.000Z',
  });
  const ring: { self?: unknown } = {};
  ring.self = ring;
  assert.ok((redactedJson(ring) ?? '').length < 1000);
  const proto: unknown = JSON.parse('{"__proto__": {"password": "p"}, "ok": 1}');
  assert.equal(redactedJson(proto), '{"__proto__":{"password":"[redacted]"},"ok":1}');
});

function parsed(value: unknown): unknown {
  const text = redactedJson(value) ?? '';
  assert.ok(text.length <= 16_384, `${text.length} characters`);
  assert.ok(text.isWellFormed());
  const found: unknown = JSON.parse(text);
  return found;
}

test('what is too large loses the ends of its longest texts, says how long they were, and keeps the rest', () => {
  const note = `${'x'.repeat(4095)}\u{1F600}${'y'.repeat(50_000)}`;
  const found = parsed({ role: 'admin', note, other: 'z'.repeat(4000), scopes: ['keys:read'] });
  const shown = hash('sha256', note, 'hex').slice(0, 16);
  assert.deepEqual(found, {
    role: 'admin',
    note: `${'x'.repeat(4095)}\uFFFD… [54097 characters, SHA-256 ${shown}]`,
    other: 'z'.repeat(4000),
    scopes: ['keys:read'],
  });
});

test('of a hundred long roles each is told apart, and what each may stays to be read', () => {
  const names = Array.from({ length: 100 }, (_, index) => `${'r'.repeat(250)}${index}`);
  const rolesOf = (last: string) => ({
    object: 'issuer',
    claims: {
      role: 'groups',
      roles: Object.fromEntries(names.map((name, index) => [name, index === 99 ? last : 'viewer'])),
    },
    enabled: true,
  });
  const [before, after] = [redactedJson(rolesOf('viewer')) ?? '', redactedJson(rolesOf('admin')) ?? ''];
  assert.equal(before.match(/"viewer"/g)?.length, 100);
  assert.equal(after.match(/"viewer"/g)?.length, 99);
  assert.match(after, /\[252 characters, SHA-256 [0-9a-f]{16}\]":"admin"/);
  assert.ok(after.length <= 16_384 && after.endsWith('},"enabled":true}'), after.slice(-100));
});

test('of too many members the first are kept and the rest counted, in lists and objects, at any depth', () => {
  const many = Array.from({ length: 20_000 }, (_, index) => index);
  const shape = (last: number) => ({
    many: [...many, last],
    deep: { map: { ...Object.fromEntries(many.entries()), last } },
    role: 'admin',
  });
  const found = JSON.stringify(parsed(shape(1)));
  assert.match(
    found,
    /^\{"many":\[0,1,2,.*"\[\d+ more of 20001; \d+ characters in all, SHA-256 [0-9a-f]{16}\]"\]/,
  );
  assert.match(found, /"deep":\{"map":\{"0":0,"1":1.*"…":"\[\d+ more of 20001; /);
  assert.ok(found.endsWith('"role":"admin"}'));
  assert.notEqual(found, JSON.stringify(parsed(shape(2))), 'a change at the end shows');
  const wide = Object.fromEntries(
    many.slice(0, 2_000).map((index) => [`member-${index}`, '\u0001'.repeat(300)]),
  );
  for (const value of [wide, Object.values(wide), [wide, wide], many, '\u0001'.repeat(99_999)]) {
    assert.ok(parsed(value) !== null);
  }
});
