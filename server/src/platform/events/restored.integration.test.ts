import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { sql } from 'kysely';
import { type Logger, silentLogger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { testedAdapters } from '#testing';
import { anEvent, type Arena, openArena, recorder, until } from './dispatch/testing/arena.ts';
import { settleEventLog } from './index.ts';
import { createEventDays } from './retention.ts';
import { createStandingWatch } from './standing.ts';

/**
 * A log that was restored into another database server, whose transaction ids are smaller: all positions of the log are
 * raised by 2^33, which is what such a server sees.
 */
const foreignBy = 2n ** 33n;
const by = { operator: 'system:test' };

interface Line {
  readonly level: string;
  readonly message: string;
  readonly facts: unknown;
}

/** The watch of a process, with what it says and shows. */
function openWatch(arena: Arena) {
  const gauges = new Map<string, () => unknown>();
  const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
  const metrics: MetricRegistry = {
    counter: () => nothing,
    gauge: () => nothing,
    histogram: () => nothing,
    observedGauge: ({ name }, read) => void gauges.set(name, read),
  };
  const lines: Line[] = [];
  const note = (level: string) => (facts: unknown, message: string) =>
    void lines.push({ level, facts, message });
  const logger: Logger = { ...silentLogger, error: note('error'), info: note('info') };
  const { db } = arena;
  const watch = createStandingWatch({ db, logger, metrics, days: createEventDays({ db, logger, metrics }) });
  const degraded = (): string[] => watch.health.filter((part) => !part.isHealthy()).map(({ name }) => name);
  return { watch, lines, degraded, gauge: (name: string) => gauges.get(name)?.() };
}

async function moveLog(arena: Arena): Promise<void> {
  await arena.db.withOperator(by, 'test.move', (tx) =>
    sql`select tenant.test_move_log(${String(foreignBy)}::numeric)`.execute(tx),
  );
}

async function nameServer(arena: Arena, name: string): Promise<void> {
  await arena.db.withOperator(by, 'test.name', (tx) =>
    sql`select tenant.test_name_server(${name})`.execute(tx),
  );
}

async function logId(arena: Arena): Promise<string> {
  const { rows } = await arena.db.withSystem('relay', (tx) =>
    sql<{ log_id: string }>`select log_id from platform.event_log_identity`.execute(tx),
  );
  return rows[0]?.log_id ?? '';
}

for (const adapter of testedAdapters()) {
  describe(`a log restored into another server, on ${adapter}`, () => {
    let arena: Arena;
    let tenantId: string;
    before(async () => {
      arena = await openArena(adapter);
      tenantId = await arena.newTenant();
    });
    after(() => arena.close());

    const versions = async (consumer: string, key: string): Promise<readonly bigint[]> => {
      const effects = await arena.effects(consumer);
      return effects.filter((effect) => effect.key === key).map(({ keyversion }) => keyversion);
    };
    const tell = (key: string, ...of: readonly bigint[]): Promise<void> =>
      arena.tell(...of.map((keyversion) => anEvent(tenantId, { key, keyversion })));

    test('stops delivery and says so, and `after-restore` has everything delivered once, in order per key', async () => {
      const { watch, lines, degraded, gauge } = openWatch(arena);
      const reader = recorder('restored');
      const late = recorder('late');
      let running = arena.dispatcher([reader, late]);
      await running.start();
      await tell('a', 1n, 2n);
      await tell('b', 1n);
      for (const name of ['restored', 'late']) {
        await until(
          async () => (await arena.effects(name)).length,
          (count) => count === 3,
          `what ${name} reads before the backup`,
        );
      }
      await running.stop();
      await watch.look();
      assert.deepEqual(degraded(), []);

      // One consumer reads on before the backup, the other does not.
      await tell('a', 3n);
      running = arena.dispatcher([reader]);
      await running.start();
      await until(
        () => versions('restored', 'a'),
        (found) => found.length === 3,
        'a third',
      );
      await running.stop();
      await tell('b', 2n);
      await moveLog(arena);

      // Processes are started on the new server before anybody knows.
      await tell('a', 4n);
      await tell('c', 1n);
      running = arena.dispatcher([reader, late]);
      await running.start();
      const standing = await watch.look();
      assert.equal(standing.foreign.hasEvents, true);
      assert.equal(standing.foreign.places, 128);
      assert.deepEqual(degraded(), ['event_log_restored']);
      assert.equal(gauge('stoa_event_log_restored'), 1);
      assert.equal(gauge('stoa_event_places_ahead'), 128);
      assert.match(lines.find(({ level }) => level === 'error')?.message ?? '', /stoa db after-restore/);
      await pause(500);
      assert.equal((await arena.effects('restored')).length, 4, 'nothing is delivered');
      await running.stop();

      const before = await logId(arena);
      const dry = await settleEventLog(arena.db, by, true);
      assert.deepEqual([dry.events, dry.places, await logId(arena)], [7, 128, before]);
      assert.equal((await watch.look()).foreign.places, 128, 'a dry run changes nothing');
      const settled = await settleEventLog(arena.db, by, false);
      assert.deepEqual(settled, dry);
      assert.deepEqual(settled.consumers, [
        { name: 'late', unread: 4 },
        { name: 'restored', unread: 3 },
      ]);
      assert.notEqual(await logId(arena), before, 'a stream of the time before is not gone on with');
      await watch.look();
      assert.deepEqual(degraded(), []);

      running = arena.dispatcher([reader, late]);
      await running.start();
      await tell('b', 3n);
      for (const name of ['restored', 'late']) {
        await until(
          async () => (await arena.effects(name)).length,
          (count) => count >= 8,
          `all of it for ${name}`,
        );
        assert.deepEqual(await versions(name, 'a'), [1n, 2n, 3n, 4n], name);
        assert.deepEqual(await versions(name, 'b'), [1n, 2n, 3n], name);
        assert.deepEqual(await versions(name, 'c'), [1n], name);
        assert.deepEqual(await arena.stored(name), []);
      }
      await running.stop();
    });

    test('is known by the server too, where the ids of the new one have passed the old ones', async () => {
      const { watch, degraded } = openWatch(arena);
      await nameServer(arena, 'another server');
      assert.equal((await watch.look()).foreign.isOtherServer, true);
      assert.deepEqual(degraded(), ['event_log_restored']);
      await tell('d', 1n);
      const settled = await settleEventLog(arena.db, by, false);
      // Old and new can't be told apart, so all of it is handed over again, and the inbox knows what it has seen.
      assert.ok(settled.consumers.every(({ unread }) => unread === settled.events));
      const effects = (await arena.effects('late')).length;
      const running = arena.dispatcher([recorder('late')]);
      await running.start();
      await until(
        () => versions('late', 'd'),
        (found) => found.length === 1,
        'what is new',
      );
      await running.stop();
      assert.equal((await arena.effects('late')).length, effects + 1, 'nothing has its effect twice');
      await watch.look();
      assert.deepEqual(degraded(), []);
    });

    test('a restore of the same server moves no position, and only renames the log', async () => {
      const before = await logId(arena);
      const settled = await settleEventLog(arena.db, by, false);
      assert.deepEqual([settled.events, settled.places], [0, 0]);
      assert.notEqual(await logId(arena), before);
    });
  });
}
