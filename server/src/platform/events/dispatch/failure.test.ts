import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#kernel';
import { failureOf, UnreadableEvent } from './failure.ts';

/** Throws at every touch. */
function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

test('a failure is made of anything that can be thrown', () => {
  const lies = new Error('x');
  Object.defineProperty(lies, 'message', {
    get: () => {
      throw new Error('no message');
    },
  });
  for (const thrown of [revoked(), lies, null, undefined, 7n, Symbol('s'), () => 1, { a: revoked() }]) {
    const failure = failureOf(thrown);
    assert.equal(failure.code, 'handler_failed');
    assert.equal(failure.publicMessage, 'Handling the event failed on our side.');
  }
});

test('what is meant for the tenant is told; of everything else only that it failed', () => {
  const told = failureOf(new AppError('conflict', 'The tenant is gone.'));
  assert.deepEqual([told.code, told.publicMessage], ['conflict', 'The tenant is gone.']);
  const unreadable = failureOf(new UnreadableEvent('event_invalid', 'data: must be an object'));
  assert.deepEqual([unreadable.code, unreadable.publicMessage], ['event_invalid', 'data: must be an object']);
  const inner = failureOf(new Error('password of db'));
  assert.equal(inner.publicMessage.includes('password'), false);
});
