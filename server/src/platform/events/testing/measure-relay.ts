/**
 * What the relay to NATS and the carrier over it can do. Started by test/load/bench-relay.ts, on
 * a scratch database of the local PostgreSQL and a stream of its own on the local NATS, which it deletes.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { eventTable } from '@stoa/contracts';
import { newUuid } from '#kernel';
import { openTestDatabase } from '#testing';
import { appendEvents } from '../index.ts';
import { openRoad, until } from '../nats/nats.harness.ts';

const { values: options } = parseArgs({
  options: { events: { type: 'string', default: '100000' }, seconds: { type: 'string', default: '10' } },
});
const count = Number(options.events);
const milliseconds = Number(options.seconds) * 1000;
const type = 'request.completed.v1';
const patienceMs = 600_000;

/** A record of a request, as settlement writes it. */
const data = JSON.stringify(eventTable[type].example);

function report(what: string, figure: string): void {
  process.stdout.write(`| ${what} | ${figure} |\n`);
}

function quantile(sorted: readonly number[], share: number): string {
  return (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN).toFixed(1);
}

const database = await openTestDatabase({ adapter: 'postgres' });
const road = await openRoad(database.db);
try {
  const tenantId = await database.newTenant();
  const write = async (size: number): Promise<string[]> => {
    const events = Array.from({ length: size }, () => {
      const eventId = newUuid();
      return { tenantId, eventId, type, key: eventId, keyversion: 1n, occurredAt: new Date(), data };
    });
    await database.db.withTenant({ tenantId }, (tx) => appendEvents(tx, events));
    return events.map((event) => event.eventId);
  };
  const { model, length } = { model: cpus()[0]?.model ?? 'unknown', length: cpus().length };
  process.stdout.write(`${length} x ${model}, Node ${process.version}, ${new Date().toISOString()}\n`);
  process.stdout.write(`${count} events of ${data.length} bytes\n| what | figure |\n| --- | ---: |\n`);
  for (let written = 0; written < count; written += 1000) await write(Math.min(1000, count - written));

  const link = road.link();
  await link.start();
  await until('NATS is there', () => link.health.isHealthy());
  const relay = road.relay(link);
  let startMs = performance.now();
  await relay.start();
  await until('half was relayed', () => relay.state().relayed >= count / 2, patienceMs);
  const halfMs = performance.now() - startMs;
  await until('all were relayed', () => relay.state().relayed >= count, patienceMs);
  const wholeMs = performance.now() - startMs;
  report('relay, events/s', ((count * 1000) / wholeMs).toFixed(0));
  report('relay, first half', ((count * 500) / halfMs).toFixed(0));
  report('relay, second half', ((count * 500) / (wholeMs - halfMs)).toFixed(0));

  const carrier = road.carrier(link);
  startMs = performance.now();
  const ear = await road.listen(carrier, 'bench.backlog', [type]);
  await until('the backlog was delivered', () => ear.events.length >= count, patienceMs);
  report('carrier, backlog, events/s', ((count * 1000) / (performance.now() - startMs)).toFixed(0));

  await until('the relay is idle', () => relay.state().lag?.events === 0, patienceMs);
  const committedAtMs = new Map<string, number>();
  const latencies: number[] = [];
  let read = ear.events.length;
  startMs = performance.now();
  let sent = 0;
  while (performance.now() - startMs < milliseconds) {
    const ids = await write(5);
    const nowMs = performance.now();
    for (const id of ids) committedAtMs.set(id, nowMs);
    relay.wake();
    sent += ids.length;
    await until('the next are due', () => (performance.now() - startMs) * 0.5 >= sent);
    for (; read < ear.events.length; read += 1) {
      const event = ear.events[read];
      const arrivedMs = ear.arrivedAtMs[read] ?? 0;
      const committedMs = committedAtMs.get(event?.eventId ?? '');
      if (committedMs !== undefined) latencies.push(arrivedMs - committedMs);
    }
  }
  latencies.sort((left, right) => left - right);
  report('commit to consumer at 500/s, p50 ms', quantile(latencies, 0.5));
  report('commit to consumer at 500/s, p99 ms', quantile(latencies, 0.99));
  report('memory of this process, MiB', (process.memoryUsage().rss / 1024 / 1024).toFixed(0));
} finally {
  await road.close();
  await database.close();
}
