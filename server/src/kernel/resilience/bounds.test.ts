import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '../clock.ts';
import { BoundedMap } from './bounded-map.ts';
import { Bulkhead } from './bulkhead.ts';
import { RetryBudget } from './retry-budget.ts';

test('a bounded map never holds more than its capacity and lets the least recently used go', () => {
  let made = 0;
  const map = new BoundedMap<string, number>(4, () => (made += 1));
  for (const key of ['a', 'b', 'c', 'd']) map.get(key);
  map.get('a');
  map.get('e');
  assert.equal(map.size, 4);
  assert.equal(map.peek('b'), undefined);
  assert.equal(map.peek('a'), 1);
  assert.deepEqual([...map.values()], [3, 4, 1, 5]);
  assert.throws(() => new BoundedMap(0, () => 1), RangeError);
});

test('retries are a share of the requests, with a floor by time', () => {
  const clock = manualClock();
  const budget = new RetryBudget(clock, { share: 0.1, perSecond: 1, capacity: 2 });
  assert.equal(budget.withdraw(), true);
  assert.equal(budget.withdraw(), true);
  assert.equal(budget.withdraw(), false);
  for (let request = 0; request < 9; request += 1) budget.deposit();
  assert.equal(budget.withdraw(), false);
  budget.deposit();
  budget.deposit();
  assert.equal(budget.withdraw(), true);
  clock.advance(1_000);
  assert.equal(budget.withdraw(), true);
  clock.advance(1_000_000);
  assert.deepEqual([budget.withdraw(), budget.withdraw(), budget.withdraw()], [true, true, false]);
});

test('a bulkhead lets so many in, queues so many, and serves them in order', () => {
  const bulkhead = new Bulkhead(2);
  const entered: string[] = [];
  const waiter = (name: string) => () => entered.push(name);
  assert.equal(bulkhead.tryEnter(1), true);
  assert.equal(bulkhead.tryEnter(1), false);
  const first = waiter('first');
  assert.equal(bulkhead.join(first), true);
  assert.equal(bulkhead.join(waiter('second')), true);
  assert.equal(bulkhead.join(waiter('third')), false, 'the queue is full');
  assert.equal(bulkhead.tryEnter(5), false, 'nobody overtakes who waits');
  bulkhead.leave(first);
  bulkhead.release();
  assert.deepEqual(entered, ['second']);
  assert.equal(bulkhead.inFlight, 1, 'the place went on to the next');
  bulkhead.release();
  assert.equal(bulkhead.inFlight, 0);
  assert.equal(bulkhead.tryEnter(1), true);
});
