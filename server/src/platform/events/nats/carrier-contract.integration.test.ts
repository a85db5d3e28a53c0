import { after, before, describe } from 'node:test';
import { openTestDatabase, type TestDatabase } from '#testing';
import { carrierContract } from '../dispatch/contract.ts';
import { appendEvents } from '../publish.ts';
import { hasNats, openRoad, type Road } from './nats.harness.ts';

describe('NATS as a carrier', { skip: !hasNats && 'needs the services (--services)' }, () => {
  let database: TestDatabase;
  let road: Road;
  before(async () => {
    database = await openTestDatabase();
    road = await openRoad(database.db);
  });
  after(async () => {
    await road.close();
    await database.close();
  });

  carrierContract({
    newTenant: () => database.newTenant(),
    async tell(events) {
      for (const event of events) {
        await database.db.withTenant({ tenantId: event.tenantId }, (tx) => appendEvents(tx, [event]));
      }
    },
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
});
