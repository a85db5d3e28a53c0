import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  defineServiceApi,
  wireBigint,
  wireBytes,
  wireDate,
  wireNothing,
  wireUndefinable,
} from '@stoa/contracts';
import fc from 'fast-check';
import { z } from 'zod';
import { AppError } from '#kernel';
import { fixtureApi, testCall } from '#testing';
import {
  exactJson,
  readAnswer,
  readEnvelope,
  readInput,
  writeCall,
  writeError,
  writeOutput,
} from './wire.ts';

const { echo, fail } = fixtureApi.methods;
const value = fc.record(
  {
    amount: fc.bigInt(),
    at: fc.date({ noInvalidDate: true }),
    bytes: fc.uint8Array({ maxLength: 300 }),
    note: fc.string({ unit: 'binary' }),
    slots: fc.array(fc.option(fc.bigInt(), { nil: undefined })),
  },
  { requiredKeys: ['amount', 'at', 'bytes', 'slots'], noNullPrototype: true },
);

test('bigints, dates, bytes and undefined come back as they went, as input and as output', () => {
  fc.assert(
    fc.property(value, (input) => {
      const call = writeCall(echo, testCall(), input, 5_000);
      assert.deepStrictEqual(readInput(echo, readEnvelope(JSON.parse(call))), input);
      assert.deepStrictEqual(readAnswer(echo, JSON.parse(writeOutput(echo, input))), { output: input });
    }),
    { verbose: 1 },
  );
});

test('the limits of each kind come back, too', () => {
  for (const amount of [0n, -1n, 10n ** 999n, -(2n ** 64n)]) {
    assert.equal(z.decode(wireBigint, z.encode(wireBigint, amount)), amount);
  }
  for (const ms of [0, -8.64e15, 8.64e15]) {
    assert.equal(z.decode(wireDate, z.encode(wireDate, new Date(ms))).getTime(), ms);
  }
  const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
  assert.deepStrictEqual(z.decode(wireBytes, z.encode(wireBytes, bytes)), bytes);
  assert.equal(z.decode(wireNothing, z.encode(wireNothing, undefined)), undefined);
  const maybe = z.array(wireUndefinable(z.string().nullable()));
  assert.deepStrictEqual(z.decode(maybe, z.encode(maybe, [undefined, null, ''])), [undefined, null, '']);
  for (const text of ['01', '-0', '', '1e3', ' 1', `1${'0'.repeat(1000)}`]) {
    assert.equal(z.safeDecode(wireBigint, text).success, false, text.slice(0, 10));
  }
});

test('what JSON would change in silence is refused', () => {
  const changed = [
    1n,
    NaN,
    Infinity,
    -0,
    [undefined],
    new Date(),
    new Map(),
    Buffer.alloc(1),
    () => 1,
    Symbol('s'),
  ];
  for (const member of changed) assert.throws(() => exactJson({ a: { b: member } }), TypeError);
  assert.equal(
    exactJson({ a: undefined, b: [null, 'x', 1.5, { c: true }] }),
    '{"b":[null,"x",1.5,{"c":true}]}',
  );
});

test('a schema that has no form on the wire cannot be declared', () => {
  for (const schema of [
    z.bigint(),
    z.date(),
    z.undefined(),
    z.map(z.string(), z.string()),
    z.instanceof(Uint8Array),
  ]) {
    const methods = {
      take: { input: z.object({ a: schema }), output: wireNothing, isIdempotent: true, timeoutMs: 1 },
    };
    assert.throws(() => defineServiceApi({ service: 'broken', methods }), RangeError);
  }
  const method = { input: wireNothing, output: wireNothing, isIdempotent: true, timeoutMs: 1 };
  assert.throws(() => defineServiceApi({ service: 'Broken/..', methods: {} }), RangeError);
  assert.throws(() => defineServiceApi({ service: 'broken', methods: { 'a/b': method } }), RangeError);
  assert.throws(
    () => defineServiceApi({ service: 'broken', methods: { a: { ...method, timeoutMs: 0 } } }),
    RangeError,
  );
});

test('an AppError crosses with code, message, field, retry and details', () => {
  const error = new AppError('rate_limit_exceeded', 'Too fast.', {
    param: 'how',
    retryAfterMs: 2_500,
    details: { limit: 5n, window: 'minute' },
    wasMoneySpent: true,
    cause: new Error('secret_table'),
  });
  const written = writeError(error);
  assert.ok(!written.includes('secret'));
  assert.throws(
    () => readAnswer(fail, JSON.parse(written)),
    (read) => {
      assert.ok(read instanceof AppError);
      const { code, publicMessage, param, retryAfterMs, retry, details, wasMoneySpent } = read;
      assert.deepStrictEqual(
        { code, publicMessage, param, retryAfterMs, retry, details, wasMoneySpent },
        {
          code: 'rate_limit_exceeded',
          publicMessage: 'Too fast.',
          param: 'how',
          retryAfterMs: 2_500,
          retry: 'later',
          details: { limit: '5', window: 'minute' },
          wasMoneySpent: true,
        },
      );
      return true;
    },
  );
});

test('of an internal error nothing crosses but that it was one, whatever it held', () => {
  const error = new AppError('internal_error', 'secret_table is broken', {
    param: 'secret',
    details: { secret: 1 },
    cause: new Error('secret'),
  });
  assert.ok(!writeError(error).includes('secret'));
});

test('an envelope whose principal is of another tenant, or with no time left, is refused', () => {
  const good: unknown = JSON.parse(
    writeCall(echo, testCall(), { amount: 1n, at: new Date(0), bytes: new Uint8Array(), slots: [] }, 5),
  );
  assert.ok(typeof good === 'object' && good !== null);
  readEnvelope(good);
  const refused = (changes: object): void =>
    assert.throws(() => readEnvelope({ ...good, ...changes }), /invalid|tenant|read/i);
  refused({ tenant_id: '0199c0de-0000-7000-8000-000000000000' });
  refused({ tenant_id: null });
  refused({ remaining_ms: 0 });
  refused({ remaining_ms: 600_001 });
  refused({ version: 2 });
  refused({ principal: { kind: 'root' } });
  refused({ idempotency_key: 'a b' });
  assert.throws(() => readEnvelope(null), AppError);
});
