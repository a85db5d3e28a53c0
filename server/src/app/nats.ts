import { createNatsEvents, type NatsEvents } from '#events';
import { giveLeaseBack, takeLease } from '#jobs';
import { systemClock } from '#kernel';
import type { ComposeInput } from './compose.ts';
import { roleTable } from './roles.ts';

/** Nothing reaches the consumers while no process leads the relay, so its lease is a short one. */
const relayLeaseMs = 15_000;

/** The carrier over NATS, and the relay where tasks run; null where no server is set, and the log itself is read. */
export function composeNats({
  settings,
  db,
  telemetry,
  roles,
}: Pick<ComposeInput, 'settings' | 'db' | 'telemetry' | 'roles'>): NatsEvents | null {
  if (settings.natsUrl === null) return null;
  const { logger, metrics } = telemetry;
  return createNatsEvents(
    {
      db,
      clock: systemClock,
      logger,
      metrics,
      isRelay: roles.names.some((name) => roleTable[name].runsTasks),
      leases: {
        take: (name, holder, durationMs) =>
          db.withSystem('leases', (tx) => takeLease(tx, name, holder, durationMs)),
        giveBack: (name, holder) => db.withSystem('leases', (tx) => giveLeaseBack(tx, name, holder)),
      },
    },
    {
      url: settings.natsUrl,
      stream: settings.natsStream,
      subject: settings.natsSubject,
      maxAgeDays: settings.natsMaxAgeDays,
      maxBytes: settings.natsMaxBytes,
      replicas: settings.natsReplicas,
    },
    { leaseMs: Math.min(settings.leaseMs, relayLeaseMs) },
  );
}
