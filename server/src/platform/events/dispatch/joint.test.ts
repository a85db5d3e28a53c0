import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createJoint } from './joint.ts';

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};

test('what comes while runs are under way goes together, within the limit and in its order; nothing waits for nothing', async () => {
  const runs: { readonly items: readonly number[]; readonly end: () => void }[] = [];
  const joint = createJoint<number>(
    (items) =>
      new Promise((end) => {
        runs.push({ items, end });
      }),
    { atOnce: 2, most: 4 },
  );
  const done: number[] = [];
  const add = (...items: readonly number[]): void => {
    joint.add(items).then(
      () => done.push(...items),
      () => assert.fail('it failed'),
    );
  };
  add(1);
  add(2);
  add(3, 4);
  add(5, 6);
  add(7);
  await settle();
  assert.deepEqual(
    runs.map(({ items }) => items),
    [[1], [2]],
  );
  runs[1]?.end();
  await settle();
  assert.deepEqual(runs[2]?.items, [3, 4, 5, 6]);
  runs[2]?.end();
  await settle();
  assert.deepEqual(runs[3]?.items, [7]);
  assert.deepEqual(done, [2, 3, 4, 5, 6]);
});

test('a run that fails is told to all whose items it held, and the next begins', async () => {
  let calls = 0;
  const joint = createJoint<string>(
    async () => {
      calls += 1;
      if (calls === 1) throw new Error('away');
    },
    { atOnce: 1, most: 10 },
  );
  const all = await Promise.allSettled([joint.add(['a']), joint.add(['b']), joint.add(['c'])]);
  assert.deepEqual(
    all.map(({ status }) => status),
    ['rejected', 'fulfilled', 'fulfilled'],
  );
  assert.equal(calls, 2);
});
