import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { AppError, manualClock, silentLogger } from '#kernel';
import type { ListedModel, ModelProvider, ProviderConnection } from '#models';
import type { UsableProvider } from './catalog.ts';
import { derivedUuid } from './connections.ts';
import { createDiscovery } from './discovery.ts';

function provider(name: string, credentialId = name): UsableProvider {
  const connection: ProviderConnection = {
    id: name,
    kind: 'openai-compatible',
    baseUrl: 'http://h/v1',
    credential: null,
    headers: {},
    credentialId,
    maxConcurrency: 1,
  };
  return { uuid: derivedUuid(name), source: 'api', discover: true, connection };
}

/** A discovery of one provider `p` whose listings the test answers, under timers that the test moves. */
function start(t: TestContext, heedsAbort = true) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const clock = manualClock();
  const calls: {
    connection: ProviderConnection;
    signal: AbortSignal;
    answer: (ids: readonly string[] | null) => void;
  }[] = [];
  const engine: ModelProvider = {
    kind: 'openai-compatible',
    call: () => assert.fail('discovery calls no model'),
    listModels: (connection, signal) =>
      new Promise<readonly ListedModel[]>((resolve, reject) => {
        const fail = () => reject(new AppError('provider_unreachable', 'The provider could not be reached.'));
        if (heedsAbort) signal.addEventListener('abort', fail);
        calls.push({
          connection,
          signal,
          answer: (ids) => (ids ? resolve(ids.map((id) => ({ id, createdAt: 1, ownedBy: 'x' }))) : fail()),
        });
      }),
    close: async () => undefined,
  };
  let changes = 0;
  const discovery = createDiscovery({
    providers: new Map([[engine.kind, engine]]),
    clock,
    logger: silentLogger,
    onChanged: () => changes++,
  });
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  };
  const answerNext = async (ids: readonly string[] | null): Promise<void> => {
    calls.at(-1)?.answer(ids);
    await settle();
  };
  const uuid = derivedUuid('p');
  return {
    clock,
    calls,
    discovery,
    settle,
    answerNext,
    changes: () => changes,
    status: () => discovery.statusOf(uuid),
    ids: () => discovery.statusOf(uuid).models.map((model) => model.id),
    tick: (ms: number) => t.mock.timers.tick(ms),
  };
}

test('a good list replaces the one before, so a model that vanished is gone; the next comes after 30 s', async (t) => {
  const run = start(t);
  run.discovery.follow([provider('p')]);
  assert.equal(run.status().state, 'pending');
  await run.answerNext(['a', 'b']);
  assert.deepEqual([run.status().state, run.ids(), run.changes()], ['working', ['a', 'b'], 1]);
  run.tick(29_999);
  assert.equal(run.calls.length, 1);
  run.tick(1);
  assert.equal(run.calls.length, 2);
  await run.answerNext(['b']);
  assert.deepEqual([run.ids(), run.changes()], [['b'], 2]);
  run.tick(30_000);
  await run.answerNext(['b']);
  assert.equal(run.changes(), 2);
  await run.discovery.stop();
});

test('a server that is down keeps its models and is asked again after 1, 2, 4 ... 30 s', async (t) => {
  const run = start(t);
  run.discovery.follow([provider('p')]);
  await run.answerNext(['a']);
  run.tick(30_000);
  for (const delayMs of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    await run.answerNext(null);
    assert.deepEqual([run.status().state, run.ids()], ['failing', ['a']]);
    assert.equal(run.status().error, 'The provider could not be reached.');
    const before = run.calls.length;
    run.tick(delayMs - 1);
    assert.equal(run.calls.length, before, `${delayMs}`);
    run.tick(1);
    assert.equal(run.calls.length, before + 1, `${delayMs}`);
  }
  assert.equal(run.discovery.failures, 7);
  await run.answerNext(['a', 'c']);
  assert.deepEqual([run.status().state, run.ids(), run.status().error], ['working', ['a', 'c'], null]);
  await run.discovery.stop();
});

test('the wait for the first lists ends when all were tried, or with its time', async (t) => {
  const run = start(t);
  run.discovery.follow([provider('p'), provider('q')]);
  let isSettled = false;
  const wait = run.discovery.settled(2000).then(() => {
    isSettled = true;
  });
  run.calls[0]?.answer(['a']);
  await run.settle();
  assert.equal(isSettled, false);
  run.tick(2000);
  await wait;
  run.calls[1]?.answer(null);
  await run.settle();
  await run.discovery.settled(1_000_000);
  await run.discovery.stop();
});

test('an unknown model causes one listing for all who ask, and none again within 2 s', async (t) => {
  const run = start(t);
  run.discovery.follow([provider('p')]);
  await run.answerNext(['a']);
  const asked = [run.discovery.refresh(), run.discovery.refresh(), run.discovery.refresh()];
  assert.equal(run.calls.length, 2);
  await run.answerNext(['a', 'new']);
  assert.deepEqual(await Promise.all(asked), [true, true, true]);
  assert.deepEqual(run.ids(), ['a', 'new']);
  run.clock.advance(1999);
  assert.equal(await run.discovery.refresh(), false);
  assert.equal(run.calls.length, 2);
  run.clock.advance(1);
  const again = run.discovery.refresh();
  assert.equal(run.calls.length, 3);
  run.tick(2000);
  assert.equal(await again, true, 'a server that does not answer holds a caller for 2 s at most');
  await run.discovery.stop();
});

test('a new credential is tried at once, and the answer to the old one no longer counts', async (t) => {
  const run = start(t, false);
  run.discovery.follow([provider('p', 'old')]);
  run.discovery.follow([provider('p', 'new')]);
  assert.deepEqual(
    run.calls.map((call) => call.connection.credentialId),
    ['old', 'new'],
  );
  assert.equal(run.calls[0]?.signal.aborted, true);
  await run.answerNext(['b']);
  run.calls[0]?.answer(['of the old account']);
  await run.settle();
  assert.deepEqual([run.status().state, run.ids()], ['working', ['b']]);
  run.tick(30_000);
  assert.equal(run.calls.length, 3);
  await run.answerNext(['b']);
  await run.discovery.stop();
});

test('a provider that is no longer followed is asked no more and has no models', async (t) => {
  const run = start(t);
  run.discovery.follow([provider('p')]);
  await run.answerNext(['a']);
  run.discovery.follow([]);
  run.tick(120_000);
  assert.deepEqual([run.calls.length, run.status().state, run.ids()], [1, 'off', []]);
  await run.discovery.stop();
});
