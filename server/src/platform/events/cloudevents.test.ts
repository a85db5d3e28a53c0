import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AppError, toTypeId } from '#kernel';
import {
  binaryCloudEvent,
  type CloudEventMessage,
  type HeadersIn,
  parseBinaryCloudEvent,
  parseCloudEvent,
  parseStructuredCloudEvent,
  structuredCloudEvent,
} from './cloudevents.ts';
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

/** Through a server's eyes: names in another case, the body as bytes. */
function received({ headers, body }: CloudEventMessage): [HeadersIn, Buffer] {
  const shouted = Object.entries(headers).map(([name, value]): [string, string] => [
    name.toUpperCase(),
    value,
  ]);
  return [Object.fromEntries(shouted), Buffer.from(body)];
}

test('every event comes back from both forms as it was, and every header is printable ASCII', () => {
  fc.assert(
    fc.property(events, (one) => {
      const binary = binaryCloudEvent(one);
      for (const value of Object.values(binary.headers)) assert.match(value, /^[\x21-\x7e]+$/);
      assert.deepEqual(parseCloudEvent(...received(binary)), one);
      assert.deepEqual(parseCloudEvent(...received(structuredCloudEvent(one))), one);
    }),
    { seed, numRuns: 500 },
  );
});

function refusal(work: () => unknown): { code: string; param: string | null } {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    return { code: error.code, param: error.param };
  }
  assert.fail('it was taken');
}

const badAttributes: [string, string | undefined][] = [
  ['specversion', '0.3'],
  ['specversion', undefined],
  ['id', event.eventId],
  ['id', undefined],
  ['id', toTypeId('ten', event.eventId)],
  ['source', ''],
  ['type', undefined],
  ['time', 'yesterday'],
  ['tenantid', 'ten_'],
  ['partitionkey', undefined],
  ['keyversion', '0'],
  ['keyversion', '1.5'],
  ['keyversion', '9223372036854775808'],
  ['causationid', 'evt_x'],
  ['traceparent', '00-1-2-3'],
];

test('an attribute that is missing or not valid is refused by its name, in both forms', () => {
  for (const [name, value] of badAttributes) {
    const object: unknown = JSON.parse(structuredCloudEvent(event).body);
    const body = Buffer.from(JSON.stringify(Object.assign(Object(object), { [name]: value })));
    assert.deepEqual(
      refusal(() => parseStructuredCloudEvent(body)),
      { code: 'invalid_event', param: name },
    );
    const [headers, data] = received(binaryCloudEvent(event));
    const changed = {
      ...headers,
      [`CE-${name.toUpperCase()}`]: value,
    };
    assert.deepEqual(
      refusal(() => parseBinaryCloudEvent(changed, data)),
      { code: 'invalid_event', param: `ce-${name}` },
    );
  }
});

test('bodies and headers that are no event are refused with a code', () => {
  const { headers } = binaryCloudEvent(event);
  const structured = { 'content-type': 'application/cloudevents+json' };
  const cases: [HeadersIn, string | Buffer, string, string | null][] = [
    [headers, '', 'invalid_json', null],
    [headers, '{', 'invalid_json', null],
    [headers, Buffer.from([0x22, 0xff, 0x22]), 'invalid_encoding', null],
    [headers, '['.repeat(200) + ']'.repeat(200), 'json_too_deep', null],
    [{ ...headers, 'ce-type': ['a', 'b'] }, '{}', 'invalid_event', 'ce-type'],
    [{ ...headers, 'ce-partitionkey': '%zz' }, '{}', 'invalid_event', 'ce-partitionkey'],
    [{ ...headers, 'ce-partitionkey': '%ff' }, '{}', 'invalid_event', 'ce-partitionkey'],
    [{ ...headers, 'content-type': 'text/plain' }, '{}', 'invalid_event', 'content-type'],
    [{}, '{}', 'invalid_event', 'content-type'],
    [{ 'content-type': 'application/cloudevents-batch+json' }, '[]', 'invalid_event', 'content-type'],
    [structured, '[]', 'invalid_event', null],
    [structured, 'null', 'invalid_event', null],
    [structured, '{"data_base64":"AA=="}', 'invalid_event', 'data_base64'],
    [structured, '{"datacontenttype":"text/xml"}', 'invalid_event', 'datacontenttype'],
    [structured, '{"specversion":"1.0"}', 'invalid_event', 'data'],
    [structured, '{"specversion":1,"data":1}', 'invalid_event', 'specversion'],
  ];
  for (const [sent, body, code, param] of cases) {
    assert.deepEqual(
      refusal(() => parseCloudEvent(sent, Buffer.from(body))),
      { code, param },
    );
  }
});

test('a quoted header value is unquoted before it is decoded', () => {
  const { headers, body } = binaryCloudEvent(event);
  const quoted = { ...headers, 'ce-partitionkey': '"a \\"b\\" %E2%82%AC"' };
  assert.equal(parseCloudEvent(quoted, Buffer.from(body)).key, 'a "b" €');
});
