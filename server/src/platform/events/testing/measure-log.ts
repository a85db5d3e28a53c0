/**
 * What the event log takes in. Started by `npm run bench:events` (test/load/bench-events.ts), which has the options; a
 * further figure of the log is a further function in `figures`.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { eventTable } from '@stoa/contracts';
import { openDatabase, type Database } from '#db';
import { newUuid } from '#kernel';
import { openTestDatabase, type TestDatabase } from '#testing';
import { appendEvents, type EventCursor, logStart, type NewEvent, readEvents } from '../index.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    adapter: { type: 'string', default: 'postgres' },
  },
});
const milliseconds = Number(options.seconds) * 1000;

/** A record of a request, 1.2 kB, as settlement writes it: encoded before. */
const record = JSON.stringify(eventTable['request.completed.v1'].example);

function encoded(tenantId: string): NewEvent {
  const eventId = newUuid();
  const type = 'request.completed.v1';
  return { tenantId, eventId, type, key: eventId, keyversion: 1n, occurredAt: new Date(), data: record };
}

function checked(tenantId: string): NewEvent {
  return {
    tenantId,
    eventId: newUuid(),
    type: 'request.completed.v1',
    keyversion: 1n,
    occurredAt: new Date(),
    data: { ...eventTable['request.completed.v1'].example, request_id: newUuid() },
  };
}

interface Load {
  readonly writers: number;
  readonly batch: number;
  readonly make: (tenantId: string) => NewEvent;
}

/** Events a second that writers append, each committing batch after batch. */
async function append(db: Database, tenantId: string, { writers, batch, make }: Load): Promise<number> {
  const started = performance.now();
  let count = 0;
  const write = async (): Promise<void> => {
    while (performance.now() - started < milliseconds) {
      const events = Array.from({ length: batch }, () => make(tenantId));
      await db.withTenant({ tenantId }, (tx) => appendEvents(tx, events));
      count += batch;
    }
  };
  await Promise.all(Array.from({ length: writers }, write));
  return (count * 1000) / (performance.now() - started);
}

/** Events a second that one reader reads in pages of a thousand, from the beginning. */
async function read(db: Database): Promise<number> {
  const started = performance.now();
  let count = 0;
  let cursor: EventCursor = logStart;
  while (performance.now() - started < milliseconds) {
    const page = await db.withSystem('relay', (tx) => readEvents(tx, cursor, 1000));
    if (page.length === 0) break;
    count += page.length;
    cursor = page.at(-1)?.cursor ?? cursor;
  }
  return (count * 1000) / (performance.now() - started);
}

function report(what: string, perSecond: number): void {
  process.stdout.write(`| ${what} | ${perSecond.toFixed(0)} |\n`);
}

async function figures(database: TestDatabase, db: Database): Promise<void> {
  const tenantId = await database.newTenant();
  await append(db, tenantId, { writers: 1, batch: 100, make: encoded });
  for (const [name, make] of [['encoded', encoded] as const, ['checked', checked] as const]) {
    for (const [writers, batch] of [
      [1, 1] as const,
      [1, 1000] as const,
      [4, 1] as const,
      [4, 250] as const,
    ]) {
      const perSecond = await append(db, tenantId, { writers, batch, make });
      report(`append, ${name}, ${writers} writer(s), batches of ${batch}`, perSecond);
    }
  }
  report('read by one reader, pages of 1,000', await read(db));
}

async function main(): Promise<void> {
  const adapter = options.adapter === 'pglite' ? 'pglite' : 'postgres';
  process.stdout.write(
    `${new Date().toISOString()} · Node ${process.version} · ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'} · ${adapter}\n\n` +
      '| events of 1.2 kB | events/s |\n| --- | --- |\n',
  );
  const database = await openTestDatabase({ adapter });
  const db = database.urls ? await openDatabase({ adapter: 'postgres', urls: database.urls }) : database.db;
  try {
    await figures(database, db);
  } finally {
    if (db !== database.db) await db.close();
    await database.close();
  }
}

await main();
