import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventTable } from '@stoa/contracts';
import { z } from 'zod';
import { asyncApi } from './asyncapi.ts';
import { isJson, type Json } from '../events/schemas.ts';

/**
 * The parts of AsyncAPI 3.0.0 that the document uses, as its specification has them: which members an object may have,
 * which it must, and the characters of names.
 */
const name = z.string().regex(/^[a-zA-Z0-9._-]+$/);
const reference = z.strictObject({ $ref: z.string().regex(/^#\//) });
const schemaObject = z.looseObject({});
const messageObject = z.strictObject({
  name: z.string(),
  title: z.string(),
  summary: z.string(),
  description: z.string(),
  contentType: z.string().regex(/^application\/(cloudevents\+)?json$/),
  headers: z.looseObject({ type: z.literal('object') }).optional(),
  payload: schemaObject,
  examples: z.array(z.strictObject({ name: z.string(), payload: z.unknown() })),
});
const documentObject = z.strictObject({
  asyncapi: z.literal('3.0.0'),
  info: z.strictObject({
    title: z.string(),
    version: z.string(),
    description: z.string(),
    license: z.strictObject({ name: z.string(), url: z.url() }),
  }),
  defaultContentType: z.string(),
  channels: z.record(
    name,
    z.strictObject({
      address: z.null(),
      title: z.string(),
      description: z.string(),
      messages: z.record(name, reference),
    }),
  ),
  operations: z.record(
    name,
    z.strictObject({
      action: z.enum(['send', 'receive']),
      channel: reference,
      summary: z.string(),
      messages: z.array(reference).min(1),
    }),
  ),
  components: z.strictObject({
    schemas: z.record(name, schemaObject),
    messages: z.record(name, messageObject),
  }),
});

const document = documentObject.parse(asyncApi());

function resolve(pointer: string): unknown {
  let value: unknown = document;
  for (const step of pointer.slice(2).split('/')) {
    assert.ok(isJson(value) && step in value, `${pointer} leads nowhere`);
    value = value[step];
  }
  return value;
}

/** A schema with the parts it refers to in place. */
function whole(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(whole);
  if (!isJson(value)) return value;
  if (typeof value['$ref'] === 'string') return whole(resolve(value['$ref']));
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, whole(part)]));
}

function validatorOf(schema: Json): z.ZodType {
  const resolved = whole(schema);
  assert.ok(isJson(resolved));
  return z.fromJSONSchema(resolved, { defaultTarget: 'draft-7' });
}

test('every event of the table is in the document, with both of its forms', () => {
  const types = Object.keys(eventTable).sort();
  assert.deepEqual(Object.keys(document.channels), types);
  assert.deepEqual(Object.keys(document.components.schemas), types);
  assert.equal(Object.keys(document.components.messages).length, types.length * 2);
  assert.equal(types.length, 8);
});

test('every reference leads somewhere, and an operation sends only what its channel carries', () => {
  const pointers = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, at = '']) => at);
  assert.ok(pointers.length >= 48);
  for (const pointer of pointers) resolve(pointer);
  for (const { channel, messages } of Object.values(document.operations)) {
    for (const message of messages) assert.ok(message.$ref.startsWith(`${channel.$ref}/messages/`));
  }
});

test('every example is valid by its own schema, and stops being so when a required field is taken away', () => {
  for (const [type, { payload, examples }] of Object.entries(document.components.messages)) {
    const validator = validatorOf(payload);
    for (const example of examples) {
      const result = validator.safeParse(example.payload);
      assert.ok(result.success, `${type}: ${result.error?.message ?? ''}`);
      assert.ok(isJson(example.payload));
      const [first = '', ...others] = Object.keys(example.payload);
      const { [first]: _, ...less } = example.payload;
      assert.ok(others.length > 0);
      assert.equal(validator.safeParse(less).success, false, `${type} without ${first}`);
    }
  }
});
