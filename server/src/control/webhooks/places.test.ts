import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PlaceShare } from './places.ts';

test('those who find no place come back one after the other, two seconds to a minute later', () => {
  const share = new PlaceShare(16);
  const now = 1_790_000_000_000;
  const back = Array.from({ length: 600 }, () => share.comeBackAt(now) - now);
  assert.deepEqual([back[0], back[1], back[16]], [2_000, 2_125, 4_000]);
  assert.ok(back.every((ms, index) => ms <= 60_000 && (index === 0 || ms >= (back[index - 1] ?? 0))));
  assert.equal(share.comeBackAt(now + 120_000), now + 122_000);
});

test('a share is full at its places, and free again', () => {
  const share = new PlaceShare(2);
  share.enter();
  assert.deepEqual([share.isFull, share.isEmpty], [false, false]);
  share.enter();
  assert.equal(share.isFull, true);
  share.leave();
  share.leave();
  assert.deepEqual([share.isFull, share.isEmpty], [false, true]);
});
