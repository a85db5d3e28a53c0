import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventDeclaration } from '@stoa/contracts';
import { newUuid } from '#kernel';
import { eventMessage, isSubscribed, publicEventTypes } from './public-events.ts';

const uuid = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/;

function messageOf(type: string, data: unknown): string | null {
  return eventMessage({ eventId: newUuid(), type, occurredAt: new Date(), data: JSON.stringify(data) });
}

test('every type of the table has a public form, whose ids are those of the API', () => {
  assert.equal(publicEventTypes.length, 8);
  for (const type of publicEventTypes) {
    const text = messageOf(type, eventDeclaration(type).example) ?? '';
    assert.ok(text.includes(`"type":"${type}"`), type);
    assert.doesNotMatch(text, uuid, type);
  }
});

test('a field that an event gains stays inside', () => {
  for (const type of publicEventTypes) {
    const { example } = eventDeclaration(type);
    const data = typeof example === 'object' && example !== null ? { ...example, gained: 'inner' } : {};
    assert.doesNotMatch(messageOf(type, data) ?? '', /gained|inner/, type);
  }
});

test('what the provider called a request, reservations and the operator’s keys are not shown', () => {
  const { example } = eventDeclaration('request.completed.v1');
  const text = messageOf('request.completed.v1', example) ?? '';
  assert.doesNotMatch(text, /provider_request_id|reserved_femto|tenant_id|"price":/);
  const changed = eventDeclaration('control.changed.v1').example;
  const shown = messageOf('control.changed.v1', Object.assign({}, changed, { changed_by: 'operator:00abc' }));
  assert.match(shown ?? '', /"changed_by":"operator"/);
});

test('data that does not fit its type is a fault, and an unknown type is nobody’s', () => {
  assert.throws(() => messageOf('run.changed.v1', { run_id: 1 }));
  assert.equal(messageOf('run.changed.v9', {}), null);
});

test('a star subscribes to all', () => {
  assert.equal(isSubscribed(['*'], 'run.changed.v1'), true);
  assert.equal(isSubscribed(['run.changed.v1'], 'run.changed.v1'), true);
  assert.equal(isSubscribed(['run.changed.v1'], 'run.changed.v2'), false);
});
