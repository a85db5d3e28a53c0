import type { Database } from '#db';
import { isSubscribed } from './public-events.ts';
import { selectSubscriptions } from './webhooks.sql.ts';

/** Who subscribes to what, of some tenants. */
export interface Subscribed {
  wants(tenantId: string, type: string): boolean;
}

/**
 * Which of these tenants have a webhook for which types, as the rows say it after this was called: never from a reading
 * that was under way before. So whoever asks about an event of the log hears of every webhook that was there when it
 * happened, whichever process made it. All who ask while a reading is under way share the next one.
 */
export type AskSubscriptions = (tenantIds: readonly string[]) => Promise<Subscribed>;

interface Question {
  readonly tenantIds: Set<string>;
  readonly answer: Promise<Subscribed>;
}

export function createSubscriptions(db: Pick<Database, 'withSystem'>): AskSubscriptions {
  let latest: Promise<unknown> = Promise.resolve();
  let next: Question | null = null;

  function ask(): Question {
    const tenantIds = new Set<string>();
    const answer = latest.then(() => {
      next = null;
      return read(db, [...tenantIds]);
    });
    // Whoever asked hears of a failure; the next question goes on.
    latest = answer.catch(() => undefined);
    return { tenantIds, answer };
  }

  return (tenantIds) => {
    next ??= ask();
    for (const tenantId of tenantIds) next.tenantIds.add(tenantId);
    return next.answer;
  };
}

async function read(db: Pick<Database, 'withSystem'>, tenantIds: readonly string[]): Promise<Subscribed> {
  const rows = await db.withSystem('webhook-fan-out', (tx) => selectSubscriptions(tx, tenantIds));
  const byTenant = Map.groupBy(rows, (row) => row.tenant_id);
  return {
    wants: (tenantId, type) =>
      byTenant.get(tenantId)?.some((row) => isSubscribed(row.event_types, type)) ?? false,
  };
}
