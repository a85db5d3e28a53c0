import { eventDeclaration, isEventType } from '@stoa/contracts';
import { familyOf } from '../event-type.ts';
import type { EventConsumer, LoggedEvent } from '../types.ts';
import { UnreadableEvent } from './failure.ts';

/**
 * Holds an event to what its consumer was written for: a type and version that it lists, and data that fits the schema of
 * the type where contracts has one.
 * @throws UnreadableEvent `event_version_unknown` or `event_invalid`
 */
export function requireReadable(consumer: EventConsumer, event: LoggedEvent): void {
  if (!consumer.types.includes(event.type)) {
    const known = consumer.types.filter((type) => familyOf(type) === familyOf(event.type)).join(', ');
    throw new UnreadableEvent(
      'event_version_unknown',
      `The consumer knows ${known === '' ? 'nothing of this type' : known}, not ${event.type}.`,
    );
  }
  if (!isEventType(event.type)) return;
  const result = eventDeclaration(event.type).schema.safeParse(parsed(event.data));
  if (result.success) return;
  const [issue] = result.error.issues;
  const path = ['data', ...(issue?.path ?? []).map(String)].join('.');
  throw new UnreadableEvent('event_invalid', `${path}: ${issue?.message ?? 'it does not fit'}`);
}

function parsed(data: string): unknown {
  try {
    const value: unknown = JSON.parse(data);
    return value;
  } catch {
    throw new UnreadableEvent('event_invalid', 'data: it is no JSON');
  }
}
