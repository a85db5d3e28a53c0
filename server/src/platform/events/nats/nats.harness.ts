/** Two ends of a road over the local NATS, for tests: a stream of their own, a proxy in front of it, events, and ears. */

import { setTimeout as sleep } from 'node:timers/promises';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { sql } from 'kysely';
import type { Database } from '#db';
import { newUuid, silentLogger, systemClock } from '#kernel';
import { createFaultProxy, type FaultProxy } from '#testing';
import { appendEvents } from '../publish.ts';
import type { EventCarrier, LoggedEvent, RunningSubscription } from '../types.ts';
import { createNatsCarrier, type NatsCarrier, type NatsCarrierSettings } from './carrier.ts';
import { createNatsLink, type NatsLink, type NatsSettings } from './link.ts';
import { createRelay, type LeasePort, type Relay, type RelaySettings } from './relay.ts';

/** Where the tests' NATS is; they make streams of their own there and delete them by name. */
const natsAddress = { host: '127.0.0.1', port: Number(process.env['STOA_TEST_NATS_PORT'] ?? 4222) };
export const hasNats = process.env['STOA_TEST_SERVICES'] === '1';

/** Waits until it holds; fails after a minute (a writer elsewhere on the server holds the log back), or as told. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  limitMs = 60_000,
): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`in vain: ${what}`);
    await sleep(10);
  }
}

/** The same leases as platform/jobs gives, over the same table. */
function leasesOf(db: Pick<Database, 'withSystem'>): LeasePort {
  return {
    take: (name, holder, durationMs) =>
      db.withSystem('leases', async (tx) => {
        const { rows } = await sql<{ fence: bigint }>`
          insert into platform.leases as lease (name, holder, fence, expires_at)
          values (${name}, ${holder}, 1, clock_timestamp() + ${durationMs} * interval '1 millisecond')
          on conflict (name) do update
            set holder = excluded.holder, expires_at = excluded.expires_at,
              fence = case when lease.holder = excluded.holder then lease.fence else lease.fence + 1 end
            where lease.holder = excluded.holder or lease.expires_at <= clock_timestamp()
          returning fence
        `.execute(tx);
        return rows[0] ?? null;
      }),
    giveBack: (name, holder) =>
      db.withSystem('leases', async (tx) => {
        await sql`
          update platform.leases set expires_at = clock_timestamp() where name = ${name} and holder = ${holder}
        `.execute(tx);
      }),
  };
}

/** What a consumer was given, in the order in which it was. */
export interface Ear {
  readonly events: LoggedEvent[];
  /** When each came, by the monotonic clock. */
  readonly arrivedAtMs: number[];
  readonly running: RunningSubscription;
  /** Events that came marked as what a vanished process may have died of. */
  suspected: number;
  /** Set, `deliver` rejects with it. */
  fault: Error | null;
  /** Set, `deliver` waits for it first. */
  gate: Promise<void> | null;
}

export interface Road {
  readonly proxy: FaultProxy;
  readonly settings: NatsSettings;
  link(settings?: Partial<NatsSettings>, db?: Pick<Database, 'withSystem'>): NatsLink;
  relay(
    link: NatsLink,
    settings?: RelaySettings,
    overrides?: { leases?: LeasePort; db?: Pick<Database, 'withSystem'> },
  ): Relay;
  carrier(link: NatsLink, settings?: NatsCarrierSettings): NatsCarrier;
  listen(carrier: Pick<EventCarrier, 'subscribe'>, consumer: string, types?: readonly string[]): Promise<Ear>;
  /** Writes events in one transaction; their keys, in order. Versions count up by key. */
  append(tenantId: string, keys: readonly string[], type?: string, data?: string): Promise<string[]>;
  /** The server, past the proxy. */
  admin(): Promise<NatsConnection>;
  deleteStream(): Promise<void>;
  close(): Promise<void>;
}

export async function openRoad(db: Database): Promise<Road> {
  const proxy = await createFaultProxy(natsAddress);
  const id = newUuid().replaceAll('-', '').slice(-12);
  const settings: NatsSettings = {
    url: `nats://127.0.0.1:${proxy.port}`,
    stream: `STOA_TEST_${id}`,
    subject: `stoatest.${id}`,
    maxAgeDays: 1,
    maxBytes: 256 * 1024 * 1024,
    replicas: 1,
  };
  const parts: { stop(): Promise<void> }[] = [];
  const versions = new Map<string, bigint>();
  const names = new Set([settings.stream]);
  let admin: NatsConnection | null = null;
  const road: Road = {
    proxy,
    settings,
    link(changes = {}, linkDb = db) {
      const link = createNatsLink({ db: linkDb, logger: silentLogger }, { ...settings, ...changes });
      names.add(link.settings.stream);
      parts.push(link);
      return link;
    },
    relay(link, relaySettings = {}, { leases = leasesOf(db), db: relayDb = db } = {}) {
      const relay = createRelay(
        { link, db: relayDb, leases, clock: systemClock, logger: silentLogger, holder: newUuid() },
        { pollMs: 50, ...relaySettings },
      );
      parts.push(relay);
      return relay;
    },
    carrier: (link, carrierSettings = {}) =>
      createNatsCarrier(
        { link, db, clock: systemClock, logger: silentLogger },
        { leaseMs: 2000, watchMs: 1000, ...carrierSettings },
      ),
    async listen(carrier, consumer, types = ['fixture.happened.v1']) {
      const events: LoggedEvent[] = [];
      const arrivedAtMs: number[] = [];
      const state: Pick<Ear, 'suspected' | 'fault' | 'gate'> = { suspected: 0, fault: null, gate: null };
      const running = await carrier.subscribe({
        consumer,
        types,
        async deliver(_partition, delivered, mayHaveKilled) {
          await state.gate;
          if (state.fault !== null) throw state.fault;
          if (mayHaveKilled === true) state.suspected += delivered.length;
          events.push(...delivered);
          arrivedAtMs.push(...delivered.map(() => performance.now()));
          return delivered.length;
        },
      });
      parts.push(running);
      return Object.assign(state, { events, arrivedAtMs, running });
    },
    async append(tenantId, keys, type = 'fixture.happened.v1', data = '{"n":1}') {
      const told = keys.map((key) => {
        const name = `${tenantId} ${type} ${key}`;
        const keyversion = (versions.get(name) ?? 0n) + 1n;
        versions.set(name, keyversion);
        return { tenantId, eventId: newUuid(), type, key, keyversion, occurredAt: new Date(), data };
      });
      await db.withOperator({ operator: 'system:test' }, 'events for a test', (tx) => appendEvents(tx, told));
      return told.map((event) => event.eventId);
    },
    async admin() {
      admin ??= await connect({ servers: `${natsAddress.host}:${natsAddress.port}` });
      return admin;
    },
    async deleteStream() {
      const jsm = await jetstreamManager(await road.admin());
      await jsm.streams.delete(settings.stream);
    },
    async close() {
      for (const part of parts.toReversed()) await part.stop();
      const jsm = await jetstreamManager(await road.admin());
      for (const name of names) await jsm.streams.delete(name).catch(() => false);
      await admin?.close();
      await proxy.close();
    },
  };
  return road;
}
