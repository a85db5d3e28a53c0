import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Fifo } from './fifo.ts';
import { Roster, type RosterPlace } from './roster.ts';

describe('a roster', () => {
  test('holds what came and did not leave, in any order of coming and going', () => {
    const roster = new Roster<number>();
    const places = new Map<number, RosterPlace<number>>();
    let seed = 7;
    for (let step = 0; step < 5_000; step += 1) {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      const known = [...places.keys()];
      if (seed % 3 === 0 && known.length > 0) {
        const member = known[seed % known.length] ?? 0;
        const place = places.get(member);
        assert.ok(place);
        assert.equal(roster.remove(place), true);
        assert.equal(roster.remove(place), false, 'leaving twice does nothing');
        places.delete(member);
      } else if (known.length < 50) places.set(step, roster.add(step));
      assert.equal(roster.size, places.size);
    }
    const seen: number[] = [];
    roster.forEach((member) => seen.push(member));
    assert.deepEqual(
      seen.sort((a, b) => a - b),
      [...places.keys()].sort((a, b) => a - b),
    );
  });

  test('members may leave and come during a visit', () => {
    const roster = new Roster<string>();
    const first = roster.add('first');
    const second = roster.add('second');
    roster.add('third');
    const seen: string[] = [];
    roster.forEach((member) => {
      seen.push(member);
      roster.remove(first);
      roster.remove(second);
      if (member === 'first') roster.add('fourth');
    });
    assert.deepEqual(seen, ['first', 'third']);
    assert.equal(roster.size, 2);
  });
});

describe('a queue', () => {
  test('gives back in order what was put in, also over its compaction', () => {
    const queue = new Fifo<number>();
    let next = 0;
    let expected = 0;
    for (let round = 0; round < 300; round += 1) {
      for (let count = 0; count < 40; count += 1) queue.push(next++);
      assert.equal(queue.at(0), expected);
      assert.equal(queue.at(queue.size - 1), next - 1);
      assert.equal(queue.at(queue.size), null);
      for (let count = 0; count < 37; count += 1) assert.equal(queue.shift(), expected++);
      assert.equal(queue.size, next - expected);
    }
    while (queue.size > 0) assert.equal(queue.shift(), expected++);
    assert.equal(queue.shift(), null);
  });
});
