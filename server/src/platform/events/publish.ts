import { eventDeclaration, type EventType, isEventType } from '@stoa/contracts';
import type { z } from 'zod';
import { AppError } from '#kernel';
import { insertEvents } from './event-log.sql.ts';
import type { EncodedEvent, NewEvent, TypedEvent } from './types.ts';
import { type AnyHandle, noteWriter } from './writers.ts';

/**
 * Writes events in the transaction of the change that they tell. The caller takes each `keyversion` under the row lock
 * of what changed, and writes each event once.
 *
 * An event with `data` as an object is held to the schema of its type: a field that is missing, of another type, or not
 * in the schema at all is refused with `event_refused`, whose `param` is the path of the fault (`data.step.attempt`), and
 * none of the events is written. One with `data` as text is the writer's own responsibility.
 */
export async function appendEvents(tx: AnyHandle, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  const encoded = events.map(encodeEvent);
  noteWriter(tx);
  await insertEvents(tx, encoded);
}

/** The event as the log holds it: its data checked and written as JSON, its key taken from the data. */
function encodeEvent(event: NewEvent): EncodedEvent {
  if (!isTyped(event)) return event;
  const { type, data, ...rest } = event;
  if (!isEventType(type)) throw refused(type, 'type', 'there is no event of this type');
  const checked = checkData(type, data);
  return { ...rest, type, key: eventDeclaration(type).key(checked), data: JSON.stringify(checked) };
}

function isTyped(event: NewEvent): event is TypedEvent {
  return typeof event.data !== 'string';
}

/** The data as the schema makes it, defaults filled in. */
function checkData(type: EventType, data: unknown): unknown {
  const result = eventDeclaration(type).schema.safeParse(data);
  if (!result.success) {
    const [issue] = result.error.issues;
    throw refused(type, pathOf(issue?.path ?? []), issue?.message ?? 'it does not fit', result.error);
  }
  const lost = firstLost(data, result.data, []);
  if (lost !== null) throw refused(type, pathOf(lost), 'the schema has no such field');
  return result.data;
}

/**
 * The path of the first field that the schema dropped, or null. Readers drop what they don't know; a writer that sends
 * such a field has misspelt one, and its readers would wait for it in vain.
 */
function firstLost(given: unknown, kept: unknown, path: readonly PropertyKey[]): PropertyKey[] | null {
  if (typeof given !== 'object' || given === null) return null;
  if (typeof kept !== 'object' || kept === null) return [...path];
  const keptFields = new Map(Object.entries<unknown>({ ...kept }));
  for (const [name, value] of Object.entries<unknown>({ ...given })) {
    if (value === undefined) continue;
    const at = [...path, Array.isArray(given) ? Number(name) : name];
    if (!keptFields.has(name)) return at;
    const deeper = firstLost(value, keptFields.get(name), at);
    if (deeper !== null) return deeper;
  }
  return null;
}

function pathOf(path: readonly PropertyKey[]): string {
  const steps = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`));
  return `data${steps.join('')}`;
}

function refused(type: string, path: string, message: string, cause?: z.ZodError): AppError {
  return new AppError('event_refused', `${type}: ${path}: ${message}`, {
    param: path,
    details: { type },
    ...(cause === undefined ? {} : { cause }),
  });
}
