import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import type { LoggedEvent } from '../types.ts';
import { type EventFacts, judgeBatch } from './judgement.ts';

const tenantId = randomUUID();

function version(keyversion: bigint): LoggedEvent {
  return {
    tenantId,
    eventId: randomUUID(),
    type: 'control.changed.v1',
    key: 'one',
    keyversion,
    occurredAt: new Date(0),
    causation: null,
    traceparent: null,
    data: '{}',
    cursor: { xid: '1', seq: String(keyversion) },
  };
}

function facts(changes: Partial<EventFacts>): EventFacts {
  const none = {
    isHandled: false,
    isStored: false,
    isBlocked: false,
    hasFollowers: false,
    hasEarlier: false,
  };
  return { ...none, position: null, ...changes };
}

/** One by one, as a replay hands them over. */
function replayed(events: readonly bigint[], position: bigint | null): readonly string[] {
  return events.flatMap((keyversion) => {
    const isHandled = position !== null && keyversion <= position;
    return judgeBatch([version(keyversion)], [facts({ position, isHandled })], 'replay');
  });
}

test('a replay repeats what its consumer has come to, and leaves to the carrier what lies beyond', () => {
  assert.deepEqual(replayed([1n, 2n, 3n], 3n), ['handle', 'handle', 'handle']);
  assert.deepEqual(replayed([1n, 2n, 4n, 5n], 1n), ['handle', 'skip', 'skip', 'skip']);
  assert.deepEqual(replayed([3n, 4n], null), ['skip', 'skip']);
});

test('a replay waits for a failed event of its key', () => {
  const blocked = facts({ position: 3n, isHandled: true, isBlocked: true });
  assert.deepEqual(judgeBatch([version(2n)], [blocked], 'replay'), ['blocked']);
});
