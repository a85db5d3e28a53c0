import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { AppError, manualClock } from '#kernel';
import { createKeySetStore } from './key-set-store.ts';

const source = { tenantId: 'tenant', url: 'https://id.example.test/jwks.json' };
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => logger };

function jwk(kid: string): object {
  const { publicKey } = generateKeyPairSync('ed25519');
  return { ...publicKey.export({ format: 'jwk' }), kid };
}

function open(initial: unknown) {
  const clock = manualClock();
  const state = { answer: initial, fetches: 0 };
  const store = createKeySetStore({
    clock,
    logger,
    outbound: {
      async call({ url }) {
        state.fetches += 1;
        await Promise.resolve();
        if (state.answer === undefined)
          return { outcome: 'failed', fault: { kind: 'unreachable', code: null, detail: '' } };
        const body = Buffer.from(
          typeof state.answer === 'string' ? state.answer : JSON.stringify(state.answer),
        );
        return { outcome: 'answered', status: 200, headers: {}, body, isCut: false, url };
      },
    },
  });
  return { clock, state, store, has: async (kid: string) => (await store.find(source, kid)) !== null };
}

function isUnavailable(error: unknown): boolean {
  return error instanceof AppError && error.code === 'issuer_unavailable';
}

test('a flood of unknown key ids makes one fetch in 30 seconds, and one fetch serves all who wait', async () => {
  const { clock, state, store, has } = open({ keys: [jwk('a')] });
  const found = await Promise.all(Array.from({ length: 50 }, () => store.find(source, 'a')));
  assert.ok(found.every((key) => key !== null));
  assert.equal(state.fetches, 1);
  for (let round = 0; round < 100; round += 1) assert.equal(await has(`unknown-${round}`), false);
  assert.equal(state.fetches, 1);
  clock.advance(30_001);
  for (let round = 0; round < 100; round += 1) assert.equal(await has(`unknown-${round}`), false);
  assert.equal(state.fetches, 2);
});

test('a key that the issuer takes away is refused after the set was fetched again', async () => {
  const { clock, state, has } = open({ keys: [jwk('a'), jwk('b')] });
  assert.ok(await has('b'));
  state.answer = { keys: [jwk('a')] };
  clock.advance(11 * minuteMs);
  // The first use after ten minutes is answered from the old set, and starts the fetch.
  await has('b');
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await has('b'), false);
});

test('an issuer that is away is served from the last set for a day, and then is unavailable, not wrong', async () => {
  const { clock, state, has, store } = open({ keys: [jwk('a')] });
  assert.ok(await has('a'));
  state.answer = undefined;
  clock.advance(23 * hourMs);
  assert.ok(await has('a'));
  await new Promise((resolve) => setImmediate(resolve));
  clock.advance(2 * hourMs);
  await assert.rejects(store.find(source, 'a'), isUnavailable);
  const { fetches } = state;
  await assert.rejects(store.find(source, 'a'), isUnavailable);
  assert.equal(state.fetches, fetches, 'an issuer that is away is not asked for each token');
  state.answer = { keys: [jwk('a')] };
  clock.advance(30_001);
  assert.ok(await has('a'));
});

test('an answer that is no key set leaves the set that was', async () => {
  for (const answer of [
    '',
    'not json',
    '[]',
    '{"keys":1}',
    { keys: Array.from({ length: 101 }, () => jwk('x')) },
  ]) {
    const { clock, state, has } = open({ keys: [jwk('a')] });
    assert.ok(await has('a'));
    state.answer = answer;
    clock.advance(11 * minuteMs);
    await has('a');
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(await has('a'));
  }
});

test('sets are bounded: the one used longest ago leaves', async () => {
  const { store } = open({ keys: [jwk('a')] });
  for (let number = 0; number < 600; number += 1)
    await store.find({ ...source, url: `https://id.example.test/${number}` }, 'a');
  assert.equal(store.size, 500);
});
