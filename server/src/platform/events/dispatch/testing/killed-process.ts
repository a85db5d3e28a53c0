/**
 * A process that handles events and kills itself in the middle of one whose key is `killer`, after it wrote its effect.
 * Arguments: the database's URLs as JSON.
 */

import { sql } from 'kysely';
import { openDatabase } from '#db';
import { createTelemetry } from '#telemetry';
import { z } from 'zod';
import { dispatcherOn, recorder } from './arena.ts';

const urls = z
  .object({ tenant: z.string(), operator: z.string(), system: z.string() })
  .parse(JSON.parse(process.argv[2] ?? ''));
const db = await openDatabase({ adapter: 'postgres', urls });
const telemetry = await createTelemetry({
  logLevel: 'silent',
  serviceName: 'test',
  serviceVersion: '0.0.0',
  tracing: null,
});
const consumer = recorder('killed', undefined, {
  async handle(tx, event) {
    await sql`
      insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
      values (${event.tenantId}, 'killed', ${event.eventId}, ${event.key}, ${event.keyversion})`.execute(tx);
    if (event.key === 'killer') process.kill(process.pid, 'SIGKILL');
  },
});
await dispatcherOn(db, telemetry, [consumer], { leaseMs: 700, carrier: { leaseMs: 900 } }).start();
