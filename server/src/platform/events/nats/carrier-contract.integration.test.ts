import { after, before, describe } from 'node:test';
import { silentLogger, systemClock } from '#kernel';
import { consumersContract } from '../dispatch/consumers.contract.ts';
import { carrierContract } from '../dispatch/contract.ts';
import { createDispatcher } from '../dispatch/dispatcher.ts';
import { type Arena, noMetrics, openArena, quick } from '../dispatch/testing/arena.ts';
import { hasNats, openRoad, type Road } from './nats.harness.ts';

describe('NATS as a carrier', { skip: !hasNats && 'needs the services (--services)' }, () => {
  let arena: Arena;
  let road: Road;
  before(async () => {
    arena = await openArena('postgres');
    road = await openRoad(arena.db);
  });
  after(async () => {
    await road.close();
    await arena.close();
  });

  carrierContract({
    newTenant: () => arena.newTenant(),
    tell: (events) => arena.tell(...events),
    tellTogether: (events) => arena.tellTogether(events),
    abandon: (consumer) => arena.abandon(consumer),
    async newCarrier() {
      const link = road.link();
      const relay = road.relay(link, { leaseMs: 1500 });
      await link.start();
      await relay.start();
      const carrier = road.carrier(link, { leaseMs: 1500 });
      return {
        carrier: { subscribe: (subscription) => carrier.subscribe(subscription), wake: () => relay.wake() },
        async close() {
          await relay.stop();
          await link.stop();
        },
      };
    },
  });

  consumersContract({
    arena: () => arena,
    async dispatcher(consumers, settings = {}) {
      const link = road.link();
      const relay = road.relay(link, { leaseMs: 1500 });
      await link.start();
      await relay.start();
      const dispatcher = createDispatcher(
        {
          db: arena.db,
          carrier: road.carrier(link, { leaseMs: 1500 }),
          clock: systemClock,
          logger: silentLogger,
          metrics: noMetrics,
          tracer: arena.telemetry.tracer,
        },
        consumers,
        { ...quick, ...settings },
      );
      return {
        ...dispatcher,
        async stop() {
          await dispatcher.stop();
          await relay.stop();
          await link.stop();
        },
      };
    },
  });
});
