import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { sql } from 'kysely';
import type { Database } from '#db';
import { openTestDatabase, type TestDatabase } from '#testing';
import { partitionOf } from '../partition.ts';
import type { LoggedEvent } from '../types.ts';
import { readCursor } from './cursor.ts';
import { type Ear, hasNats, openRoad, type Road, until } from './nats.harness.ts';

function ids(events: readonly LoggedEvent[]): string[] {
  return events.map((event) => event.eventId);
}

function keyNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `key ${index}`);
}

/** Each exactly once, and within a partition in the order of the log. */
function assertWhole(ear: Pick<Ear, 'events'>, expected: readonly string[]): void {
  assert.equal(ear.events.length, expected.length);
  assert.deepEqual(new Set(ids(ear.events)), new Set(expected));
  const order = new Map(expected.map((id, index) => [id, index]));
  const last = new Map<number, number>();
  for (const event of ear.events) {
    const partition = partitionOf(event.tenantId, event.key);
    const place = order.get(event.eventId) ?? -1;
    assert.ok(place > (last.get(partition) ?? -1), 'an event of a partition came before an earlier one');
    last.set(partition, place);
  }
}

describe('events over NATS', { skip: !hasNats && 'needs the services (--services)' }, () => {
  let database: TestDatabase;
  let tenantId: string;
  let road: Road;

  beforeEach(async () => {
    database = await openTestDatabase();
    tenantId = await database.newTenant();
    road = await openRoad(database.db);
  });
  afterEach(async () => {
    await road.close();
    await database.close();
  });

  test('every event arrives once, as it was written, in the order of its partition', async () => {
    const link = road.link();
    const relay = road.relay(link);
    await link.start();
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.whole');
    const expected: string[] = [];
    for (let turn = 0; turn < 20; turn += 1) expected.push(...(await road.append(tenantId, keyNames(100))));
    await road.append(tenantId, ['x'], 'fixture.ignored.v1');
    expected.push(
      ...(await road.append(tenantId, ['ü\r\n "%" \u{1F600}'], 'fixture.happened.v2', '{"a": "ü\u2028"}')),
    );
    await until('all events came', () => ear.events.length >= expected.length);
    assertWhole(ear, expected);
    const odd = ear.events.find((event) => event.type === 'fixture.happened.v2');
    assert.equal(odd?.key, 'ü\r\n "%" \u{1F600}');
    assert.equal(odd?.data, '{"a": "ü\u2028"}');
    assert.equal(odd?.keyversion, 1n);
    assert.equal(odd?.tenantId, tenantId);
  });

  test('an event larger than a message may be comes too', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const ear = await road.listen(road.carrier(link), 'fixture.large');
    const data = JSON.stringify({ text: 'x'.repeat(1_500_000) });
    const expected = await road.append(tenantId, ['large'], undefined, data);
    expected.push(...(await road.append(tenantId, ['large'])));
    await until('both came', () => ear.events.length === 2);
    assertWhole(ear, expected);
    assert.equal(ear.events[0]?.data, data);
  });

  test('a cut while acknowledgements are under way leaves the stream whole, sorted and without repeats', async () => {
    const link = road.link();
    const relay = road.relay(link, { batch: 200 });
    await link.start();
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.cut');
    await road.proxy.set({ delayMs: 5 });
    const expected: string[] = [];
    for (let turn = 0; turn < 10; turn += 1) {
      expected.push(...(await road.append(tenantId, keyNames(300))));
      const had = relay.state().relayed;
      relay.wake();
      await until('some were relayed', () => relay.state().relayed > had);
      road.proxy.reset();
    }
    await until('all events came', () => ear.events.length >= expected.length, 30_000);
    assertWhole(ear, expected);
    const jsm = await jetstreamManager(await road.admin());
    const { state } = await jsm.streams.info(road.settings.stream);
    let last = 0n;
    for (let sequence = state.first_seq; sequence <= state.last_seq; sequence += 1) {
      const message = await jsm.streams.getMessage(road.settings.stream, { seq: sequence });
      const cursor = readCursor(message?.header.get('stoa-cursor') ?? '');
      const place = (BigInt(cursor?.xid ?? 0) << 64n) + BigInt(cursor?.seq ?? 0);
      assert.ok(place > last, `message ${sequence} is out of order`);
      last = place;
    }
  });

  test('a relay that slept past its lease neither publishes out of order nor moves the place', async () => {
    const link = road.link();
    await link.start();
    const ear = await road.listen(road.carrier(link), 'fixture.slept');
    const { stream } = road.settings;
    // Always granted, as a process sees it whose lease ended while it was stopped.
    let fence = 1n;
    const lying = { take: async () => ({ fence }), giveBack: async () => undefined };
    const old = road.relay(link, { leaseMs: 600_000 }, { leases: lying });
    await old.start();
    const expected = await road.append(tenantId, keyNames(50));
    await until('the first relay copied', () => old.state().relayed >= 50);
    fence = 2n;
    const fresh = road.relay(link, { leaseMs: 600_000 }, { leases: lying });
    await fresh.start();
    await until('the second relay leads', () => fresh.state().isLeading);
    fence = 1n; // and the first goes on with what it had, also when it begins again
    for (let turn = 0; turn < 20; turn += 1) expected.push(...(await road.append(tenantId, keyNames(50))));
    await until('all events came', () => ear.events.length >= expected.length);
    await until('the first was told', () => !old.state().isLeading);
    assertWhole(ear, expected);
    await fresh.stop();
    const { rows } = await database.db.withSystem('relay', (tx) =>
      sql<{ fence: bigint }>`select fence from platform.event_relays where name = ${stream}`.execute(tx),
    );
    assert.equal(rows[0]?.fence, 2n);
    const jsm = await jetstreamManager(await road.admin());
    const { state } = await jsm.streams.info(stream);
    const cursors: bigint[] = [];
    for (let sequence = state.first_seq; sequence <= state.last_seq; sequence += 1) {
      const message = await jsm.streams.getMessage(stream, { seq: sequence });
      cursors.push(BigInt(readCursor(message?.header.get('stoa-cursor') ?? '')?.seq ?? 0));
    }
    assert.equal(new Set(cursors).size, cursors.length);
  });

  test('a relay that slept until message ids are forgotten repeats nothing', async () => {
    const link = road.link();
    await link.start();
    const lying = { take: async () => ({ fence: 1n }), giveBack: async () => undefined };
    let sleep: Promise<void> | null = null;
    let wake: () => void = () => undefined;
    let isAsleep = false;
    const { db } = database;
    const drowsy: Pick<Database, 'withSystem'> = {
      async withSystem(job, work, options) {
        const read = await db.withSystem(job, work, options);
        isAsleep = sleep !== null && Array.isArray(read) && read.length > 0;
        if (isAsleep) await sleep;
        return read;
      },
    };
    const old = road.relay(link, {}, { leases: lying, db: drowsy });
    await old.start();
    await road.append(tenantId, keyNames(50));
    await until('the first relay copied', () => old.state().relayed === 50);
    const jsm = await jetstreamManager(await road.admin());
    const { config } = await jsm.streams.info(road.settings.stream);
    await jsm.streams.update(road.settings.stream, { ...config, duplicate_window: 100 * 1e6 });
    sleep = new Promise((resolve) => {
      wake = resolve;
    });
    await road.append(tenantId, keyNames(50));
    await until('it sleeps over what it read', () => isAsleep);
    const fresh = road.relay(link, {}, { leases: lying });
    await fresh.start();
    await until('the second relay copied', () => fresh.state().relayed === 50);
    const forgottenAtMs = performance.now() + 500;
    await until('the ids are forgotten', () => performance.now() > forgottenAtMs);
    sleep = null;
    wake();
    await until('the first noticed', () => old.state().restarts > 0);
    const { state } = await jsm.streams.info(road.settings.stream);
    assert.equal(state.messages, 100);
  });

  test('a second relay takes over from one that gave its lease back, without a repeat', async () => {
    const link = road.link();
    await link.start();
    const first = road.relay(link, { leaseMs: 1000 });
    const second = road.relay(link, { leaseMs: 1000 });
    await first.start();
    const ear = await road.listen(road.carrier(link), 'fixture.over');
    const expected = await road.append(tenantId, keyNames(50));
    await until('copied', () => ear.events.length === 50);
    await second.start();
    expected.push(...(await road.append(tenantId, keyNames(50))));
    await first.stop();
    expected.push(...(await road.append(tenantId, keyNames(50))));
    await until('all events came', () => ear.events.length >= expected.length);
    assertWhole(ear, expected);
    assert.ok(second.state().isLeading);
  });

  test('NATS away at the start and later: the log holds, health says so, and everything comes on its return', async () => {
    await road.proxy.set({ isShut: true });
    const link = road.link();
    const relay = road.relay(link);
    await link.start();
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.away');
    const expected = await road.append(tenantId, keyNames(100));
    assert.equal(link.health.isHealthy(), false);
    await road.proxy.set({});
    await until('health is well', () => link.health.isHealthy());
    await until('the backlog came', () => ear.events.length >= expected.length);
    await road.proxy.set({ isShut: true });
    await until('health is degraded', () => !link.health.isHealthy());
    expected.push(...(await road.append(tenantId, keyNames(100))));
    await road.proxy.set({});
    await until('all events came', () => ear.events.length >= expected.length, 20_000);
    assertWhole(ear, expected);
    assert.equal(link.problem(), null);
  });

  test('a server that takes connections and never answers holds nothing up at the stop', async () => {
    await road.proxy.set({ isSilent: true });
    const link = road.link();
    const relay = road.relay(link);
    await link.start();
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.silent');
    await until('it was tried', () => road.proxy.taken > 0);
    const startMs = performance.now();
    await ear.running.stop();
    await relay.stop();
    await link.stop();
    assert.ok(performance.now() - startMs < 6000, `${performance.now() - startMs} ms`);
  });

  test('a connection that falls silent later is given up, and what follows comes', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const ear = await road.listen(road.carrier(link), 'fixture.mute');
    const expected = await road.append(tenantId, keyNames(20));
    await until('the first came', () => ear.events.length === 20);
    await road.proxy.set({ isSilent: true });
    expected.push(...(await road.append(tenantId, keyNames(20))));
    await until('the silence was noticed', () => !link.health.isHealthy(), 30_000);
    road.proxy.reset();
    await road.proxy.set({});
    await until('all events came', () => ear.events.length >= expected.length, 20_000);
    assertWhole(ear, expected);
  });

  test('what the stream lost before it was read comes from the log', async () => {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    const carrier = road.carrier(link);
    const ear = await road.listen(carrier, 'fixture.purged');
    const expected = await road.append(tenantId, keyNames(50));
    await until('the first came', () => ear.events.length === 50);
    await ear.running.stop();
    expected.push(...(await road.append(tenantId, keyNames(500))));
    await until('all were relayed', () => relay.state().relayed >= 550);
    const jsm = await jetstreamManager(await road.admin());
    await jsm.streams.purge(road.settings.stream, { seq: 300 });
    const again = await road.listen(carrier, 'fixture.purged');
    await until('the rest came', () => ear.events.length + again.events.length >= expected.length, 20_000);
    assertWhole({ events: [...ear.events, ...again.events] }, expected);
    assert.ok(carrier.state().some(({ counts }) => counts.fromLog > 0));
  });

  test('an empty stream to which nothing new comes hides nothing from a consumer that was away', async () => {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    const carrier = road.carrier(link);
    const ear = await road.listen(carrier, 'fixture.hidden');
    const expected = await road.append(tenantId, keyNames(50));
    await until('the first came', () => ear.events.length === 50);
    await ear.running.stop();
    expected.push(...(await road.append(tenantId, keyNames(50))));
    await until('all were relayed', () => relay.state().relayed === 100);
    const jsm = await jetstreamManager(await road.admin());
    await jsm.streams.purge(road.settings.stream);
    const again = await road.listen(carrier, 'fixture.hidden');
    await until('the rest came', () => again.events.length === 50);
    assertWhole({ events: [...ear.events, ...again.events] }, expected);
  });

  test('a purge while a consumer reads slowly skips nothing', async () => {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.slow');
    const expected = await road.append(tenantId, keyNames(10));
    await until('it reads', () => ear.events.length === 10);
    let open: () => void = () => undefined;
    ear.gate = new Promise((resolve) => {
      open = resolve;
    });
    try {
      for (let turn = 0; turn < 25; turn += 1) {
        expected.push(...(await road.append(tenantId, keyNames(1000))));
      }
      await until('all were relayed', () => relay.state().relayed >= expected.length);
      const jsm = await jetstreamManager(await road.admin());
      await jsm.streams.purge(road.settings.stream);
      expected.push(...(await road.append(tenantId, keyNames(10))));
    } finally {
      ear.gate = null;
      open();
    }
    await until('all events came', () => ear.events.length >= expected.length, 60_000);
    assertWhole(ear, expected);
  });

  test('a server that comes back empty: relay and consumers find back, nothing is lost', async () => {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    const carrier = road.carrier(link);
    const ear = await road.listen(carrier, 'fixture.empty');
    const behind = await road.listen(carrier, 'fixture.behind');
    const expected = await road.append(tenantId, keyNames(300));
    await until('the first came', () => ear.events.length === 300 && behind.events.length === 300);
    behind.fault = new Error('its database is away');
    expected.push(...(await road.append(tenantId, keyNames(300))));
    await until('one is ahead', () => ear.events.length === 600);
    await road.proxy.set({ isShut: true });
    await road.deleteStream();
    expected.push(...(await road.append(tenantId, keyNames(300))));
    await road.proxy.set({});
    behind.fault = null;
    await until('all came', () => ear.events.length >= 900 && behind.events.length >= 900, 30_000);
    assertWhole(ear, expected);
    assertWhole(behind, expected);
  });

  test('the stream deleted under a live connection is noticed, made again, and nothing is lost', async () => {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    const ear = await road.listen(road.carrier(link), 'fixture.deleted');
    const expected = await road.append(tenantId, keyNames(100));
    await until('the first came', () => ear.events.length === 100);
    await road.deleteStream();
    expected.push(...(await road.append(tenantId, keyNames(100))));
    await until('all came', () => ear.events.length >= 200, 30_000);
    assertWhole(ear, expected);
  });

  test('a lost stream consumer is made again', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const carrier = road.carrier(link);
    const ear = await road.listen(carrier, 'fixture.lost');
    const expected = await road.append(tenantId, keyNames(50));
    await until('the first came', () => ear.events.length === 50);
    const jsm = await jetstreamManager(await road.admin());
    const names: string[] = [];
    await until('each lane has a consumer of the stream', async () => {
      names.length = 0;
      for await (const { name } of jsm.consumers.list(road.settings.stream)) names.push(name);
      return names.length === 8;
    });
    for (const name of names) await jsm.consumers.delete(road.settings.stream, name);
    expected.push(...(await road.append(tenantId, keyNames(50))));
    await until('all came', () => ear.events.length >= 100, 20_000);
    assertWhole(ear, expected);
    const rebuilt = carrier.state().flatMap(({ counts }) => Object.values(counts.rebuilt));
    assert.ok(rebuilt.some((count) => count > 0));
  });

  test('refused events come again, the same and in order, and not in a storm', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const carrier = road.carrier(link);
    const ear = await road.listen(carrier, 'fixture.refused');
    ear.fault = new Error('the database is away');
    const expected = await road.append(tenantId, ['one', 'one', 'one']);
    const redelivered = (): number => carrier.state()[0]?.counts.redelivered ?? 0;
    await until('it was refused three times', () => redelivered() >= 3 * 3);
    const startMs = performance.now();
    const before = redelivered();
    await until('and twice more', () => redelivered() >= before + 6);
    assert.ok(performance.now() - startMs > 1000);
    ear.fault = null;
    await until('they came', () => ear.events.length >= 3);
    assertWhole(ear, expected);
  });

  test('processes share the partitions, and the rest takes over when one stops or dies', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const one = road.carrier(link);
    const two = road.carrier(link);
    const first = await road.listen(one, 'fixture.shared');
    await until('one has all', () => one.state()[0]?.partitions.length === 64);
    const second = await road.listen(two, 'fixture.shared');
    await until('each has half', () => {
      return [one, two].every((carrier) => carrier.state()[0]?.partitions.length === 32);
    });
    const expected = await road.append(tenantId, keyNames(400));
    await until('all came', () => first.events.length + second.events.length >= 400);
    assert.ok(first.events.length > 0 && second.events.length > 0);
    await first.running.stop();
    await until('the other has all', () => two.state()[0]?.partitions.length === 64);
    expected.push(...(await road.append(tenantId, keyNames(400))));
    await until('the rest came', () => first.events.length + second.events.length >= 800);
    assertWhole({ events: [...first.events, ...second.events] }, expected);
  });

  test('what a vanished process held comes after its lease, marked as what it may have died of', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const carrier = road.carrier(link);
    const gone = await road.listen(carrier, 'fixture.vanished');
    const expected = await road.append(tenantId, keyNames(20));
    await until('they came', () => gone.events.length === 20);
    await gone.running.stop();
    await database.db.withSystem('event-dispatch', (tx) =>
      sql`
        update platform.event_places
        set holder = gen_random_uuid(), leased_until = clock_timestamp() + interval '1 second'
        where consumer = 'fixture.vanished'
      `.execute(tx),
    );
    const ear = await road.listen(carrier, 'fixture.vanished');
    expected.push(...(await road.append(tenantId, keyNames(20))));
    await until('the rest came', () => ear.events.length === 20);
    assertWhole({ events: [...gone.events, ...ear.events] }, expected);
    assert.equal(gone.suspected, 0);
    assert.ok(ear.suspected > 0);
  });

  test('a stream of another kind, or of another database, is an error in health and no crash', async () => {
    const jsm = await jetstreamManager(await road.admin());
    await jsm.streams.add({ name: road.settings.stream, subjects: [`${road.settings.subject}.>`] });
    const link = road.link();
    await link.start();
    await until('it is told', () => link.problem()?.includes('another STOA_NATS_STREAM') ?? false);
    assert.equal(link.health.isHealthy(), false);
    await jsm.streams.delete(road.settings.stream);
    await until('and it is well once that is gone', () => link.health.isHealthy());
  });

  test('a session that a doubt ended, with its connection still open, is followed by another', async () => {
    let isAway = false;
    const { db } = database;
    const link = road.link(
      {},
      {
        withSystem: (job, fn, options) =>
          isAway ? Promise.reject(new Error('the database is away')) : db.withSystem(job, fn, options),
      },
    );
    await link.start();
    const { signal } = new AbortController();
    const first = await link.session(signal);
    isAway = true;
    await first?.doubt();
    assert.equal(link.health.isHealthy(), false);
    isAway = false;
    await until('it is well again', () => link.health.isHealthy(), 20_000);
    assert.notEqual(await link.session(signal), first);
    await link.stop();
  });

  test('changed limits of the stream are applied', async () => {
    const link = road.link();
    await link.start();
    await until('it is made', () => link.health.isHealthy());
    await link.stop();
    const changed = road.link({ maxAgeDays: 3, maxBytes: 512 * 1024 * 1024 });
    await changed.start();
    await until('it is well', () => changed.health.isHealthy());
    const jsm = await jetstreamManager(await road.admin());
    const { config } = await jsm.streams.info(road.settings.stream);
    assert.equal(config.max_age, 3 * 86_400 * 1e9);
    assert.equal(config.max_bytes, 512 * 1024 * 1024);
    assert.equal(config.discard, 'old');
  });

  test('messages of somebody else in the stream harm nobody', async () => {
    const link = road.link();
    await link.start();
    await road.relay(link).start();
    const ear = await road.listen(road.carrier(link), 'fixture.foreign');
    const expected = await road.append(tenantId, ['a', 'b']);
    await until('they came', () => ear.events.length === 2);
    const js = jetstream(await road.admin());
    for (let lane = 0; lane < 8; lane += 1)
      await js.publish(`${road.settings.subject}.${lane}.0.x`, 'not ours');
    expected.push(...(await road.append(tenantId, ['a', 'b', 'c'])));
    await until('the rest came', () => ear.events.length >= 5);
    assertWhole(ear, expected);
  });
});
