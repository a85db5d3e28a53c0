import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { sql } from 'kysely';
import { type Logger, silentLogger } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { testedAdapters } from '#testing';
import { anEvent, type Arena, openArena, recorder, until } from './dispatch/testing/arena.ts';
import { createEventDays } from './retention.ts';
import { createStandingWatch } from './standing.ts';

/** The log keeps 7 days, and a day that somebody has not read up to 14. */
const by = { operator: 'system:test' };

/** What keeps the log's days, with what it says and counts. */
function openDays(arena: Arena, relay: string | null = null) {
  const gauges = new Map<string, () => unknown>();
  const lost: unknown[] = [];
  const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };
  const metrics: MetricRegistry = {
    counter: ({ name }) => ({
      add(count, labels) {
        if (name === 'stoa_event_log_days_lost_total') lost.push([count, labels]);
      },
    }),
    gauge: () => nothing,
    histogram: () => nothing,
    observedGauge: ({ name }, read) => void gauges.set(name, read),
  };
  const lines: { level: string; facts: object; message: string }[] = [];
  const note = (level: string) => (facts: object, message: string) =>
    void lines.push({ level, facts, message });
  const logger: Logger = { ...silentLogger, error: note('error'), warn: note('warn') };
  const { db } = arena;
  const days = createEventDays({ db, logger, metrics }, { relay });
  const watch = createStandingWatch({ db, logger, metrics, days });
  return {
    days,
    lost,
    lines,
    async degraded() {
      await watch.look();
      return watch.health.filter((part) => !part.isHealthy()).map(({ name }) => name);
    },
    held: () => gauges.get('stoa_event_log_days_held')?.(),
  };
}

for (const adapter of testedAdapters()) {
  describe(`the retention of the log on ${adapter}`, () => {
    let arena: Arena;
    let tenantId: string;
    beforeEach(async () => {
      arena = await openArena(adapter);
      tenantId = await arena.newTenant();
    });
    afterEach(() => arena.close());

    const age = (days: number) =>
      arena.db.withOperator(by, 'test.age', (tx) =>
        sql`select tenant.test_age_log(${days}::integer)`.execute(tx),
      );
    const left = async (): Promise<number> => {
      const { rows } = await arena.db.withSystem('relay', (tx) =>
        sql<{ count: number }>`select count(*)::integer as count from tenant.events`.execute(tx),
      );
      return rows[0]?.count ?? -1;
    };
    /** Runs these consumers until each has had so many effects. */
    async function readBy(names: readonly string[], count: number): Promise<void> {
      const running = arena.dispatcher(names.map((name) => recorder(name)));
      await running.start();
      for (const name of names) {
        await until(
          async () => (await arena.effects(name)).length,
          (found) => found === count,
          `${count} effects of ${name}`,
        );
      }
      await running.stop();
    }

    test('a day is kept past its retention for a consumer that has not read it, is told of, and goes once it has', async () => {
      const { days, degraded, held, lines, lost } = openDays(arena);
      await arena.tell(anEvent(tenantId));
      await readBy(['prompt', 'slow'], 1);
      await arena.tell(anEvent(tenantId));
      await readBy(['prompt'], 2);
      await age(9);
      await days.expire();
      assert.equal(await left(), 2);
      assert.deepEqual(await degraded(), ['event_log_unread']);
      assert.equal(held(), 1);
      const [line] = lines;
      assert.deepEqual([line?.level, line?.facts], ['error', { ...line?.facts, readers: ['slow'] }]);
      await readBy(['slow'], 2);
      assert.deepEqual(await degraded(), []);
      assert.equal(held(), 0);
      await days.expire();
      assert.equal(await left(), 0);
      assert.deepEqual(lost, []);
    });

    test('a day that everybody has read goes at its time, and a young one stays', async () => {
      const { days, degraded } = openDays(arena);
      await arena.tell(anEvent(tenantId));
      await readBy(['prompt'], 1);
      await age(6);
      await days.expire();
      assert.equal(await left(), 1);
      await age(9);
      assert.deepEqual(await degraded(), []);
      await days.expire();
      assert.equal(await left(), 0);
    });

    test('a day is held no longer than twice the retention, and is lost aloud', async () => {
      const { days, lost, lines } = openDays(arena);
      await arena.tell(anEvent(tenantId));
      await readBy(['slow'], 1);
      await arena.tell(anEvent(tenantId));
      await age(14);
      await days.expire();
      assert.equal(await left(), 2, 'the day ended 13 days ago');
      await age(16);
      await days.expire();
      assert.equal(await left(), 0);
      assert.deepEqual(lost, [[1, { reader: 'slow' }]]);
      const said = lines.find(({ level }) => level === 'error');
      assert.match(said?.message ?? '', /its events are lost to them/);
    });

    test('a consumer that nobody has fed for two weeks holds nothing, and is named when its day goes', async () => {
      const { days, degraded, lost, lines } = openDays(arena);
      await arena.tell(anEvent(tenantId));
      await readBy(['retired'], 1);
      await arena.tell(anEvent(tenantId));
      await age(9);
      await arena.db.withSystem('event-dispatch', (tx) =>
        sql`update platform.event_places set leased_until = now() - interval '15 days'`.execute(tx),
      );
      assert.deepEqual(await degraded(), []);
      await days.expire();
      assert.equal(await left(), 0);
      assert.deepEqual(lost, []);
      assert.deepEqual(
        lines.map(({ level, facts }) => [level, facts]),
        [['warn', { ...lines[0]?.facts, readers: ['retired'] }]],
      );
    });

    test('a day is kept for the relay in use, and not for one of another stream', async () => {
      await arena.tell(anEvent(tenantId));
      await arena.db.withSystem('relay', (tx) =>
        sql`insert into platform.event_relays (name, fence) values ('STREAM', 1)`.execute(tx),
      );
      await age(9);
      const { days, degraded, lines } = openDays(arena, 'STREAM');
      await days.expire();
      assert.equal(await left(), 1);
      assert.deepEqual(await degraded(), ['event_log_unread']);
      assert.deepEqual(lines[0]?.facts, { ...lines[0]?.facts, readers: ['relay STREAM'] });
      await openDays(arena, 'OTHER').days.expire();
      assert.equal(await left(), 0);
    });
  });
}
