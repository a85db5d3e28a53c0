import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type Logger, manualClock, silentLogger } from '#kernel';
import { ChangePoll } from './change-poll.ts';
import { KeyDirectory } from './key-directory.ts';

function setUp() {
  const clock = manualClock();
  const windows: number[] = [];
  const state = { isAway: false, failures: 0, warnings: 0 };
  const logger: Logger = { ...silentLogger, warn: () => (state.warnings += 1) };
  const poll = new ChangePoll(
    {
      clock,
      logger,
      tenantKeys: new KeyDirectory({ load: async () => [], clock }),
      operatorKeys: new KeyDirectory({ load: async () => [], clock }),
      onFailure: () => (state.failures += 1),
      async loadChanges(windowMs) {
        windows.push(windowMs);
        if (state.isAway) throw new AppError('database_unavailable', 'The database cannot be reached.');
        return [];
      },
    },
    {},
  );
  return { clock, poll, windows, state };
}

test('each poll looks back 30 seconds beyond the last good one, so that an outage loses no change', async () => {
  const { clock, poll, windows, state } = setUp();
  await poll.run();
  clock.advance(500);
  await poll.run();
  state.isAway = true;
  clock.advance(60_000);
  await poll.run();
  clock.advance(60_000);
  state.isAway = false;
  await poll.run();
  clock.advance(500);
  await poll.run();
  assert.deepEqual(windows, [30_000, 30_500, 90_000, 150_000, 30_500]);
});

test('cached keys are trusted for 15 minutes without a good poll, and not longer', async () => {
  const { clock, poll, state } = setUp();
  await poll.run();
  state.isAway = true;
  clock.advance(900_000);
  await poll.run();
  assert.ok(poll.isFresh());
  clock.advance(1);
  assert.equal(poll.isFresh(), false);
  state.isAway = false;
  await poll.run();
  assert.ok(poll.isFresh());
});

test('an outage is counted at every poll and logged once', async () => {
  const { poll, state } = setUp();
  await poll.run();
  assert.ok(poll.isHealthy);
  state.isAway = true;
  for (let index = 0; index < 5; index++) await poll.run();
  assert.deepEqual([state.failures, state.warnings, poll.isHealthy], [5, 1, false]);
  state.isAway = false;
  await poll.run();
  assert.ok(poll.isHealthy);
  state.isAway = true;
  await poll.run();
  assert.deepEqual([state.failures, state.warnings], [6, 2]);
});

test('a stopped poll polls no more, and one that is started again goes on', async () => {
  const { poll, windows } = setUp();
  poll.start();
  await poll.stop();
  const before = windows.length;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(windows.length, before);
});
