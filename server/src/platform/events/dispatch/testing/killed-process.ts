/**
 * A process that handles events and kills itself in the middle of one whose key begins with `killer`, after it wrote its
 * effect. Two consumers: `killed` in the tenant's door, `killed.batches` in the system's, with hundreds of events in one
 * transaction. Whatever it does takes some milliseconds, so that much is under way at once.
 * Arguments: the database's URLs as JSON; a number that counts up from 0 with each process. Number 0 dies of nothing and
 * fails every event whose key begins with `shaky`; numbers from 100 on die of keys that begin with `relapse`, too.
 */

import { sql } from 'kysely';
import { openDatabase } from '#db';
import { createTelemetry } from '#telemetry';
import { z } from 'zod';
import type { LoggedEvent, SystemConsumer } from '../../index.ts';
import { dispatcherOn, recorder } from './arena.ts';

const urls = z
  .object({ tenant: z.string(), operator: z.string(), system: z.string() })
  .parse(JSON.parse(process.argv[2] ?? ''));
const number = Number(process.argv[3] ?? 1);
const db = await openDatabase({ adapter: 'postgres', urls });
const telemetry = await createTelemetry({
  logLevel: 'silent',
  serviceName: 'test',
  serviceVersion: '0.0.0',
  tracing: null,
});

/** Long enough that others are under way meanwhile. */
const handlingMs = 20;
const shakyMs = 300;

async function meet({ key }: LoggedEvent): Promise<void> {
  await new Promise((resolve) => {
    setTimeout(resolve, key.startsWith('shaky') ? shakyMs : handlingMs);
  });
  if (number === 0 && key.startsWith('shaky')) throw new Error('it fails at first');
  const isDeadly = key.startsWith('killer') || (number >= 100 && key.startsWith('relapse'));
  if (isDeadly) process.kill(process.pid, 'SIGKILL');
}

const single = recorder('killed', undefined, {
  isReplayable: true,
  async handle(tx, event) {
    await sql`
      insert into tenant.test_effects (tenant_id, consumer, event_id, key, keyversion)
      values (${event.tenantId}, 'killed', ${event.eventId}, ${event.key}, ${event.keyversion})`.execute(tx);
    await meet(event);
  },
});
const batches: SystemConsumer = {
  name: 'killed.batches',
  types: ['test.batched.v1'],
  door: { system: 'event-dispatch' },
  async handle(tx, events) {
    // What this job may write: the effect is a row under another consumer's name.
    await sql`insert into tenant.event_inbox (tenant_id, consumer, event_id, outcome)
      select tenant_id, 'killed.batches.effect', event_id, 'handled'
      from unnest(${events.map(({ tenantId }) => tenantId)}::uuid[], ${events.map(({ eventId }) => eventId)}::uuid[])
        as e(tenant_id, event_id)`.execute(tx);
    await Promise.all(events.map(meet));
  },
};
await dispatcherOn(db, telemetry, [single, batches], {
  leaseMs: 700,
  handlerDeadlineMs: 5000,
  retryDelaysMs: [number === 0 ? 4000 : 600],
  carrier: { leaseMs: 900, concurrency: 24 },
}).start();
