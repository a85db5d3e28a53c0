import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Logger, silentLogger } from '#kernel';
import { type BroadcastMessage, hearChanges, memoryBroadcast } from './index.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function setUp() {
  const broadcast = memoryBroadcast(silentLogger);
  const state = { batches: [] as number[][], all: 0, warnings: 0, isFailing: false };
  let gate = Promise.resolve();
  const logger: Logger = { ...silentLogger, warn: () => (state.warnings += 1) };
  const end = hearChanges({ broadcast, logger }, ['a', 'b'], {
    async apply(messages: readonly BroadcastMessage[]) {
      state.batches.push(messages.map(({ version }) => version));
      await gate;
      if (state.isFailing) throw new Error('no database');
    },
    async readAll() {
      state.all += 1;
      await gate;
    },
  });
  const hold = (): (() => void) => {
    const held = Promise.withResolvers<void>();
    gate = held.promise;
    return () => {
      gate = Promise.resolve();
      held.resolve();
    };
  };
  const publish = (version: number, topic = 'a'): void => broadcast.publish({ topic, version });
  return { state, end, hold, publish };
}

test('at the beginning all is read, once for all topics', async () => {
  const { state } = setUp();
  await turn();
  assert.ok(state.all >= 1);
  assert.deepEqual(state.batches, []);
});

test('what comes while a batch is applied is the next batch, in order and over topics', async () => {
  const { state, hold, publish } = setUp();
  await turn();
  const release = hold();
  publish(1);
  await turn();
  for (const [version, topic] of [
    [2, 'b'],
    [3, 'a'],
    [4, 'b'],
  ] as const)
    publish(version, topic);
  publish(5, 'another');
  await turn();
  release();
  await turn();
  assert.deepEqual(state.batches, [[1], [2, 3, 4]]);
});

test('a flood is answered by reading all', async () => {
  const { state, hold, publish } = setUp();
  await turn();
  const before = state.all;
  const release = hold();
  for (let version = 0; version < 5_000; version++) publish(version);
  await turn();
  release();
  await turn();
  assert.ok(state.batches.flat().length <= 1_000 && state.all > before);
});

test('a reader that fails is logged and goes on with the next change', async () => {
  const { state, publish } = setUp();
  await turn();
  state.isFailing = true;
  publish(1);
  await turn();
  publish(2);
  await turn();
  assert.deepEqual([state.batches, state.warnings], [[[1], [2]], 2]);
});

test('after its end nothing is read any more, and the end waits for what is being read', async () => {
  const { state, end, hold, publish } = setUp();
  await turn();
  const release = hold();
  publish(1);
  await turn();
  publish(2);
  await turn();
  let isEnded = false;
  const ending = end().then(() => (isEnded = true));
  await turn();
  assert.equal(isEnded, false);
  release();
  await ending;
  publish(3);
  await turn();
  assert.deepEqual(state.batches, [[1]]);
});
