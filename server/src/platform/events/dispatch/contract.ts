/** What every carrier of events guarantees; each adapter runs it inside a `describe` of its own. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newUuid } from '#kernel';
import { partitionOf } from '../partition.ts';
import type { EncodedEvent, EventCarrier, LoggedEvent, RunningSubscription } from '../types.ts';

export interface CarrierUnderTest {
  newTenant(): Promise<string>;
  /** Writes events to the log, each in a transaction of its own, in this order. */
  tell(events: readonly EncodedEvent[]): Promise<void>;
  /** Writes events of one tenant in one transaction. */
  tellTogether(events: readonly EncodedEvent[]): Promise<void>;
  /** Has all partitions of a consumer held by a process that has vanished, and whose lease ends soon. */
  abandon(consumer: string): Promise<void>;
  /** A carrier as another process would have one. */
  newCarrier(): Promise<{ readonly carrier: EventCarrier; readonly close: () => Promise<void> }>;
}

const patienceMs = 30_000;

async function until(isDone: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!isDone()) {
    if (performance.now() > deadline) assert.fail(`${what} did not come about`);
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}

function eventsOf(tenantId: string, type: string, count: number): EncodedEvent[] {
  return Array.from({ length: count }, (_, index) => ({
    tenantId,
    eventId: newUuid(),
    type,
    key: `key ${index % 20}`,
    keyversion: BigInt(Math.floor(index / 20) + 1),
    occurredAt: new Date(),
    data: JSON.stringify({ index }),
  }));
}

interface Ear {
  readonly heard: (readonly [partition: number, event: LoggedEvent])[];
  readonly running: RunningSubscription;
  has(events: readonly EncodedEvent[]): boolean;
}

async function listen(
  carrier: EventCarrier,
  consumer: string,
  type: string,
  before: (partition: number, events: readonly LoggedEvent[]) => Promise<void> = async () => undefined,
): Promise<Ear> {
  const heard: (readonly [number, LoggedEvent])[] = [];
  const ids = new Set<string>();
  const running = await carrier.subscribe({
    consumer,
    types: [`${type}.v1`],
    async deliver(partition, events) {
      await before(partition, events);
      for (const event of events) {
        heard.push([partition, event]);
        ids.add(event.eventId);
      }
      return events.length;
    },
  });
  return { heard, running, has: (events) => events.every(({ eventId }) => ids.has(eventId)) };
}

export function carrierContract(under: CarrierUnderTest): void {
  bringsAll(under);
  bringsAgain(under);
  goesOn(under);
  shares(under);
  stops(under);
  goesAround(under);
  suspects(under);
}

function bringsAll(under: CarrierUnderTest): void {
  test('every event of a family comes whole, in its partition, in the order of its key', async () => {
    const tenantId = await under.newTenant();
    const told = eventsOf(tenantId, 'contract.ordered.v1', 200);
    const newer = eventsOf(tenantId, 'contract.ordered.v2', 1);
    const { carrier, close } = await under.newCarrier();
    const ear = await listen(carrier, 'contract.ordered', 'contract.ordered');
    await under.tell([...told, ...newer, ...eventsOf(tenantId, 'contract.other.v1', 5)]);
    carrier.wake();
    await until(() => ear.has([...told, ...newer]), 'every event');
    await ear.running.stop();
    await close();
    const positions = new Map<string, bigint>();
    for (const [partition, event] of ear.heard) {
      assert.equal(partition, partitionOf(event.tenantId, event.key));
      assert.match(event.type, /^contract\.ordered\.v[12]$/);
      const source = [...told, ...newer].find(({ eventId }) => eventId === event.eventId);
      const { cursor: _cursor, causation, traceparent, ...rest } = event;
      assert.deepEqual({ ...rest }, source);
      assert.deepEqual([causation, traceparent], [null, null]);
      const key = `${event.type} ${event.key}`;
      assert.ok(event.keyversion >= (positions.get(key) ?? 0n), 'a key went back');
      positions.set(key, event.keyversion);
    }
  });
}

function bringsAgain(under: CarrierUnderTest): void {
  test('what could not be delivered comes again, before what is behind it, while other partitions go on', async () => {
    const tenantId = await under.newTenant();
    const told = eventsOf(tenantId, 'contract.refused.v1', 100);
    const stubborn = partitionOf(tenantId, 'key 3');
    let refusals = 0;
    const { carrier, close } = await under.newCarrier();
    const ear = await listen(carrier, 'contract.refused', 'contract.refused', async (partition) => {
      if (partition === stubborn && refusals++ < 2) throw new Error('the database is away');
    });
    await under.tell(told);
    carrier.wake();
    await until(() => ear.has(told), 'every event');
    await ear.running.stop();
    await close();
    assert.ok(refusals >= 2);
    const versions = ear.heard
      .filter(([, event]) => event.key === 'key 3')
      .map(([, event]) => event.keyversion);
    assert.deepEqual(
      versions,
      versions.toSorted((a, b) => Number(a - b)),
    );
  });
}

function goesOn(under: CarrierUnderTest): void {
  test('a consumer goes on where it was, and another begins by itself', async () => {
    const tenantId = await under.newTenant();
    const first = eventsOf(tenantId, 'contract.resumed.v1', 60);
    const one = await under.newCarrier();
    const ear = await listen(one.carrier, 'contract.resumed', 'contract.resumed');
    await under.tell(first);
    one.carrier.wake();
    await until(() => ear.has(first), 'the first events');
    await ear.running.stop();
    await one.close();
    const second = eventsOf(tenantId, 'contract.resumed.v1', 20).map((event) => ({
      ...event,
      keyversion: 4n,
    }));
    await under.tell(second);
    const two = await under.newCarrier();
    const again = await listen(two.carrier, 'contract.resumed', 'contract.resumed');
    const other = await listen(two.carrier, 'contract.newcomer', 'contract.resumed');
    two.carrier.wake();
    await until(
      () => again.has(second) && other.has([...first, ...second]),
      'what came later, and all of it',
    );
    await again.running.stop();
    await other.running.stop();
    await two.close();
    assert.equal(again.heard.length, second.length, 'delivered ones came again after a clean stop');
  });
}

function shares(under: CarrierUnderTest): void {
  test('two processes share the partitions, and no partition is fed by both at once', async () => {
    const tenantId = await under.newTenant();
    const fed = new Map<number, number>();
    const overlaps: number[] = [];
    const guard = async (partition: number): Promise<void> => {
      const now = (fed.get(partition) ?? 0) + 1;
      fed.set(partition, now);
      if (now > 1) overlaps.push(partition);
      await new Promise((resolve) => {
        setTimeout(resolve, 5);
      });
      fed.set(partition, (fed.get(partition) ?? 1) - 1);
    };
    const one = await under.newCarrier();
    const two = await under.newCarrier();
    const a = await listen(one.carrier, 'contract.shared', 'contract.shared', guard);
    const b = await listen(two.carrier, 'contract.shared', 'contract.shared', guard);
    const told: EncodedEvent[] = [];
    for (let round = 0; a.heard.length === 0 || b.heard.length === 0; round++) {
      assert.ok(round < 200, 'one of the two gets nothing');
      const more = eventsOf(tenantId, 'contract.shared.v1', 20).map((event) => ({
        ...event,
        keyversion: BigInt(round + 1),
      }));
      told.push(...more);
      await under.tell(more);
      one.carrier.wake();
      two.carrier.wake();
    }
    const hasAll = (): boolean => {
      const ids = new Set([...a.heard, ...b.heard].map(([, event]) => event.eventId));
      return told.every(({ eventId }) => ids.has(eventId));
    };
    await until(hasAll, 'every event');
    await a.running.stop();
    const last = eventsOf(tenantId, 'contract.shared.v1', 20).map((event) => ({
      ...event,
      keyversion: 1000n,
    }));
    await under.tell(last);
    two.carrier.wake();
    await until(() => b.has(last), 'all partitions with the one that is left');
    await b.running.stop();
    await one.close();
    await two.close();
    assert.deepEqual(overlaps, []);
  });
}

function stops(under: CarrierUnderTest): void {
  test('stop waits for what is being delivered, and nothing is delivered after it', async () => {
    const tenantId = await under.newTenant();
    const started = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const { carrier, close } = await under.newCarrier();
    const ear = await listen(carrier, 'contract.stopped', 'contract.stopped', async () => {
      started.resolve();
      await release.promise;
    });
    await under.tell(eventsOf(tenantId, 'contract.stopped.v1', 1));
    carrier.wake();
    await started.promise;
    let hasStopped = false;
    const stopping = ear.running.stop().then(() => {
      hasStopped = true;
    });
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
    assert.equal(hasStopped, false);
    release.resolve();
    await stopping;
    assert.equal(ear.heard.length, 1);
    await under.tell(eventsOf(tenantId, 'contract.stopped.v1', 1));
    carrier.wake();
    await close();
    assert.equal(ear.heard.length, 1);
  });
}

const laneSize = 8;

function goesAround(under: CarrierUnderTest): void {
  test('a partition whose delivery hangs holds no other back, however much comes for it', async () => {
    const tenantId = await under.newTenant();
    const type = 'contract.hanging.v1';
    const stuck = partitionOf(tenantId, 'stuck');
    const isNear = (partition: number): boolean =>
      partition !== stuck && Math.floor(partition / laneSize) === Math.floor(stuck / laneSize);
    const near = Array.from({ length: 1000 }, (_, index) => `near ${index}`)
      .filter((key) => isNear(partitionOf(tenantId, key)))
      .slice(0, 3);
    const far = Array.from({ length: 5 }, (_, index) => `far ${index}`);
    const others = [...near, ...far].filter((key) => partitionOf(tenantId, key) !== stuck);
    const versions = new Map<string, bigint>();
    const event = (key: string): EncodedEvent => {
      const keyversion = (versions.get(key) ?? 0n) + 1n;
      versions.set(key, keyversion);
      return { tenantId, eventId: newUuid(), type, key, keyversion, occurredAt: new Date(), data: '{}' };
    };
    const release = Promise.withResolvers<void>();
    const { carrier, close } = await under.newCarrier();
    const ear = await listen(carrier, 'contract.hanging', 'contract.hanging', async (partition) => {
      if (partition === stuck) await release.promise;
    });
    const told: EncodedEvent[] = [];
    // More than any queue between the log and a partition holds.
    for (let round = 0; round < 30; round++) {
      const events = [...Array.from({ length: 100 }, () => event('stuck')), ...others.map(event)];
      await under.tellTogether(events);
      told.push(...events);
      carrier.wake();
    }
    const flowing = told.filter(({ key }) => key !== 'stuck');
    await until(() => ear.has(flowing), 'every event of another partition');
    assert.equal(
      ear.heard.some(([, { key }]) => key === 'stuck'),
      false,
    );
    const later = others.map(event);
    await under.tellTogether(later);
    const toldAtMs = performance.now();
    carrier.wake();
    await until(() => ear.has(later), 'what was told later');
    assert.ok(performance.now() - toldAtMs < 10_000, `${performance.now() - toldAtMs} ms`);
    release.resolve();
    await until(() => ear.has(told), 'the events that were stuck');
    await ear.running.stop();
    await close();
    const stuckVersions = ear.heard.flatMap(([, { key, keyversion }]) =>
      key === 'stuck' ? [keyversion] : [],
    );
    assert.deepEqual(
      stuckVersions,
      stuckVersions.toSorted((a, b) => Number(a - b)),
    );
  });
}

function suspects(under: CarrierUnderTest): void {
  test('partitions of a process that vanished are taken over, and come marked as what it may have died of', async () => {
    const tenantId = await under.newTenant();
    const told = eventsOf(tenantId, 'contract.vanished.v1', 40);
    await under.tell(told);
    await under.abandon('contract.vanished');
    const isSuspectAtFirst = new Map<number, boolean>();
    const ids = new Set<string>();
    const { carrier, close } = await under.newCarrier();
    const running = await carrier.subscribe({
      consumer: 'contract.vanished',
      types: ['contract.vanished.v1'],
      async deliver(partition, events, mayHaveKilled) {
        if (!isSuspectAtFirst.has(partition)) isSuspectAtFirst.set(partition, mayHaveKilled === true);
        for (const event of events) ids.add(event.eventId);
        return events.length;
      },
    });
    carrier.wake();
    await until(() => told.every(({ eventId }) => ids.has(eventId)), 'every event');
    await running.stop();
    await close();
    assert.ok(isSuspectAtFirst.size > 0);
    assert.deepEqual(new Set(isSuspectAtFirst.values()), new Set([true]));
  });

  test('of a delivery that is dealt with in part, the rest comes again at once, in order', async () => {
    const tenantId = await under.newTenant();
    const told = Array.from({ length: 30 }, (_, index) => index + 1).flatMap((version) =>
      eventsOf(tenantId, 'contract.partly.v1', 1).map((one) => ({ ...one, keyversion: BigInt(version) })),
    );
    const heard: bigint[] = [];
    const { carrier, close } = await under.newCarrier();
    await under.tell(told);
    const running = await carrier.subscribe({
      consumer: 'contract.partly',
      types: ['contract.partly.v1'],
      async deliver(_partition, events) {
        const taken = events.slice(0, 2);
        heard.push(...taken.map(({ keyversion }) => keyversion));
        return taken.length;
      },
    });
    carrier.wake();
    await until(() => heard.length >= told.length, 'every event');
    await running.stop();
    await close();
    assert.deepEqual(
      heard,
      told.map(({ keyversion }) => keyversion),
    );
  });
}
