import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { sql } from 'kysely';
import { type Logger, newUuid, silentLogger, systemClock } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { openTestDatabase, type TestDatabase, testedAdapters } from '#testing';
import { createEventDays } from './retention.ts';
import {
  appendEvents,
  createEventLog,
  type EncodedEvent,
  type EventLog,
  type EventLogSettings,
} from './index.ts';

/** Nobody looks at them. */
const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };

async function until(
  isTrue: () => boolean | Promise<boolean>,
  what: string,
  withinMs = 30_000,
): Promise<void> {
  for (const deadline = Date.now() + withinMs; !(await isTrue()); await pause(10)) {
    if (Date.now() > deadline) assert.fail(`not in time: ${what}`);
  }
}

/** A process of its own, as far as the others on the database can tell. */
function openLog(database: TestDatabase, settings: Partial<EventLogSettings> = {}) {
  const gauges = new Map<string, () => unknown>();
  const metrics: MetricRegistry = {
    counter: () => nothing,
    gauge: () => nothing,
    histogram: () => nothing,
    observedGauge: ({ name }, read) => void gauges.set(name, read),
  };
  const lines: { level: string; message: string; facts: unknown }[] = [];
  const note = (level: string) => (facts: unknown, message: string) =>
    void lines.push({ level, facts, message });
  const logger: Logger = { ...silentLogger, error: note('error'), info: note('info') };
  const log: EventLog = createEventLog(
    { db: database.db, clock: systemClock, logger, metrics },
    { wake: { listenUrl: database.urls?.system ?? null }, ...settings },
  );
  return { log, lines, gauge: (name: string) => gauges.get(name)?.() };
}

function happened(tenantId: string): EncodedEvent {
  const [eventId, key] = [newUuid(), newUuid()];
  const type = 'fixture.happened.v1';
  return { tenantId, eventId, type, key, keyversion: 1n, occurredAt: new Date(), data: '{}' };
}

async function tell(log: EventLog, tenantId: string): Promise<void> {
  await log.db.withTenant({ tenantId }, (tx) => appendEvents(tx, [happened(tenantId)]));
}

for (const adapter of testedAdapters()) {
  describe(`wake-ups and days on ${adapter}`, () => {
    let database: TestDatabase;
    let tenantId: string;
    before(async () => {
      database = await openTestDatabase({ adapter });
      tenantId = await database.newTenant();
    });
    after(() => database.close());

    test('a commit that wrote events wakes this process, one that wrote none does not', async () => {
      const { log } = openLog(database, { wake: { listenUrl: null, pollMs: 3_600_000 } });
      let woken = 0;
      log.wakeUps.onWake(() => {
        woken += 1;
      });
      await log.db.withTenant({ tenantId }, (tx) => sql`select 1`.execute(tx));
      const rolledBack = log.db.withTenant({ tenantId }, async (tx) => {
        await appendEvents(tx, [happened(tenantId)]);
        throw new Error('planted');
      });
      await assert.rejects(rolledBack, /planted/);
      await pause(50);
      assert.equal(woken, 0);
      await tell(log, tenantId);
      await until(() => woken === 1, 'the wake-up');
      await log.wakeUps.stop();
    });

    test('a hundred commits at once wake a listener a few times, and the last one is not missed', async () => {
      const { log } = openLog(database, { wake: { listenUrl: null, pollMs: 3_600_000, gapMs: 50 } });
      let woken = 0;
      log.wakeUps.onWake(() => {
        woken += 1;
      });
      const started = performance.now();
      for (let turn = 0; turn < 100; turn++) log.wakeUps.announce();
      await until(() => woken >= 1, 'the first wake-up');
      log.wakeUps.announce();
      await until(() => woken >= 2, 'the wake-up for what came later');
      assert.ok(performance.now() - started >= 49, 'two wake-ups lie apart');
      await pause(120);
      assert.equal(woken, 2);
      await log.wakeUps.stop();
    });

    test('without any notice a listener is woken again and again', async () => {
      const { log } = openLog(database, { wake: { listenUrl: null, pollMs: 5 } });
      let woken = 0;
      const stop = log.wakeUps.onWake(() => {
        woken += 1;
      });
      await log.wakeUps.start();
      await until(() => woken >= 3, 'three polls');
      stop();
      await log.wakeUps.stop();
    });

    test('the days of the log are made ahead, again without harm, and dropped only past their retention', async () => {
      const days = createEventDays({ db: database.db, logger: silentLogger, metrics: noMetrics });
      const partitions = async (): Promise<string[]> => {
        const { rows } = await database.db.withTenant({ tenantId }, (tx) =>
          sql<{ name: string }>`
            select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
            where inhparent = 'tenant.events'::regclass order by relname
          `.execute(tx),
        );
        return rows.map((row) => row.name);
      };
      await Promise.all([days.prepare(), days.prepare()]);
      const made = await partitions();
      assert.ok(made.length >= 8, made.join());
      await days.expire();
      assert.deepEqual(await partitions(), made, 'nothing young is dropped');
      // As if eight days had gone by: the day before today is past the retention of no time at all.
      await createEventDays(
        { db: database.db, logger: silentLogger, metrics: noMetrics },
        { days: -1 },
      ).expire();
      const left = await partitions();
      assert.deepEqual(left, made.slice(1), 'today, which has ended by tomorrow');
      await days.prepare();
      assert.deepEqual(await partitions(), made);
    });
  });
}

const skip = testedAdapters().includes('postgres') ? false : 'needs PostgreSQL: npm run test:services';

describe('other processes on PostgreSQL', { skip }, () => {
  let database: TestDatabase;
  let tenantId: string;
  before(async () => {
    database = await openTestDatabase({ adapter: 'postgres' });
    tenantId = await database.newTenant();
  });
  after(() => database.close());

  test('a commit wakes a listener in another process at once, without its poll, and after a broken connection', async () => {
    const wake = { listenUrl: database.urls?.system ?? null, pollMs: 3_600_000 };
    const here = openLog(database, { wake });
    const there = openLog(database, { wake });
    await here.log.wakeUps.start();
    await there.log.wakeUps.start();
    const isListening = () => there.gauge('stoa_event_listening') === 1;
    await until(isListening, 'listening');
    let heardAt = 0;
    there.log.wakeUps.onWake(() => {
      heardAt = performance.now();
    });
    const hearOnce = async (): Promise<number> => {
      heardAt = 0;
      const told = performance.now();
      await tell(here.log, tenantId);
      await until(() => heardAt > 0, 'the wake-up');
      return heardAt - told;
    };
    const tookMs: number[] = [];
    for (let turn = 0; turn < 10; turn++) tookMs.push(await hearOnce());
    console.log(`commit and wake-up elsewhere: ${tookMs.map((ms) => ms.toFixed(1)).join(', ')} ms`);

    heardAt = 0;
    const { rows } = await database.db.withSystem('relay', (tx) =>
      sql<{ count: bigint }>`
          select count(pg_terminate_backend(pid)) as count from pg_stat_activity
          where application_name = 'stoa wake-ups' and datname = current_database()
        `.execute(tx),
    );
    assert.equal(rows[0]?.count, 2n);
    await until(() => heardAt > 0, 'a wake-up for what may have been missed');
    await until(isListening, 'listening again');
    await hearOnce();
    await here.log.wakeUps.stop();
    await there.log.wakeUps.stop();
  });

  test('an idle writer in another database raises the horizon alarm with its name, until it ends', async () => {
    const elsewhere = await openTestDatabase({ adapter: 'postgres', migrations: [] });
    assert.ok(elsewhere.urls);
    const { log, lines, gauge } = openLog(database, { horizon: { limitMs: 400, everyMs: 20 } });
    const writer = new Client({
      connectionString: elsewhere.urls.migration,
      application_name: 'idle writer',
    });
    await writer.connect();
    try {
      await writer.query('begin');
      const { rows } = await writer.query<{ pid: number; database: string }>(
        'select pg_backend_pid() as pid, current_database() as database, pg_current_xact_id()::text',
      );
      await log.horizon.start();
      // Others work on the same server: until ours is the oldest, it may be somebody else.
      const culprit = async () => (await log.horizon.look()).culprit;
      await until(
        async () => (await culprit())?.pid === rows[0]?.pid,
        'the idle writer is the oldest',
        60_000,
      );
      await until(() => !log.horizon.health.isHealthy(), 'the alarm');
      assert.ok(Number(gauge('stoa_event_horizon_age_seconds')) > 0.4);
      assert.deepEqual(await culprit(), {
        database: rows[0]?.database,
        pid: rows[0]?.pid,
        login: 'stoa_migration',
        application: 'idle writer',
        state: null,
      });
      const alarm = lines.find(({ level }) => level === 'error');
      assert.equal(alarm?.message, 'an old transaction holds the delivery of events back');
      await writer.query('rollback');
      await until(() => log.horizon.health.isHealthy(), 'the end of the alarm', 60_000);
    } finally {
      await log.horizon.stop();
      await writer.end();
      await elsewhere.close();
    }
  });
});
