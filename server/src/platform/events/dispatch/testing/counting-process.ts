/**
 * A process that writes a row for every event that it handles, until it gets SIGTERM: what the failure tests hold against
 * the log. Two of them share the partitions, over NATS where a URL is given, else over the log.
 * Arguments: the database's URLs as JSON; the URL of NATS, or nothing; how long its leases last, in ms.
 */

import { sql } from 'kysely';
import { z } from 'zod';
import { openDatabase } from '#db';
import { systemClock } from '#kernel';
import { createTelemetry } from '#telemetry';
import {
  createDispatcher,
  createEventLog,
  createLogCarrier,
  createNatsEvents,
  type EventCarrier,
  type TenantConsumer,
} from '../../index.ts';

const [urlsText = '', natsUrl = '', leaseText = '30000'] = process.argv.slice(2);
const urls = z
  .object({ tenant: z.string(), operator: z.string(), system: z.string() })
  .parse(JSON.parse(urlsText));
const leaseMs = Number(leaseText);
const db = await openDatabase({ adapter: 'postgres', urls });
const { logger, metrics, tracer, stop } = await createTelemetry({
  logLevel: 'warn',
  serviceName: 'failure-counter',
  serviceVersion: '0.0.0',
  tracing: null,
});

const counter: TenantConsumer = {
  name: 'failure.counter',
  types: ['request.completed.v1', 'control.changed.v1'],
  door: 'tenant',
  async handle(tx, event) {
    await sql`
      insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
      values (${event.tenantId}, 'failure.counter', ${event.eventId}, ${event.key}, ${event.keyversion})`.execute(
      tx,
    );
  },
};

const clock = systemClock;
const log = createEventLog(
  { db, clock, logger, metrics },
  { wake: { listenUrl: urls.system }, horizon: { limitMs: 60_000 }, days: 7 },
);
const nats =
  natsUrl === ''
    ? null
    : createNatsEvents(
        {
          db,
          clock,
          logger,
          metrics,
          isRelay: false,
          leases: { take: () => Promise.resolve(null), giveBack: () => Promise.resolve() },
        },
        {
          url: natsUrl,
          stream: 'STOA_EVENTS',
          subject: 'stoa.ev',
          maxAgeDays: 7,
          maxBytes: 4 * 2 ** 30,
          replicas: 1,
        },
      );
const carrier: EventCarrier =
  nats?.carrier ?? createLogCarrier({ db, clock, logger }, { leaseMs: Math.min(leaseMs, 15_000) });
const dispatcher = createDispatcher({ db, carrier, clock, logger, metrics, tracer }, [counter], { leaseMs });
log.wakeUps.onWake(() => carrier.wake());
await log.lifecycle.start();
await nats?.lifecycle.start();
await dispatcher.start();

process.once('SIGTERM', () => {
  const end = async (): Promise<void> => {
    await dispatcher.stop();
    await nats?.lifecycle.stop();
    await log.lifecycle.stop();
    await db.close();
    await stop();
  };
  end().catch((error: unknown) => logger.error({ err: error }, 'the counter did not stop cleanly'));
});
