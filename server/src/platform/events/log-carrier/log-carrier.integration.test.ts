import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { silentLogger, systemClock } from '#kernel';
import { testedAdapters } from '#testing';
import { carrierContract } from '../dispatch/contract.ts';
import { anEvent, type Arena, openArena, recorder, until } from '../dispatch/testing/arena.ts';
import { createLogCarrier } from './log-carrier.ts';

for (const adapter of testedAdapters()) {
  describe(`the log as a carrier, on ${adapter}`, () => {
    let arena: Arena;
    before(async () => {
      arena = await openArena(adapter);
    });
    after(() => arena.close());

    carrierContract({
      newTenant: () => arena.newTenant(),
      tell: (events) => arena.tell(...events),
      tellTogether: (events) => arena.tellTogether(events),
      abandon: (consumer) => arena.abandon(consumer),
      newCarrier: async () => ({
        carrier: createLogCarrier(
          { db: arena.db, clock: systemClock, logger: silentLogger },
          { pollMs: 30, leaseMs: 1500, flushMs: 50 },
        ),
        close: async () => undefined,
      }),
    });

    test('a backlog is worked off by two processes that share it, each event once', async () => {
      const tenantId = await arena.newTenant();
      const keys = Array.from({ length: 40 }, (_, index) => `shared ${index}`);
      const told = [1n, 2n, 3n].flatMap((keyversion) =>
        keys.map((key) => anEvent(tenantId, { key, keyversion })),
      );
      await arena.tell(...told);
      const counts = [0, 0];
      const both = [0, 1].map((index) =>
        arena.dispatcher([
          recorder('shared', async () => {
            counts[index] = (counts[index] ?? 0) + 1;
          }),
        ]),
      );
      await Promise.all(both.map((one) => one.start()));
      const mine = async () =>
        (await arena.effects('shared')).filter(
          (row) => row.tenant_id === tenantId && row.key.startsWith('shared'),
        );
      await until(mine, (rows) => rows.length >= told.length, 'all effects');
      const later = keys.map((key) => anEvent(tenantId, { key, keyversion: 4n }));
      await until(
        async () => {
          const { rows } = await arena.db.withSystem('event-dispatch', (tx) =>
            sql<{ holder: string; count: number }>`
              select holder, count(*)::integer as count from platform.event_places
              where consumer = 'shared' and holder is not null group by holder`.execute(tx),
          );
          return rows.map(({ count }) => count);
        },
        (shares) => shares.length === 2 && shares.every((count) => count === 32),
        'an even share',
      );
      await arena.tell(...later);
      const rows = await until(
        mine,
        (found) => found.length >= told.length + later.length,
        'the later effects',
      );
      await Promise.all(both.map((one) => one.stop()));
      assert.equal(rows.length, told.length + later.length);
      for (const key of keys) {
        assert.deepEqual(
          rows.filter((row) => row.key === key).map((row) => row.keyversion),
          [1n, 2n, 3n, 4n],
        );
      }
      assert.ok(
        counts.every((count) => count > 0),
        `one of them did all: ${counts.join()}`,
      );
    });
  });
}
