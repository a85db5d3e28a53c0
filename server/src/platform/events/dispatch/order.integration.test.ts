import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { sql } from 'kysely';
import { silentLogger, systemClock } from '#kernel';
import { testedAdapters } from '#testing';
import {
  type CarrierSubscription,
  createDispatcher,
  logStart,
  type LoggedEvent,
  readEvents,
  type SystemConsumer,
} from '../index.ts';
import { anEvent, type Arena, noMetrics, openArena, quick, recorder, until } from './testing/arena.ts';

const seed = Number(process.env['STOA_TEST_SEED'] ?? randomInt(2 ** 31));
console.log(`seed ${seed} (STOA_TEST_SEED repeats it)`);

/** mulberry32 */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

for (const adapter of testedAdapters()) {
  describe(`order and once on ${adapter}`, () => {
    let arena: Arena;
    before(async () => {
      arena = await openArena(adapter);
    });
    after(() => arena.close());

    async function logged(tenantId: string): Promise<readonly LoggedEvent[]> {
      return until(
        () => arena.db.withTenant({ tenantId }, (tx) => readEvents(tx, logStart, 1000)),
        (events) => events.length === 60,
        'the log',
      );
    }

    test('however events are shuffled, repeated and held back, each has one effect, in the order of its key', async () => {
      const random = randomOf(seed);
      const tenantId = await arena.newTenant();
      const told = Array.from({ length: 60 }, (_, index) =>
        anEvent(tenantId, { key: `key ${index % 6}`, keyversion: BigInt(Math.floor(index / 6) + 1) }),
      );
      await arena.tell(...told);
      const log = await logged(tenantId);
      const given: CarrierSubscription[] = [];
      let throwsLeft = 12;
      const consumer = recorder('shuffled', async () => {
        if (throwsLeft > 0 && random() < 0.2) {
          throwsLeft -= 1;
          throw new Error('now and then');
        }
      });
      const dispatcher = createDispatcher(
        {
          db: arena.db,
          carrier: {
            async subscribe(subscription) {
              given.push(subscription);
              return { lag: null, stop: async () => undefined };
            },
            wake: () => undefined,
          },
          clock: systemClock,
          logger: silentLogger,
          metrics: noMetrics,
          tracer: arena.telemetry.tracer,
        },
        [consumer],
        { ...quick, retryDelaysMs: Array.from({ length: 20 }, () => 5) },
      );
      await dispatcher.start();
      const [subscription] = given;
      assert.ok(subscription);
      const bag = [...log, ...log.filter(() => random() < 0.5)];
      bag.sort(() => random() - 0.5);
      while (bag.length > 0) {
        const batches = [1, 2].map(() => bag.splice(0, Math.ceil(random() * 8)));
        const counts = await Promise.all(
          batches.map((events) => subscription.deliver(0, events, random() < 0.2)),
        );
        for (const [index, events] of batches.entries()) bag.push(...events.slice(counts[index]));
      }
      const mine = async () => arena.effects('shuffled');
      await until(mine, (rows) => rows.length >= 60, 'all effects');
      await dispatcher.stop();
      const rows = await mine();
      assert.equal(rows.length, 60);
      for (let index = 0; index < 6; index++) {
        assert.deepEqual(
          rows.filter(({ key }) => key === `key ${index}`).map(({ keyversion }) => keyversion),
          Array.from({ length: 10 }, (_, turn) => BigInt(turn + 1)),
        );
      }
      assert.deepEqual(await arena.stored('shuffled'), []);
    });

    test('a batch with one culprit is halved until only that one is left out', async () => {
      const tenantId = await arena.newTenant();
      const told = Array.from({ length: 64 }, (_, index) => anEvent(tenantId, { key: `batch ${index}` }));
      const culprit = told[37];
      assert.ok(culprit);
      const consumer: SystemConsumer = {
        name: 'batches',
        types: ['test.happened.v1'],
        door: { system: 'event-dispatch' },
        async handle(tx, events) {
          // What this job may write: the effect is a row under another consumer's name.
          for (const event of events) {
            await sql`insert into tenant.event_inbox (tenant_id, consumer, event_id, outcome)
              values (${event.tenantId}, 'batches.effect', ${event.eventId}, 'handled')`.execute(tx);
          }
          if (events.some(({ eventId }) => eventId === culprit.eventId)) throw new Error('the culprit');
        },
      };
      await arena.tell(...told);
      const running = arena.dispatcher([consumer]);
      await running.start();
      const effects = async () =>
        arena.db.withTenant({ tenantId }, async (tx) => {
          const { rows } = await sql<{ event_id: string }>`
            select event_id from tenant.event_inbox where consumer = 'batches.effect'`.execute(tx);
          return rows.map((row) => row.event_id);
        });
      const found = await until(effects, (ids) => ids.length >= 63, 'the other effects');
      const stored = await until(
        () => arena.stored('batches'),
        (rows) => rows[0]?.state === 'dead',
        'the dead letter',
      );
      await running.stop();
      assert.equal(found.length, 63);
      assert.deepEqual(
        stored.map((row) => row.event_id),
        [culprit.eventId],
      );
    });

    if (adapter === 'postgres') {
      test('an event that kills its process has no effect, counts each death, and ends as a dead letter', async () => {
        const tenantId = await arena.newTenant();
        const killer = anEvent(tenantId, { key: 'killer' });
        const others = Array.from({ length: 10 }, (_, index) =>
          anEvent(tenantId, { key: `bystander ${index}` }),
        );
        await arena.tell(...others.slice(0, 5), killer, ...others.slice(5));
        const file = fileURLToPath(new URL('./testing/killed-process.ts', import.meta.url));
        let deaths = 0;
        const effectsOf = async () =>
          (await arena.effects('killed')).filter((row) => row.tenant_id === tenantId);
        const storedOfMine = async () =>
          (await arena.stored('killed')).filter((row) => row.tenant_id === tenantId);
        const state = { isDone: false };
        while (!state.isDone) {
          const child = spawn(process.execPath, [file, JSON.stringify(arena.urls)], { stdio: 'inherit' });
          let hasEnded = false;
          const ended = once(child, 'exit').then(() => {
            hasEnded = true;
          });
          try {
            await until(
              async () => {
                const rows = await storedOfMine();
                state.isDone = rows[0]?.state === 'dead' && (await effectsOf()).length === 10;
                return state.isDone || hasEnded;
              },
              Boolean,
              'a death or the end',
            );
          } catch (error) {
            child.kill('SIGKILL');
            throw error;
          }
          if (hasEnded) deaths += 1;
          else child.kill('SIGKILL');
          await ended;
          assert.ok(deaths < 10, 'it goes on and on');
        }
        const [letter] = await storedOfMine();
        assert.deepEqual([letter?.event_id, letter?.error_code], [killer.eventId, 'process_died']);
        const effects = await effectsOf();
        assert.deepEqual(
          effects.map((row) => row.event_id).toSorted(),
          others.map(({ eventId }) => eventId).toSorted(),
        );
        assert.ok(deaths >= 3, `${deaths} deaths`);
      });
    }
  });
}
