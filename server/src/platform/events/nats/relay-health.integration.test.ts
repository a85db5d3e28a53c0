/** When a relay says of itself that it is not well. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { openTestDatabase, type TestDatabase } from '#testing';
import { hasNats, openRoad, type Road, until } from './nats.harness.ts';
import type { LeasePort } from './relay.ts';

describe('the health of a relay', { skip: !hasNats && 'needs the services (--services)' }, () => {
  let database: TestDatabase;
  let road: Road;

  beforeEach(async () => {
    database = await openTestDatabase();
    road = await openRoad(database.db);
  });

  afterEach(async () => {
    await road.close();
    await database.close();
  });

  test('one that failed again and again is well once another process relays', async () => {
    let isElsewhere = false;
    const leases: LeasePort = {
      take: () => (isElsewhere ? Promise.resolve(null) : Promise.reject(new Error('no answer'))),
      giveBack: () => Promise.resolve(),
    };
    const link = road.link();
    await link.start();
    const relay = road.relay(link, { leaseMs: 500 }, { leases });
    await relay.start();
    await until('it fails again and again', () => !relay.isHealthy());
    isElsewhere = true;
    await until('it is well', () => relay.isHealthy());
    assert.equal(relay.state().isLeading, false);
  });
});
