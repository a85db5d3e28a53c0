import type { Database } from '#db';
import { appendEvents } from '#events';
import type { Logger } from '#kernel';
import type { Counter } from '#telemetry';
import { endpointTold } from './endpoints.ts';
import { webhookObject } from './objects.ts';
import { disableEndpoint } from './rounds.sql.ts';
import { type EndpointRow, lockEndpoint } from './webhooks.sql.ts';

export interface DisableDeps {
  readonly db: Pick<Database, 'withSystem'>;
  readonly logger: Logger;
  readonly disabled: Counter;
}

/**
 * Disables an endpoint that is gone or fails for days, and tells its tenant by an event and in the audit. One that has
 * moved since goes on: what the old address answered says nothing of the new.
 */
export async function disable(
  { db, logger, disabled }: DisableDeps,
  { tenant_id: tenantId, endpoint_id: endpointId, url }: EndpointRow,
  reason: 'gone' | 'failing',
): Promise<void> {
  const changed = await db.withSystem('webhook-disable', async (tx) => {
    const found = await lockEndpoint(tx, tenantId, endpointId);
    if (found === undefined || found.disabled_reason !== null || found.url !== url) return null;
    const row = await disableEndpoint(tx, tenantId, endpointId, reason);
    await appendEvents(tx, [endpointTold(found, row, 'suspended', 'system')]);
    const shown = webhookObject(row, row.changed_at);
    await tx.audit({
      action: 'webhooks.disable',
      resource: { type: 'webhook', id: shown.id },
      before: webhookObject(found, found.changed_at),
      after: shown,
      tenantId,
    });
    return row;
  });
  if (changed === null) return;
  disabled.add(1, { reason });
  logger.warn({ tenantId, endpointId, reason }, 'a webhook was disabled');
}
