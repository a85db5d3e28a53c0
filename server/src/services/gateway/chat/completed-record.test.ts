import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isoTime } from './completed-record.ts';

test('a time is written as Date writes it, across the seconds', () => {
  for (const ms of [
    0, 1, 999, 1_000, 1_767_225_600_000, 1_767_225_600_007, 1_767_225_599_999, 1_767_225_600_070,
  ]) {
    assert.equal(isoTime(ms), new Date(ms).toISOString());
  }
  assert.equal(isoTime(1_767_225_600_070.9), '2026-01-01T00:00:00.070Z');
});
