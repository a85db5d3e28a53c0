import {
  type WebhookAttempt,
  type WebhookDelivery,
  type WebhookDeliveryInFull,
  webhookAttempt,
  type WebhookObject,
} from '@stoa/contracts';
import { AppError, fromTypeId, toTypeId } from '#kernel';
import { z } from 'zod';
import type { DeliveryRow } from './deliveries.sql.ts';
import type { EndpointRow } from './webhooks.sql.ts';

/** A webhook as the wire shows it; without any secret. */
export function webhookObject(row: EndpointRow, now: Date): WebhookObject {
  const isOverlapping = row.previous_until !== null && row.previous_until > now;
  return {
    id: toTypeId('whe', row.endpoint_id),
    object: 'webhook',
    url: row.url,
    description: row.description,
    event_types: [...row.event_types],
    enabled: row.disabled_reason === null,
    disabled_reason: row.disabled_reason,
    signature: row.signature,
    public_key: row.public_key,
    previous_secret_until: isOverlapping ? (row.previous_until?.toISOString() ?? null) : null,
    failing_since: row.failing_since?.toISOString() ?? null,
    version: Number(row.version),
    created_at: row.created_at.toISOString(),
    updated_at: row.changed_at.toISOString(),
  };
}

const attemptLog = z.array(webhookAttempt);

/** The attempts of a delivery, oldest first. */
export function attemptsOf(row: DeliveryRow): readonly WebhookAttempt[] {
  return attemptLog.parse(JSON.parse(row.attempt_log));
}

export function deliveryObject(row: DeliveryRow): WebhookDelivery {
  return {
    id: toTypeId('whd', row.delivery_id),
    object: 'webhook_delivery',
    webhook_id: toTypeId('whe', row.endpoint_id),
    event_id: toTypeId('evt', row.event_id),
    event_type: row.event_type,
    state: row.state,
    attempts: row.attempts,
    next_attempt_at: row.next_attempt_at?.toISOString() ?? null,
    last_attempt: attemptsOf(row).at(-1) ?? null,
    created_at: row.created_at.toISOString(),
    delivered_at: row.delivered_at?.toISOString() ?? null,
  };
}

export function deliveryInFull(row: DeliveryRow): WebhookDeliveryInFull {
  return { ...deliveryObject(row), attempt_log: [...attemptsOf(row)], payload: row.payload };
}

/** UUIDs of what a call names; the edge has checked their form. */
export function endpointIdOf(id: string): string {
  return uuidOf('whe', id) ?? unknownWebhook();
}

export function deliveryIdOf(id: string): string {
  return uuidOf('whd', id) ?? unknownDelivery();
}

/** The id that a page of a list is to follow. */
export function placeOf(prefix: 'whe' | 'whd', after: string): string {
  return uuidOf(prefix, after) ?? noSuchPlace(prefix);
}

export function noSuchPlace(prefix: 'whe' | 'whd'): never {
  const item = prefix === 'whe' ? 'webhook' : 'delivery';
  const message = `after: must be the id of a ${item} of the list.`;
  throw new AppError('invalid_request', message, { param: 'after' });
}

function uuidOf(prefix: 'whe' | 'whd', id: string): string | null {
  return fromTypeId(prefix, id);
}

export function unknownWebhook(): never {
  throw new AppError('not_found', 'There is no such webhook.');
}

export function unknownDelivery(): never {
  throw new AppError('not_found', 'There is no such delivery.');
}
