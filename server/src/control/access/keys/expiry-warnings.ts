import type { Database } from '#db';
import { appendEvents, type TypedEvent } from '#events';
import { type Clock, newUuid } from '#kernel';
import { type ExpiringKeyRow, takeExpiringKeys } from './expiry-warnings.sql.ts';

/**
 * Warns of keys that expire soon, 14, 7 and 1 days ahead, once each, by `security.alerted.v1` with the alert
 * `key_expiring`. Why not by `control.changed.v1`: nothing changed, and an event with the version that the key already had
 * would be dropped by everybody who keeps the newest version of a key.
 *
 * A key hears only of the nearest of the three that is due, and of none that lies before it was made: a key for three days
 * is not warned of on its first. A new end of the key starts its warnings anew. The mark and the event are written in one
 * transaction and the row is locked, so that any number of processes at any time tell each warning once.
 */
const warningDays = [1, 7, 14] as const;

const keysPerTransaction = 500;
const dayMs = 24 * 60 * 60 * 1000;

/** Tells what is due; answers how many warnings that were. */
export async function warnOfExpiringKeys({
  db,
  clock,
}: {
  db: Pick<Database, 'withSystem'>;
  clock: Clock;
}): Promise<number> {
  let told = 0;
  for (;;) {
    const now = new Date(clock.now());
    const count = await db.withSystem('key-expiry', async (tx) => {
      const keys = await takeExpiringKeys(tx, { now, days: warningDays, limit: keysPerTransaction });
      await appendEvents(
        tx,
        keys.map((key) => warningTold(key, now)),
      );
      return keys.length;
    });
    told += count;
    if (count < keysPerTransaction) return told;
  }
}

function warningTold(key: ExpiringKeyRow, now: Date): TypedEvent {
  const expiresAt = key.expires_at.toISOString();
  const left = Math.ceil((key.expires_at.getTime() - now.getTime()) / dayMs);
  return {
    tenantId: key.tenant_id,
    eventId: newUuid(),
    type: 'security.alerted.v1',
    keyversion: key.alerts,
    occurredAt: now,
    data: {
      alert: 'key_expiring',
      severity: severityOf(key.days),
      principal_kind: 'key',
      principal_id: key.key_id,
      summary: `The API key ${key.key_id} stops working at ${expiresAt}, within ${left === 1 ? 'a day' : `${left} days`}. Rotate it, or give it a later end.`,
      count: 1,
      first_seen_at: now.toISOString(),
      last_seen_at: now.toISOString(),
      request_id: null,
      remote_address: null,
      expires_at: expiresAt,
    },
  };
}

function severityOf(days: number): 'low' | 'medium' | 'high' {
  if (days <= 1) return 'high';
  return days <= 7 ? 'medium' : 'low';
}
