import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type EventType, eventTable, isEventType } from '@stoa/contracts';
import { z } from 'zod';
import { fromTypeId } from '#kernel';
import { idFields, shownData } from './shown-data.ts';

const uuid = '018f4d2a-7c1b-7def-8a12-3b4c5d6e7f80';
const types = Object.keys(eventTable).filter(isEventType);

/** The fields of a type that its schema says are UUIDs. */
function uuidFields(type: EventType): string[] {
  const { properties } = z
    .object({ properties: z.record(z.string(), z.unknown()) })
    .parse(z.toJSONSchema(eventTable[type].schema));
  return Object.entries(properties).flatMap(([name, shape]) =>
    JSON.stringify(shape).includes('"format":"uuid"') ? [name] : [],
  );
}

test('every field that a schema says is a UUID is shown as a TypeID, of every type', () => {
  for (const type of types) {
    const shown: unknown = shownData(type, JSON.stringify(eventTable[type].example));
    const fields = z.record(z.string(), z.unknown()).parse(shown);
    for (const name of uuidFields(type)) {
      const prefix = new Map(Object.entries(idFields[type])).get(name);
      assert.ok(prefix, `${type}: it is not said what ${name} is the id of`);
      const value = fields[name];
      if (typeof value === 'string') assert.ok(fromTypeId(prefix, value), `${type}.${name}: ${value}`);
    }
  }
});

test('an id whose kind another field says is shown by its kind; what is no UUID stays', () => {
  const shown = (resource: string, id: string) =>
    z
      .object({ resource_id: z.string() })
      .parse(shownData('control.changed.v1', JSON.stringify({ resource, resource_id: id }))).resource_id;
  assert.equal(fromTypeId('ten', shown('tenant', uuid)), uuid);
  assert.equal(fromTypeId('mem', shown('member', uuid)), uuid);
  assert.equal(shown('key', '00a1B2c3D4e5'), '00a1B2c3D4e5');
  assert.equal(shown('something new', uuid), uuid);
});

test('what is not known, or no JSON, is shown as it is', () => {
  assert.deepEqual(shownData('run.changed.v9', JSON.stringify({ run_id: uuid })), { run_id: uuid });
  assert.deepEqual(shownData('run.changed.v1', '[1]'), [1]);
  assert.deepEqual(shownData('run.changed.v1', '{"run_id":7}'), { run_id: 7 });
  assert.equal(shownData('run.changed.v1', '{'), '{');
});
