import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, manualClock } from '#kernel';
import { KeyLookup } from './key-lookup.ts';

function deferredLoads() {
  const calls: {
    keyIds: readonly string[];
    answer: (found: ReadonlyMap<string, string>) => void;
    fail: (error: unknown) => void;
  }[] = [];
  return {
    calls,
    load: (keyIds: readonly string[]) =>
      new Promise<ReadonlyMap<string, string>>((resolve, reject) => {
        calls.push({ keyIds, answer: resolve, fail: reject });
      }),
    /** Answers the query of that number with every id known. */
    answerAll(number: number): void {
      const call = calls[number];
      call?.answer(new Map(call.keyIds.map((id) => [id, `found ${id}`])));
    },
  };
}

const settled = async (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('one query serves all who ask for a key at the same time', async () => {
  const loads = deferredLoads();
  const lookup = new KeyLookup({ load: loads.load, monotonic: () => 0 });
  const asked = Array.from({ length: 100 }, () => lookup.find('a'));
  assert.equal(loads.calls.length, 1);
  loads.answerAll(0);
  assert.deepEqual(new Set(await Promise.all(asked)), new Set(['found a']));
  assert.equal(lookup.pendingCount, 0);
});

test('a cold start with ten thousand keys is a few dozen queries, two at a time', async () => {
  let running = 0;
  let most = 0;
  let queries = 0;
  const lookup = new KeyLookup(
    {
      monotonic: () => 0,
      async load(keyIds) {
        queries += 1;
        most = Math.max(most, (running += 1));
        await settled();
        running -= 1;
        return new Map(keyIds.map((id) => [id, id]));
      },
    },
    { pendingIds: 20_000 },
  );
  const ids = Array.from({ length: 10_000 }, (_, index) => `key${index}`);
  assert.deepEqual(await Promise.all(ids.map((id) => lookup.find(id))), ids);
  assert.ok(queries <= 23, `${queries} queries`);
  assert.equal(most, 2);
});

test('a flood of invented keys is answered with overloaded beyond the bound, and never reaches the database', async () => {
  const loads = deferredLoads();
  const lookup = new KeyLookup(
    { load: loads.load, monotonic: () => 0 },
    { pendingIds: 10, concurrentQueries: 1 },
  );
  const waiting = Array.from({ length: 10 }, (_, index) => lookup.find(`key${index}`));
  await assert.rejects(
    lookup.find('one more'),
    (error) => error instanceof AppError && error.code === 'overloaded' && error.retryAfterMs === 1000,
  );
  assert.equal(await Promise.race([lookup.find('key0'), Promise.resolve('waits')]), 'waits');
  assert.equal(loads.calls.length, 1);
  loads.answerAll(0);
  await settled();
  loads.answerAll(1);
  assert.equal((await Promise.all(waiting)).length, 10);
});

test('an unknown key is not asked for again until its time has passed', async () => {
  const clock = manualClock();
  let queries = 0;
  const lookup = new KeyLookup<string>(
    {
      monotonic: () => clock.monotonic(),
      async load() {
        queries += 1;
        return new Map();
      },
    },
    { unknownForMs: 1000 },
  );
  assert.equal(await lookup.find('a'), null);
  clock.advance(999);
  assert.equal(await lookup.find('a'), null);
  assert.equal(queries, 1);
  clock.advance(1);
  assert.equal(await lookup.find('a'), null);
  assert.equal(queries, 2);
});

test('no more unknown keys are remembered than the bound', async () => {
  const lookup = new KeyLookup<string>(
    { monotonic: () => 0, load: async () => new Map() },
    { unknownIds: 50 },
  );
  for (let index = 0; index < 200; index++) await lookup.find(`key${index}`);
  assert.equal(lookup.unknownCount, 50);
});

test('a failed query fails those who waited for it and nobody after them', async () => {
  const loads = deferredLoads();
  const lookup = new KeyLookup({ load: loads.load, monotonic: () => 0 });
  const failing = lookup.find('a');
  loads.calls[0]?.fail(new AppError('database_unavailable', 'The database cannot be reached.'));
  await assert.rejects(
    failing,
    (error) => error instanceof AppError && error.code === 'database_unavailable',
  );
  const again = lookup.find('a');
  loads.answerAll(1);
  assert.equal(await again, 'found a');
});

test('an id that the database cannot take is unknown, and fails none of those that it went out with', async () => {
  let queries = 0;
  const lookup = new KeyLookup<string>(
    {
      monotonic: () => 0,
      async load(keyIds) {
        queries += 1;
        await settled();
        if (keyIds.some((id) => id.includes('\u0000')))
          throw new AppError('invalid_text', 'It cannot be stored.');
        return new Map(keyIds.map((id) => [id, id]));
      },
    },
    { concurrentQueries: 1 },
  );
  const ids = Array.from({ length: 300 }, (_, index) => (index === 77 ? 'bad\u0000' : `key${index}`));
  const found = await Promise.all(ids.map((id) => lookup.find(id)));
  assert.deepEqual(
    found,
    ids.map((id) => (id.startsWith('bad') ? null : id)),
  );
  assert.ok(queries < 30, `${queries} queries`);
  assert.equal(lookup.pendingCount, 0);
});
