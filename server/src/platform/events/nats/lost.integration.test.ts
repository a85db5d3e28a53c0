/** Events that the stream only refers to, and a log that no longer has them, or can't be asked. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { sql } from 'kysely';
import type { Database } from '#db';
import { type Logger, silentLogger, systemClock, toTypeId } from '#kernel';
import { createTelemetry, type Telemetry } from '#telemetry';
import { openTestDatabase, type TestDatabase } from '#testing';
import { type Ear, hasNats, openRoad, type Road, until } from './nats.harness.ts';
import { createNatsEvents, type NatsEvents } from './nats-events.ts';
import { readLogId } from './relay.sql.ts';

const large = JSON.stringify({ text: 'x'.repeat(1_500_000) });

function keyNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `key ${index}`);
}

interface Line {
  readonly level: 'debug' | 'warn' | 'error';
  readonly message: string;
  readonly fields: object;
}

function recorder(): { logger: Logger; lines: Line[] } {
  const lines: Line[] = [];
  const at = (level: Line['level']) => (fields: object, message: string) => {
    lines.push({ level, message, fields });
  };
  const logger: Logger = {
    ...silentLogger,
    debug: at('debug'),
    warn: at('warn'),
    error: at('error'),
    child: () => logger,
  };
  return { logger, lines };
}

describe('events that the stream only refers to', {
  skip: !hasNats && 'needs the services (--services)',
}, () => {
  const consumer = 'fixture.lost';
  let database: TestDatabase;
  let road: Road;
  let telemetry: Telemetry;
  let nats: NatsEvents;
  let lines: Line[];
  let tenantId: string;
  /** Set, this process can't read the log; places and leases go on. */
  let isLogAway: boolean;

  beforeEach(async () => {
    database = await openTestDatabase();
    road = await openRoad(database.db);
    telemetry = await createTelemetry({
      logLevel: 'silent',
      serviceName: 'test',
      serviceVersion: '0.0.0',
      tracing: null,
    });
    const recorded = recorder();
    lines = recorded.lines;
    isLogAway = false;
    const db: Pick<Database, 'withSystem'> = {
      withSystem: (job, fn, options) =>
        database.db.withSystem(
          job,
          async (tx) => {
            // Events can't be read; the log's identity, which the link asks for, can.
            if (isLogAway && job === 'relay' && !Object.is(fn, readLogId))
              await sql`select 1 / 0`.execute(tx);
            return fn(tx);
          },
          options,
        ),
    };
    nats = createNatsEvents(
      {
        db,
        leases: { take: async () => null, giveBack: async () => undefined },
        clock: systemClock,
        logger: recorded.logger,
        metrics: telemetry.metrics,
        isRelay: false,
      },
      road.settings,
    );
    tenantId = await database.newTenant();
  });
  afterEach(async () => {
    await road.close();
    await nats.lifecycle.stop();
    await telemetry.stop();
    await database.close();
  });

  /** A consumer that has read the first events and is away, while the stream gets a large one and others of its keys. */
  async function leaveBehind(largeOf: string): Promise<{ lostId: string | undefined; rest: string[] }> {
    const link = road.link();
    await link.start();
    const relay = road.relay(link);
    await relay.start();
    await nats.lifecycle.start();
    const first = await road.listen(nats.carrier, consumer);
    // So many that each lane gets some: its place is then in the stream, and reading on needs no look into the log.
    await road.append(tenantId, ['key', ...keyNames(200)]);
    await until('the first came', () => first.events.length === 201);
    await first.running.stop();
    const [lostId] = await road.append(largeOf, ['key'], undefined, large);
    const rest = await road.append(tenantId, ['key', ...keyNames(63)]);
    await until('all were relayed', () => relay.state().relayed === 266);
    return { lostId, rest };
  }

  async function assertRest(ear: Ear, rest: readonly string[]): Promise<void> {
    await until('what lies behind it came', () => ear.events.length >= rest.length, 20_000);
    assert.deepEqual(new Set(ear.events.map(({ eventId }) => eventId)), new Set(rest));
    assert.equal(ear.events.length, rest.length);
  }

  const dropEvent = (eventId: string | undefined): Promise<unknown> =>
    database.db.withSystem('purge', (tx) =>
      sql`delete from tenant.events where event_id = ${eventId}`.execute(tx),
    );
  const unhealthy = (): string[] => nats.health.filter((part) => !part.isHealthy()).map((part) => part.name);
  const lostCount = async (): Promise<string | undefined> =>
    /^stoa_events_nats_lost_total\{consumer="fixture\.lost"\} (\d+)$/m.exec(
      await telemetry.renderMetrics(),
    )?.[1];

  test('one that the log has dropped is counted and told once, and the lane goes on', async () => {
    const { lostId, rest } = await leaveBehind(tenantId);
    await dropEvent(lostId);
    const ear = await road.listen(nats.carrier, consumer);
    await assertRest(ear, rest);
    assert.equal(await lostCount(), '1');
    const told = lines.filter(({ level }) => level === 'error');
    assert.equal(told.length, 1);
    assert.equal(Reflect.get(told[0]?.fields ?? {}, 'event_id'), toTypeId('evt', lostId ?? ''));
    await ear.running.stop();
    // Its place lies behind the loss: who comes next neither reads nor counts it again.
    const again = await road.listen(nats.carrier, consumer);
    const more = await road.append(tenantId, ['key']);
    await assertRest(again, more);
    assert.equal(await lostCount(), '1');
    assert.deepEqual(unhealthy(), []);
  });

  test('one of a purged tenant is no loss', async () => {
    const purged = await database.newTenant();
    const { lostId, rest } = await leaveBehind(purged);
    await dropEvent(lostId);
    await database.db.withSystem('purge', (tx) =>
      sql`delete from tenant.tenants where tenant_id = ${purged}`.execute(tx),
    );
    await assertRest(await road.listen(nats.carrier, consumer), rest);
    assert.equal(await lostCount(), '0');
    assert.deepEqual(
      lines.filter(({ level }) => level !== 'debug'),
      [],
    );
    assert.equal(lines.filter(({ message }) => message.includes('purged tenant')).length, 1);
  });

  test('a log that can not be asked is no loss: the lane is degraded by name, lag stays, and all comes afterwards', async () => {
    const { lostId = '', rest } = await leaveBehind(tenantId);
    isLogAway = true;
    const ear = await road.listen(nats.carrier, consumer);
    await until('it is told', () => unhealthy().includes('event_reading'), 20_000);
    await until('it has tried again since', () => lines.length >= 8, 30_000);
    assert.deepEqual(unhealthy(), ['event_reading']);
    assert.ok((ear.running.lag ?? 0) > 0, `the lag is ${String(ear.running.lag)}`);
    assert.equal(lines.filter(({ level }) => level === 'error').length, 1);
    assert.equal(await lostCount(), '0');
    isLogAway = false;
    await assertRest(ear, [lostId, ...rest]);
    await until('and it is well', () => unhealthy().length === 0, 20_000);
    assert.equal(await lostCount(), '0');
  });
});
