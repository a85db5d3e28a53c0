/** What every consumer may rely on, whichever carrier brings its events; each adapter runs it inside a `describe` of its own. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import type { Dispatcher, DispatcherSettings, EventConsumer } from '../index.ts';
import { anEvent, type Arena, recorder, until } from './testing/arena.ts';

export interface ConsumersUnderTest {
  arena(): Arena;
  /** As another process would have one, over a carrier of its own. */
  dispatcher(consumers: readonly EventConsumer[], settings?: DispatcherSettings): Promise<Dispatcher>;
}

export function consumersContract(under: ConsumersUnderTest): void {
  throws(under);
  endsHalfWay(under);
  passesDeadline(under);
  neverEnds(under);
  isUnreadable(under);
}

const ofTenant = <Row extends { readonly tenant_id: string }>(
  rows: readonly Row[],
  tenantId: string,
): Row[] => rows.filter((row) => row.tenant_id === tenantId);

/** A consumer meets what other tests have told, too. */
const storedOf = async (arena: Arena, tenantId: string, consumer: string) =>
  ofTenant(await arena.stored(consumer), tenantId);

const effectsOf = async (arena: Arena, tenantId: string, consumer: string) =>
  ofTenant(await arena.effects(consumer), tenantId);

/** What a handler may throw, and nobody expects. */
function strangeThings(): readonly unknown[] {
  const hostile = new Proxy({}, { get: () => assert.fail('a trap') });
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  const getters = Object.defineProperties(
    new Error('hidden'),
    Object.fromEntries(
      ['message', 'stack', 'cause', 'name'].map((name) => [name, { get: () => assert.fail('a getter') }]),
    ),
  );
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const nameless = new Proxy(new Error('hidden'), { getPrototypeOf: () => assert.fail('a trap') });
  return [
    new Error('plain \u0000 \ud800 text'),
    undefined,
    null,
    'words',
    7n,
    hostile,
    { toJSON: () => assert.fail('no json') },
    cyclic,
    getters,
    revoked.proxy,
    nameless,
    new AppError('conflict', 'The invoice is paid.'),
  ];
}

function throws(under: ConsumersUnderTest): void {
  test('what throws anything is tried again and then lies dead with its cause; others go on, its key waits', async () => {
    const arena = under.arena();
    const tenantId = await arena.newTenant();
    const thrown = strangeThings();
    const poison = thrown.map((_, index) =>
      anEvent(tenantId, {
        key: `poison ${index}`,
        traceparent: `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`,
      }),
    );
    const followers = poison.map(({ key }) => anEvent(tenantId, { key, keyversion: 2n }));
    const others = thrown.map((_, index) => anEvent(tenantId, { key: `other ${index}` }));
    const throwing = recorder('throwing', async (event) => {
      const index = poison.findIndex(({ eventId }) => eventId === event.eventId);
      if (index >= 0) throw thrown[index];
    });
    await arena.tell(...poison, ...followers, ...others);
    const running = await under.dispatcher([throwing]);
    await running.start();
    const count = thrown.length;
    const stored = await until(
      () => storedOf(arena, tenantId, 'throwing'),
      (rows) => rows.filter(({ state }) => state === 'dead').length === count && rows.length === 2 * count,
      'dead letters and their followers',
    );
    await until(
      () => effectsOf(arena, tenantId, 'throwing'),
      (rows) => others.every(({ eventId }) => rows.some((row) => row.event_id === eventId)),
      'the others',
    );
    const effects = await effectsOf(arena, tenantId, 'throwing');
    await running.stop();

    assert.equal(effects.length, count);
    const dead = stored.filter(({ state }) => state === 'dead');
    assert.deepEqual(
      dead.map(({ attempts, total_attempts: total }) => [attempts, total]),
      dead.map(() => [3, 3]),
    );
    assert.deepEqual(
      dead.map(({ error_code: code }) => code),
      [...Array.from({ length: count - 1 }, () => 'handler_failed'), 'conflict'],
    );
    assert.equal(dead[0]?.error_message, 'plain \u{FFFD} \u{FFFD} text');
    assert.match(dead[0]?.error_stack ?? '', /consumers\.contract/);
    assert.equal(dead[0]?.traceparent, poison[0]?.traceparent);
    assert.equal(dead[0]?.public_message, 'Handling the event failed on our side.');
    assert.equal(dead.at(-1)?.public_message, 'The invoice is paid.');
    assert.deepEqual(
      stored
        .filter(({ state }) => state === 'held')
        .map((row) => row.event_id)
        .toSorted(),
      followers.map(({ eventId }) => eventId).toSorted(),
    );
  });
}

function passesDeadline(under: ConsumersUnderTest): void {
  test('a handler past its deadline is one failed attempt, and what it writes later does not land', async () => {
    const arena = under.arena();
    const tenantId = await arena.newTenant();
    let lateWrite: Promise<unknown> = Promise.resolve();
    const released = Promise.withResolvers<void>();
    const event = anEvent(tenantId, { key: 'slow' });
    const busy = anEvent(tenantId, { key: 'busy' });
    const slow = recorder('slow', undefined, {
      async handle(tx, given) {
        const write = async () =>
          sql`insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
            values (${given.tenantId}, 'slow', ${given.eventId}, ${given.key}, 1)`.execute(tx);
        if (given.eventId === event.eventId) {
          lateWrite = released.promise.then(write);
          await lateWrite;
        }
        if (given.eventId === busy.eventId) {
          const end = performance.now() + 700;
          while (performance.now() < end);
          await write();
        }
      },
    });
    await arena.tell(event, busy);
    const running = await under.dispatcher([slow]);
    await running.start();
    const stored = await until(
      () => storedOf(arena, tenantId, 'slow'),
      (rows) => rows.filter(({ state }) => state === 'dead').length === 2,
      'both dead',
    );
    released.resolve();
    await assert.rejects(lateWrite);
    await running.stop();
    assert.deepEqual(
      stored.map(({ error_code: code }) => code),
      ['handler_deadline', 'handler_deadline'],
    );
    assert.deepEqual(await effectsOf(arena, tenantId, 'slow'), []);
  });
}

function isUnreadable(under: ConsumersUnderTest): void {
  test('an unknown version, and data that its schema refuses, lie dead at once with their code', async () => {
    const arena = under.arena();
    const tenantId = await arena.newTenant();
    const strange = anEvent(tenantId, { key: 'v9', type: 'test.happened.v9' });
    const broken = anEvent(tenantId, { key: 'broken', type: 'run.changed.v1', data: '{"run_id":7}' });
    const noJson = anEvent(tenantId, { key: 'no json', type: 'run.changed.v1', data: '{' });
    const unrelated = anEvent(tenantId, { key: 'unrelated', type: 'test.other.v1' });
    const fine = anEvent(tenantId, { key: 'fine' });
    await arena.tell(strange, broken, noJson, unrelated, fine);
    const strict = recorder('strict', undefined, { types: ['test.happened.v1', 'run.changed.v1'] });
    const running = await under.dispatcher([strict]);
    await running.start();
    const stored = await until(
      () => storedOf(arena, tenantId, 'strict'),
      (rows) => rows.length === 3,
      'three dead letters',
    );
    await until(
      () => effectsOf(arena, tenantId, 'strict'),
      (rows) => rows.some(({ event_id: id }) => id === fine.eventId),
      'the effect of the one that is fine',
    );
    await running.stop();
    assert.deepEqual(
      stored.map(({ event_id: id, state, error_code: code, attempts }) => [id, state, code, attempts]),
      [
        [strange.eventId, 'dead', 'event_version_unknown', 1],
        [broken.eventId, 'dead', 'event_invalid', 1],
        [noJson.eventId, 'dead', 'event_invalid', 1],
      ],
    );
    assert.match(stored[1]?.error_message ?? '', /^data\.run_id: /);
  });
}

function endsHalfWay(under: ConsumersUnderTest): void {
  test('a handler that throws half-way has had no effect: one failed attempt, and the next is whole', async () => {
    const arena = under.arena();
    const tenantId = await arena.newTenant();
    const event = anEvent(tenantId, { key: 'half' });
    let attempts = 0;
    const half = recorder('half', undefined, {
      async handle(tx, given) {
        await sql`insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
          values (${given.tenantId}, 'half', ${given.eventId}, ${given.key}, 1)`.execute(tx);
        if (given.eventId === event.eventId && attempts++ === 0) throw new Error('half-way');
      },
    });
    await arena.tell(event);
    const running = await under.dispatcher([half], { retryDelaysMs: [1500] });
    await running.start();
    const [stored] = await until(
      () => storedOf(arena, tenantId, 'half'),
      (rows) => rows.some((row) => row.event_id === event.eventId),
      'the failed attempt',
    );
    assert.deepEqual([stored?.attempts, stored?.state], [1, 'retrying']);
    const mine = async () =>
      (await effectsOf(arena, tenantId, 'half')).filter((row) => row.event_id === event.eventId);
    assert.deepEqual(await mine(), []);
    await until(mine, (rows) => rows.length === 1, 'its effect');
    await running.stop();
    assert.equal(attempts, 2);
    assert.deepEqual(await storedOf(arena, tenantId, 'half'), []);
  });
}

/**
 * Generous: what shares a partition with the key waits for one deadline, all else for nothing. PGlite has one session,
 * which a handler that hangs has for itself until its deadline, at each attempt.
 */
const delayLimitsMs = { postgres: 4000, pglite: 15_000 };

function neverEnds(under: ConsumersUnderTest): void {
  test("one key's handler that never resolves holds that key only: the others' delay stays bounded", async () => {
    const arena = under.arena();
    const tenantId = await arena.newTenant();
    const toldAtMs = new Map<string, number>();
    const delays: number[] = [];
    let hanging = 0;
    const consumer = recorder('hanging', async (event) => {
      if (event.key === 'stuck') {
        hanging += 1;
        await new Promise(() => undefined);
      }
      const at = toldAtMs.get(event.eventId);
      if (at !== undefined) delays.push(performance.now() - at);
    });
    const running = await under.dispatcher([consumer], {
      handlerDeadlineMs: 1000,
      retryDelaysMs: Array.from({ length: 50 }, () => 1000),
    });
    await running.start();
    const keys = Array.from({ length: 8 }, (_, index) => `flowing ${index}`);
    const rounds = 30;
    for (let round = 1; round <= rounds; round++) {
      const keyversion = BigInt(round);
      const events = ['stuck', ...keys].map((key) => anEvent(tenantId, { key, keyversion }));
      for (const { eventId } of events) toldAtMs.set(eventId, performance.now());
      await arena.tellTogether(events);
      await new Promise((resolve) => {
        setTimeout(resolve, 100);
      });
    }
    const flowing = async () => (await effectsOf(arena, tenantId, 'hanging')).length;
    await until(flowing, (count) => count >= keys.length * rounds, 'the effect of all others', 30_000);
    const stored = await until(
      () => storedOf(arena, tenantId, 'hanging'),
      (rows) => rows.length === rounds,
      'all events of the key in the store',
    );
    await running.stop();
    assert.ok(hanging > 1, 'it was tried once at most');
    assert.deepEqual(
      [stored.length, stored.filter(({ state }) => state === 'held').length],
      [rounds, rounds - 1],
    );
    delays.sort((a, b) => a - b);
    const p99 = delays[Math.floor(delays.length * 0.99)] ?? 0;
    assert.ok(p99 < delayLimitsMs[arena.db.adapter], `p99 ${p99.toFixed(0)} ms`);
  });
}
