/**
 * How soon, and how fast, events reach a consumer: over the log itself and over NATS. Started by test/load/bench-latency.ts
 * and bench-backlog.ts, which have the options and bring servers of their own.
 *
 * The writer and the consumer are what two processes would be: each has its own connections and its own wake-ups, so a
 * commit is heard of by NOTIFY or by NATS. The consumer is a system's, in batches, with its inbox; its effect is nothing.
 */
import { cpus, loadavg } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { eventTable } from '@stoa/contracts';
import { sql } from 'kysely';
import { type Database, openDatabase } from '#db';
import { newUuid, silentLogger, systemClock } from '#kernel';
import { createTelemetry } from '#telemetry';
import { openTestDatabase, type TestDatabase } from '#testing';
import { noMetrics } from '../dispatch/testing/arena.ts';
import {
  appendEvents,
  createDispatcher,
  createEventLog,
  createLogCarrier,
  type EventCarrier,
  type EventLog,
  type LoggedEvent,
  type NewEvent,
  type SystemConsumer,
} from '../index.ts';
import { openRoad, until } from '../nats/nats.harness.ts';

const { values: options } = parseArgs({
  options: {
    figure: { type: 'string', default: 'latency' },
    carrier: { type: 'string', default: 'both' },
    events: { type: 'string', default: '1000000' },
    rate: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '20' },
  },
});
const carriers = (['log', 'nats'] as const).filter((name) => ['both', name].includes(options.carrier));
const count = Number(options.events);
const type = 'request.completed.v1';
/** A record of a request, 1.2 kB, as settlement writes it. */
const data = JSON.stringify(eventTable[type].example);
const patienceMs = 900_000;
const streamBytes = 8 * 2 ** 30;
const rowsAtOnce = 20_000;

const write = (line: string): boolean => process.stdout.write(`${line}\n`);
const residentMiB = (): string => (process.memoryUsage().rss / 2 ** 20).toFixed(0);

function quantile(sorted: readonly number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(1);
}

/** One end of the log, as a process has it. */
async function openEnd(
  database: TestDatabase,
): Promise<{ db: Database; log: EventLog; close(): Promise<void> }> {
  const { urls } = database;
  if (urls === undefined) throw new Error('the figures are taken on PostgreSQL');
  const db = await openDatabase({ adapter: 'postgres', urls });
  const log = createEventLog(
    { db, clock: systemClock, logger: silentLogger, metrics: noMetrics },
    { wake: { listenUrl: urls.system } },
  );
  await log.lifecycle.start();
  return {
    db: log.db,
    log,
    async close() {
      await log.lifecycle.stop();
      await db.close();
    },
  };
}

interface Way {
  readonly carrier: EventCarrier;
  /** Events that the relay has copied; null where there is none. */
  readonly relayed: (() => number) | null;
  close(): Promise<void>;
}

async function openWay(name: 'log' | 'nats', { db, log }: { db: Database; log: EventLog }): Promise<Way> {
  if (name === 'log') {
    const carrier = createLogCarrier({ db, clock: systemClock, logger: silentLogger });
    const stopWaking = log.wakeUps.onWake(() => carrier.wake());
    return { carrier, relayed: null, close: async () => stopWaking() };
  }
  const road = await openRoad(db);
  const link = road.link({ maxBytes: streamBytes });
  await link.start();
  await until('NATS is there', () => link.health.isHealthy());
  const relay = road.relay(link, { pollMs: 250 });
  const stopWaking = log.wakeUps.onWake(() => relay.wake());
  await relay.start();
  return {
    carrier: road.carrier(link, { leaseMs: 10_000, watchMs: 5000 }),
    relayed: () => relay.state().relayed,
    async close() {
      stopWaking();
      await road.close();
    },
  };
}

async function consume(
  name: string,
  end: { db: Database },
  way: Way,
  handle: (events: readonly LoggedEvent[]) => void,
): Promise<{ stop(): Promise<void> }> {
  const telemetry = await createTelemetry({
    logLevel: 'silent',
    serviceName: 'bench',
    serviceVersion: '0.0.0',
    tracing: null,
  });
  const consumer: SystemConsumer = {
    name: `bench.${name}`,
    types: [type],
    door: { system: 'event-dispatch' },
    async handle(_tx, events) {
      handle(events);
    },
  };
  const dispatcher = createDispatcher(
    {
      db: end.db,
      carrier: way.carrier,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      tracer: telemetry.tracer,
    },
    [consumer],
  );
  await dispatcher.start();
  return {
    async stop() {
      await dispatcher.stop();
      await telemetry.stop();
    },
  };
}

/** From the answer to the writer's commit until a handler has the event, at a steady rate. */
async function latency(name: 'log' | 'nats'): Promise<void> {
  const database = await openTestDatabase({ adapter: 'postgres' });
  const writer = await openEnd(database);
  const reader = await openEnd(database);
  const way = await openWay(name, reader);
  try {
    const tenantId = await database.newTenant();
    const committedAtMs = new Map<string, number>();
    const cameAtMs = new Map<string, number>();
    const consumer = await consume(name, reader, way, (events) => {
      const nowMs = performance.now();
      for (const { eventId } of events) cameAtMs.set(eventId, nowMs);
    });
    const writing: Promise<void>[] = [];
    const tell = async (size: number): Promise<void> => {
      const events = Array.from({ length: size }, (): NewEvent => {
        const eventId = newUuid();
        return { tenantId, eventId, type, key: eventId, keyversion: 1n, occurredAt: new Date(), data };
      });
      await writer.db.withTenant({ tenantId }, (tx) => appendEvents(tx, events));
      const nowMs = performance.now();
      for (const { eventId } of events) committedAtMs.set(eventId, nowMs);
    };
    await tell(10);
    await until('the first came', () => cameAtMs.size >= 10);
    const loop = monitorEventLoopDelay({ resolution: 5 });
    loop.enable();
    const startedMs = performance.now();
    const batch = 5;
    for (let told = 0; performance.now() - startedMs < Number(options.seconds) * 1000; told += batch) {
      const dueMs = (told * 1000) / Number(options.rate) - (performance.now() - startedMs);
      if (dueMs > 0) await sleep(dueMs);
      writing.push(tell(batch));
    }
    await Promise.all(writing);
    await until('all came', () => cameAtMs.size >= committedAtMs.size);
    const took = [...committedAtMs].map(([id, atMs]) => Math.max(0, (cameAtMs.get(id) ?? 0) - atMs));
    took.sort((left, right) => left - right);
    const perSecond = (took.length * 1000) / (performance.now() - startedMs);
    write(
      `| ${name} | ${took.length} | ${perSecond.toFixed(0)} | ${quantile(took, 0.5)} | ${quantile(took, 0.95)} | ${quantile(took, 0.99)} | ${quantile(took, 1)} | ${(loop.percentile(99) / 1e6).toFixed(1)} |`,
    );
    await consumer.stop();
  } finally {
    await way.close();
    await reader.close();
    await writer.close();
    await database.close();
  }
}

/** Fills the log from within the database: how fast that goes is another figure. */
async function fill(db: Database, tenantId: string): Promise<void> {
  for (let from = 0; from < count; from += rowsAtOnce) {
    const rows = Math.min(rowsAtOnce, count - from);
    await db.withTenant(
      { tenantId },
      (tx) =>
        sql`insert into tenant.events (tenant_id, event_id, type, key, keyversion, occurred_at, data)
          select ${tenantId}::uuid, id, ${type}, id::text, 1, now(), ${data}
          from (select gen_random_uuid() as id from generate_series(1, ${rows}::integer)) as ids`.execute(tx),
      { deadlineMs: 120_000 },
    );
  }
}

interface Tenths {
  note(done: number): void;
  end(): void;
}

/** A row for each tenth, as it is done; at the end what the last was to the first. */
function tenths(what: string): Tenths {
  const rates: number[] = [];
  let sinceMs = performance.now();
  let from = 0;
  let peakMiB = 0;
  return {
    note(done) {
      peakMiB = Math.max(peakMiB, Number(residentMiB()));
      while (rates.length < 10 && done >= ((rates.length + 1) * count) / 10) {
        const nowMs = performance.now();
        const rate = ((done - from) * 1000) / Math.max(1, nowMs - sinceMs);
        if (done > from) rates.push(rate);
        else rates.push(rates.at(-1) ?? 0);
        write(`| ${what} | ${rates.length} | ${(rates.at(-1) ?? 0).toFixed(0)} | ${residentMiB()} |`);
        sinceMs = nowMs;
        from = done;
      }
    },
    end() {
      const [first = 1] = rates;
      const last = rates.at(-1) ?? 0;
      write(
        `| ${what} | last to first | ${((last / first) * 100).toFixed(0)} % | peak ${peakMiB.toFixed(0)} |`,
      );
    },
  };
}

/** How fast a backlog is worked off, from its first tenth to its last. */
async function backlog(name: 'log' | 'nats'): Promise<void> {
  const database = await openTestDatabase({ adapter: 'postgres' });
  const end = await openEnd(database);
  try {
    const startedMs = performance.now();
    await fill(end.db, await database.newTenant());
    const filledS = ((performance.now() - startedMs) / 1000).toFixed(0);
    write(`| fill the log | all | ${(count / Math.max(1, Number(filledS))).toFixed(0)} | ${residentMiB()} |`);
    const relaying = tenths('relay to NATS');
    const way = await openWay(name, end);
    try {
      const { relayed } = way;
      if (relayed !== null) {
        const isRelayed = (): boolean => {
          relaying.note(relayed());
          return relayed() >= count;
        };
        await until('all is relayed', isRelayed, patienceMs);
        relaying.end();
      }
      let done = 0;
      const handling = tenths(`consumer over ${name === 'log' ? 'the log' : 'NATS'}`);
      const consumer = await consume(name, end, way, (events) => {
        done += events.length;
        handling.note(done);
      });
      await until('the backlog is worked off', () => done >= count, patienceMs);
      handling.end();
      await consumer.stop();
    } finally {
      await way.close();
    }
  } finally {
    await end.close();
    await database.close();
  }
}

write(
  `${new Date().toISOString()} · Node ${process.version} · ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'} · load ${loadavg()[0]?.toFixed(1) ?? ''} · ${data.length} bytes an event\n`,
);
if (options.figure === 'latency') {
  write(
    '| commit to consumer over | events | events/s | p50 ms | p95 ms | p99 ms | longest ms | event loop p99 ms |',
  );
  write('| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |');
  for (const name of carriers) await latency(name);
} else {
  write(`${count} events\n\n| what | tenth | events/s | memory MiB |\n| --- | ---: | ---: | ---: |`);
  for (const name of carriers) await backlog(name);
}
