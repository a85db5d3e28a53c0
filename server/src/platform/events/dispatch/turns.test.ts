import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTurns } from './turns.ts';

/** Lets all that can go on go on. */
const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
};

test('what works together overlaps, and one that is alone overlaps with nothing, in the order of asking', async () => {
  const { together, alone } = createTurns();
  const seen: string[] = [];
  const gates = new Map<string, () => void>();
  const work = (name: string) => async (): Promise<string> => {
    seen.push(`+${name}`);
    await new Promise<void>((resolve) => gates.set(name, resolve));
    seen.push(`-${name}`);
    return name;
  };
  const all = [
    together(work('a')),
    together(work('b')),
    alone(work('c')),
    together(work('d')),
    alone(work('e')),
  ];
  await settle();
  assert.deepEqual(seen, ['+a', '+b']);
  for (const name of ['b', 'a', 'c', 'd', 'e']) {
    gates.get(name)?.();
    await settle();
  }
  assert.deepEqual(await Promise.all(all), ['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(seen, ['+a', '+b', '-b', '-a', '+c', '-c', '+d', '-d', '+e', '-e']);
});

test('work that throws gives its turn back', async () => {
  const { together, alone } = createTurns();
  await assert.rejects(alone(() => Promise.reject(new Error('no'))));
  await assert.rejects(together(() => Promise.reject(new Error('no'))));
  assert.equal(await alone(async () => 1), 1);
});
