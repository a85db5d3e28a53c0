import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { AppError } from '#kernel';
import { testedAdapters } from '#testing';
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

    test('what throws anything is tried again and then lies dead with its cause; others go on, its key waits', async () => {
      const tenantId = await arena.newTenant();
      const hostile = new Proxy({}, { get: () => assert.fail('a trap') });
      const thrown: readonly unknown[] = [
        new Error('plain \u0000 \ud800 text'),
        undefined,
        null,
        'words',
        7n,
        hostile,
        { toJSON: () => assert.fail('no json') },
        new AppError('conflict', 'The invoice is paid.'),
      ];
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
      const running = arena.dispatcher([throwing]);
      await running.start();
      const count = thrown.length;
      const stored = await until(
        () => arena.stored('throwing'),
        (rows) => rows.filter(({ state }) => state === 'dead').length === count && rows.length === 2 * count,
        'dead letters and their followers',
      );
      await until(
        () => arena.effects('throwing'),
        (rows) => others.every(({ eventId }) => rows.some((row) => row.event_id === eventId)),
        'the others',
      );
      const effects = await arena.effects('throwing');
      await running.stop();
      const ofTenant = effects.filter((row) => row.tenant_id === tenantId);
      assert.equal(ofTenant.length, count);
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
      assert.match(dead[0]?.error_stack ?? '', /dispatcher\.integration\.test/);
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

    test('a handler past its deadline is one failed attempt, and what it writes later does not land', async () => {
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
      const running = arena.dispatcher([slow]);
      await running.start();
      const stored = await until(
        () => arena.stored('slow'),
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
      assert.deepEqual(await arena.effects('slow'), []);
    });

    test('an unknown version, and data that its schema refuses, lie dead at once with their code', async () => {
      const tenantId = await arena.newTenant();
      const strange = anEvent(tenantId, { key: 'v9', type: 'test.happened.v9' });
      const broken = anEvent(tenantId, { key: 'broken', type: 'run.changed.v1', data: '{"run_id":7}' });
      const noJson = anEvent(tenantId, { key: 'no json', type: 'run.changed.v1', data: '{' });
      const unrelated = anEvent(tenantId, { key: 'unrelated', type: 'test.other.v1' });
      const fine = anEvent(tenantId, { key: 'fine' });
      await arena.tell(strange, broken, noJson, unrelated, fine);
      const strict = recorder('strict', undefined, { types: ['test.happened.v1', 'run.changed.v1'] });
      const running = arena.dispatcher([strict]);
      await running.start();
      const stored = await until(
        () => arena.stored('strict'),
        (rows) => rows.length === 3,
        'three dead letters',
      );
      await until(
        () => arena.effects('strict'),
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
  });
}
