import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { eventTable } from '@stoa/contracts';
import { sql } from 'kysely';
import { newUuid } from '#kernel';
import { testedAdapters } from '#testing';
import { consumersContract } from './consumers.contract.ts';
import { anEvent, type Arena, openArena, recorder, until } from './testing/arena.ts';

for (const adapter of testedAdapters()) {
  describe(`consumers on ${adapter}`, () => {
    let arena: Arena;
    before(async () => {
      arena = await openArena(adapter);
    });
    after(() => arena.close());

    test('each event has its effect once, in the order of its key', async () => {
      const tenantId = await arena.newTenant();
      const told = [1n, 2n, 3n].flatMap((keyversion) =>
        ['a', 'b'].map((key) => anEvent(tenantId, { key, keyversion })),
      );
      await arena.tell(...told);
      const running = arena.dispatcher([recorder('once')]);
      await running.start();
      const found = await until(
        () => arena.effects('once'),
        (rows) => rows.length >= 6,
        'six effects',
      );
      assert.equal(found.length, 6);
      for (const key of ['a', 'b']) {
        assert.deepEqual(
          found.filter((row) => row.key === key).map((row) => row.keyversion),
          [1n, 2n, 3n],
        );
      }
      await running.stop();
      const again = arena.dispatcher([recorder('once')]);
      await again.start();
      await arena.tell(anEvent(tenantId, { key: 'c' }));
      await until(
        () => arena.effects('once'),
        (rows) => rows.length >= 7,
        'the seventh effect',
      );
      await again.stop();
      assert.equal((await arena.effects('once')).length, 7);
    });

    test('an event that fails at first has its effect later, and what waited for it follows in order', async () => {
      const tenantId = await arena.newTenant();
      const events = [1n, 2n, 3n, 4n].map((keyversion) => anEvent(tenantId, { key: 'late', keyversion }));
      let failures = 0;
      const failing = recorder('failing', async (event) => {
        if (event.key === 'late' && event.keyversion === 2n && failures++ < 2) throw new Error('not yet');
      });
      await arena.tell(...events);
      const running = arena.dispatcher([failing]);
      await running.start();
      const of = async () => (await arena.effects('failing')).filter((row) => row.tenant_id === tenantId);
      const found = await until(of, (rows) => rows.length >= 4, 'all four effects');
      assert.deepEqual(
        found.map((row) => row.keyversion),
        [1n, 2n, 3n, 4n],
      );
      await running.stop();
      assert.deepEqual(await arena.stored('failing'), []);
      assert.equal(failures, 3);
    });

    test("a handler in the tenant's door sees and writes its own tenant's rows only", async () => {
      const [mine, other] = [await arena.newTenant(), await arena.newTenant()];
      let seen: unknown;
      const nosy = recorder('nosy', undefined, {
        async handle(tx, event) {
          if (event.tenantId !== mine) return;
          seen = (await sql`select distinct tenant_id from tenant.tenants`.execute(tx)).rows;
          await sql`insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
            values (${other}, 'nosy', ${event.eventId}, 'x', 1)`.execute(tx);
        },
      });
      await arena.tell(anEvent(mine, { key: 'mine' }), anEvent(other, { key: 'other' }));
      const running = arena.dispatcher([nosy]);
      await running.start();
      // The consumer meets what earlier tests told as well, some of which is dead from the start.
      await until(
        () => arena.stored('nosy'),
        (rows) => rows.some((row) => row.tenant_id === mine && row.state === 'dead'),
        'a dead letter',
      );
      await running.stop();
      assert.deepEqual(seen, [{ tenant_id: mine }]);
      assert.deepEqual(await arena.effects('nosy'), []);
    });

    test('a consumer picks what it wants of what is told once; where it cannot tell, it gets all; of the rest it is not asked', async () => {
      const [wanted, unwanted] = [await arena.newTenant(), await arena.newTenant()];
      const type = 'request.completed.v1';
      const aRequest = (tenantId: string) => {
        const eventId = newUuid();
        const data = { ...eventTable[type].example, request_id: eventId, tenant_id: tenantId };
        return anEvent(tenantId, { eventId, type, key: eventId, data: JSON.stringify(data) });
      };
      const asked: string[] = [];
      let isBroken = false;
      const picky = recorder('picky', undefined, {
        types: [type, 'test.happened.v1'],
        async pickWanted(events) {
          if (isBroken) throw new Error('the rows cannot be read');
          asked.push(...events.map((event) => event.type));
          return events.filter(({ tenantId }) => tenantId === wanted);
        },
      });
      const running = arena.dispatcher([picky]);
      await running.start();
      const effectsOf = async (tenantId: string) =>
        (await arena.effects('picky')).filter((row) => row.tenant_id === tenantId).map((row) => row.event_id);
      const tellAndSee = async (tenantId: string) => {
        const event = aRequest(tenantId);
        await arena.tell(event);
        await until(
          () => effectsOf(tenantId),
          (ids) => ids.includes(event.eventId),
          `the effect of ${event.eventId}`,
        );
      };
      const passedOver = aRequest(unwanted);
      const neverAsked = anEvent(unwanted);
      await arena.tell(passedOver, neverAsked);
      await tellAndSee(wanted);
      await until(
        () => effectsOf(unwanted),
        (ids) => ids.includes(neverAsked.eventId),
        'what is not told once',
      );
      await until(
        () => asked.length,
        (count) => count >= 2,
        'both to be asked about',
      );
      assert.deepEqual(new Set(asked), new Set([type]));
      isBroken = true;
      await tellAndSee(unwanted);
      await running.stop();
      assert.equal((await effectsOf(unwanted)).includes(passedOver.eventId), false);
    });

    consumersContract({
      arena: () => arena,
      dispatcher: async (consumers, settings) => arena.dispatcher(consumers, settings),
    });
  });
}
