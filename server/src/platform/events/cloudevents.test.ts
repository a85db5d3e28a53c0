import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cloudEvent } from '@stoa/contracts';
import { toTypeId } from '#kernel';
import { binaryCloudEvent, structuredCloudEvent } from './cloudevents.ts';
import type { CarriedEvent } from './types.ts';

const seed = Number(process.env['STOA_TEST_SEED'] ?? Date.now() % 1_000_000_007);
console.log(`seed ${seed}`);

const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 60 });
const nullable = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: null });
const hex = (length: number) =>
  fc
    .bigInt({ min: 0n, max: 16n ** BigInt(length) - 1n })
    .map((bits) => bits.toString(16).padStart(length, '0'));
const events: fc.Arbitrary<CarriedEvent> = fc.record(
  {
    tenantId: fc.uuid(),
    eventId: fc.uuid(),
    type: fc.oneof(fc.constant('request.completed.v1'), text),
    key: text,
    keyversion: fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }),
    occurredAt: fc.date({ min: new Date(0), max: new Date('2999-12-31'), noInvalidDate: true }),
    causation: nullable(fc.uuid()),
    traceparent: nullable(fc.tuple(hex(32), hex(16)).map(([trace, span]) => `00-${trace}-${span}-01`)),
    data: fc.jsonValue().map((value) => JSON.stringify(value)),
  },
  { noNullPrototype: true },
);

const event: CarriedEvent = {
  tenantId: '018f4d2a-0000-7def-8a12-3b4c5d6e7f80',
  eventId: '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80',
  type: 'control.changed.v1',
  key: 'key:00a1B2c3D4e5',
  keyversion: 3n,
  occurredAt: new Date('2026-03-01T12:00:00.000Z'),
  causation: null,
  traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
  data: '{"resource": "key"}',
};

test('the structured form is what CloudEvents 1.0 says', () => {
  const { headers, body } = structuredCloudEvent(event);
  assert.deepEqual(headers, { 'content-type': 'application/cloudevents+json; charset=utf-8' });
  assert.deepEqual(JSON.parse(body), {
    specversion: '1.0',
    id: toTypeId('evt', event.eventId),
    source: '/control',
    type: 'control.changed.v1',
    time: '2026-03-01T12:00:00.000Z',
    tenantid: toTypeId('ten', event.tenantId),
    partitionkey: 'key:00a1B2c3D4e5',
    keyversion: '3',
    traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01',
    datacontenttype: 'application/json',
    data: { resource: 'key' },
  });
});

test('the binary form has its attributes in ce- headers and the data as it is', () => {
  const { headers, body } = binaryCloudEvent({ ...event, key: 'Grüße 100 %, "x"' });
  assert.equal(body, event.data);
  assert.equal(headers['content-type'], 'application/json');
  assert.equal(headers['ce-specversion'], '1.0');
  assert.equal(headers['ce-source'], '/control');
  assert.equal(headers['ce-partitionkey'], 'Gr%C3%BC%C3%9Fe%20100%20%25,%20%22x%22');
  assert.equal(headers['ce-causationid'], undefined);
});

/** What a consumer outside reads, by the HTTP binding of CloudEvents 1.0: headers are percent-encoded UTF-8. */
function attributesIn(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).flatMap(([name, value]) =>
      name.startsWith('ce-') ? [[name.slice(3), decodeURIComponent(value)]] : [],
    ),
  );
}

test('both forms say the same of every event, and every header is printable ASCII', () => {
  fc.assert(
    fc.property(events, (one) => {
      const binary = binaryCloudEvent(one);
      for (const value of Object.values(binary.headers)) assert.match(value, /^[\x21-\x7e]+$/);
      assert.equal(binary.body, one.data);
      const { body } = structuredCloudEvent(one);
      assert.ok(body.endsWith(`,"data":${one.data}}`));
      const { data, datacontenttype, ...attributes } = cloudEvent.parse(JSON.parse(body));
      assert.deepEqual(attributesIn(binary.headers), attributes);
      assert.deepEqual([data, datacontenttype], [JSON.parse(one.data), 'application/json']);
      assert.equal(attributes.partitionkey, one.key);
      assert.equal(attributes.id, toTypeId('evt', one.eventId));
    }),
    { seed, numRuns: 500 },
  );
});
