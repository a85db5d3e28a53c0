/** A database with a table of effects, events to write, and dispatchers over the log: for the tests of this folder. */

import { sql } from 'kysely';
import type { Database, MigrationSet } from '#db';
import { newUuid, silentLogger, systemClock } from '#kernel';
import { createTelemetry, type MetricRegistry, type Telemetry } from '#telemetry';
import { openTestDatabase, type TestAdapter, type TestDatabase } from '#testing';
import {
  appendEvents,
  createDispatcher,
  createLogCarrier,
  type Dispatcher,
  type DispatcherSettings,
  type EncodedEvent,
  type EventCarrier,
  type EventConsumer,
  type LoggedEvent,
  type LogCarrierSettings,
  type TenantConsumer,
} from '../../index.ts';

/** Brings the table `tenant.test_effects`. */
const effectsMigration: MigrationSet = {
  module: 'platform/events/testing',
  directory: new URL('./migrations/', import.meta.url),
};

export interface Effect {
  readonly tenant_id: string;
  readonly event_id: string;
  readonly key: string;
  readonly keyversion: bigint;
}

export interface StoredRow {
  readonly tenant_id: string;
  readonly event_id: string;
  readonly state: string;
  readonly attempts: number;
  readonly total_attempts: number;
  readonly error_code: string | null;
  readonly error_message: string | null;
  readonly error_stack: string | null;
  readonly public_message: string | null;
  readonly traceparent: string | null;
}

export interface Arena extends TestDatabase {
  /** Writes the events, each in a transaction of its tenant. */
  tell(...events: readonly EncodedEvent[]): Promise<void>;
  /** Writes events of one tenant in one transaction. */
  tellTogether(events: readonly EncodedEvent[]): Promise<void>;
  /** Has all partitions of a consumer held by a process that has vanished, and whose lease ends soon. */
  abandon(consumer: string): Promise<void>;
  /** The rows that handlers wrote, in the order in which they did. */
  effects(consumer: string): Promise<readonly Effect[]>;
  stored(consumer: string): Promise<readonly StoredRow[]>;
  /** A dispatcher over a log carrier of its own: what another process would be. */
  dispatcher(
    consumers: readonly EventConsumer[],
    settings?: DispatcherSettings & { readonly carrier?: LogCarrierSettings },
  ): Dispatcher & { readonly carrier: EventCarrier };
  readonly telemetry: Telemetry;
}

const nothing = { add: () => undefined, set: () => undefined, observe: () => undefined };

/** Several dispatchers in one process would each declare the same metrics. */
export const noMetrics: MetricRegistry = {
  counter: () => nothing,
  gauge: () => nothing,
  histogram: () => nothing,
  observedGauge: () => undefined,
};

/** Tests wait for a second where people would for minutes. */
export const quick: DispatcherSettings = { retryDelaysMs: [10, 10], retryPollMs: 30, handlerDeadlineMs: 500 };

export async function openArena(adapter: TestAdapter): Promise<Arena> {
  const database = await openTestDatabase({ adapter, furtherMigrations: [effectsMigration] });
  const telemetry = await createTelemetry({
    logLevel: 'silent',
    serviceName: 'test',
    serviceVersion: '0.0.0',
    tracing: null,
  });
  const { db } = database;
  return {
    ...database,
    telemetry,
    async tell(...events) {
      for (const event of events) {
        await db.withTenant({ tenantId: event.tenantId }, (tx) => appendEvents(tx, [event]));
      }
    },
    async tellTogether(events) {
      const [first] = events;
      if (first !== undefined) {
        await db.withTenant({ tenantId: first.tenantId }, (tx) => appendEvents(tx, events));
      }
    },
    async abandon(consumer) {
      await db.withSystem('event-dispatch', (tx) =>
        sql`insert into platform.event_places (consumer, partition, holder, fence, leased_until)
          select ${consumer}, generate_series(0, 63), gen_random_uuid(), 1, clock_timestamp() + interval '500 ms'`.execute(
          tx,
        ),
      );
    },
    effects: (consumer) => readEffects(db, consumer),
    stored: (consumer) => readStored(db, consumer),
    dispatcher: (consumers, settings = {}) => dispatcherOn(db, telemetry, consumers, settings),
    async close() {
      await telemetry.stop();
      await database.close();
    },
  };
}

export function dispatcherOn(
  db: Database,
  telemetry: Telemetry,
  consumers: readonly EventConsumer[],
  settings: DispatcherSettings & { readonly carrier?: LogCarrierSettings },
): Dispatcher & { readonly carrier: EventCarrier } {
  const carrier = createLogCarrier(
    { db, clock: systemClock, logger: silentLogger },
    { pollMs: 30, leaseMs: 1500, flushMs: 50, ...settings.carrier },
  );
  const dispatcher = createDispatcher(
    {
      db,
      carrier,
      clock: systemClock,
      logger: silentLogger,
      metrics: noMetrics,
      tracer: telemetry.tracer,
    },
    consumers,
    { ...quick, ...settings },
  );
  return Object.assign(dispatcher, { carrier });
}

async function readEffects(db: Database, consumer: string): Promise<readonly Effect[]> {
  const { rows } = await db.withOperator({ operator: 'system:test' }, 'effects of a test', (tx) =>
    sql<Effect>`
      select tenant_id, event_id, key, keyversion from tenant.test_effects where consumer = ${consumer}
      order by effect_id`.execute(tx),
  );
  return rows;
}

async function readStored(db: Database, consumer: string): Promise<readonly StoredRow[]> {
  const { rows } = await db.withOperator({ operator: 'system:test' }, 'stored events of a test', (tx) =>
    sql<StoredRow>`
      select tenant_id, event_id, state, attempts, total_attempts, error_code, error_message, error_stack,
        public_message, traceparent
      from tenant.event_deliveries where consumer = ${consumer} order by xid, seq`.execute(tx),
  );
  return rows;
}

/** An event as a writer makes it: `run.changed.v1` with data that no schema is asked for, unless told otherwise. */
export function anEvent(tenantId: string, fields: Partial<EncodedEvent> = {}): EncodedEvent {
  return {
    tenantId,
    eventId: newUuid(),
    type: 'test.happened.v1',
    key: newUuid(),
    keyversion: 1n,
    occurredAt: new Date(),
    data: '{}',
    ...fields,
  };
}

/** A consumer in the tenant's door whose effect is a row; `before` may throw, hang or count. */
export function recorder(
  name: string,
  before: (event: LoggedEvent, signal: AbortSignal) => Promise<void> = async () => undefined,
  fields: Partial<TenantConsumer> = {},
): TenantConsumer {
  return {
    name,
    types: ['test.happened.v1'],
    door: 'tenant',
    async handle(tx, event, signal) {
      await before(event, signal);
      await sql`
        insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
        values (${event.tenantId}, ${name}, ${event.eventId}, ${event.key}, ${event.keyversion})`.execute(tx);
    },
    ...fields,
  };
}

/** Waits until `read` answers what `isDone` takes; throws with what it answered last after 20 s, or as told. */
export async function until<T>(
  read: () => Promise<T> | T,
  isDone: (value: T) => boolean,
  what: string,
  limitMs = 20_000,
): Promise<T> {
  const deadline = performance.now() + limitMs;
  for (;;) {
    const value = await read();
    if (isDone(value)) return value;
    if (performance.now() > deadline) {
      const shown = JSON.stringify(value, (_, item: unknown) =>
        typeof item === 'bigint' ? String(item) : item,
      );
      throw new Error(`${what} did not come about: ${shown?.slice(0, 2000)}`);
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}
