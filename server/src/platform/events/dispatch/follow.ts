import { followEvents, type LoggedEventObject } from '@stoa/contracts';
import { sql } from 'kysely';
import type { Database, OperatorHandle, SystemHandle } from '#db';
import type { JsonRoute } from '#http';
import { actingOperator, AppError, fromTypeId, toTypeId } from '#kernel';
import { logStart, readEvents } from '../event-log.sql.ts';
import { familyOf } from '../event-type.ts';
import type { EventCursor, LoggedEvent } from '../types.ts';
import { shownData } from '../shown-data.ts';
import type { RouteMakers } from './route-makers.ts';

export interface FollowDeps {
  readonly db: Database;
  readonly http: RouteMakers;
}

interface Wanted {
  readonly type: string | null;
  /** UUID text. */
  readonly tenantId: string | null;
  readonly limit: number;
}

/** How often the log is looked at while a call waits. */
const lookEveryMs = 250;
/** Events that are read for one look; a call that filters passes over many. */
const readLimit = 1000;
/** How many looks one call makes at once before it answers how far it is. */
const looksAtOnce = 20;

interface Found {
  readonly events: readonly LoggedEvent[];
  readonly cursor: EventCursor;
  readonly isAtHead: boolean;
}

/**
 * Follows the log live. Each call is one passage of the operator's door, and so one entry of the audit; the looks that it
 * makes while it waits read the log as the relay does.
 */
export function followRoutes({ db, http }: FollowDeps): JsonRoute[] {
  return [
    http.operatorRoute(followEvents, async ({ query }, principal, context) => {
      const wanted: Wanted = {
        type: query.type ?? null,
        tenantId: query.tenant_id === undefined ? null : fromTypeId('ten', query.tenant_id),
        limit: query.limit,
      };
      const by = actingOperator(principal, context, wanted.tenantId);
      let found = await db.withOperator(by, 'events.follow', async (tx) => {
        if (query.after === undefined) return look(tx, await endOfLog(tx), wanted);
        const after = cursorOf(query.after);
        await requireWithinLog(tx, after);
        return look(tx, after, wanted);
      });
      const waitsUntil = performance.now() + query.wait_seconds * 1000;
      while (found.events.length === 0 && found.isAtHead && performance.now() < waitsUntil) {
        await new Promise((resolve) => {
          setTimeout(resolve, lookEveryMs);
        });
        const { cursor } = found;
        found = await db.withSystem('relay', (tx) => look(tx, cursor, wanted));
      }
      return { status: 200, body: pageOfLog(found) };
    }),
  ];
}

async function look(tx: OperatorHandle | SystemHandle, after: EventCursor, wanted: Wanted): Promise<Found> {
  const events: LoggedEvent[] = [];
  let cursor = after;
  for (let turn = 0; turn < looksAtOnce; turn++) {
    const read = await readEvents(tx, cursor, readLimit);
    for (const event of read) {
      cursor = event.cursor;
      if (isWanted(event, wanted)) events.push(event);
      if (events.length === wanted.limit) return { events, cursor, isAtHead: false };
    }
    if (read.length < readLimit) return { events, cursor, isAtHead: true };
  }
  return { events, cursor, isAtHead: false };
}

function isWanted(event: LoggedEvent, { type, tenantId }: Wanted): boolean {
  if (tenantId !== null && event.tenantId !== tenantId) return false;
  return type === null || event.type === type || familyOf(event.type) === type;
}

/** The last event that can be read, or the start of an empty log. Backwards by events_by_cursor. */
async function endOfLog(tx: OperatorHandle): Promise<EventCursor> {
  const { rows } = await sql<{ xid: string; seq: bigint }>`
    select xid::text as xid, seq from tenant.events
    where xid < pg_snapshot_xmin(pg_current_snapshot())
    order by events.xid desc, events.seq desc limit 1
  `.execute(tx);
  const [row] = rows;
  return row === undefined ? logStart : { xid: row.xid, seq: String(row.seq) };
}

/** A place that no answer can have given would wait for years: one of a log before it was restored, mostly. */
async function requireWithinLog(tx: OperatorHandle, after: EventCursor): Promise<void> {
  const { rows } = await sql<{ is_ahead: boolean }>`
    select ${after.xid}::xid8 > pg_snapshot_xmax(pg_current_snapshot()) as is_ahead
  `.execute(tx);
  if (rows[0]?.is_ahead !== true) return;
  throw new AppError(
    'invalid_request',
    'after: lies beyond the end of the log, as a place of another log or of before a restore does. Leave it out to begin at the end.',
    { param: 'after' },
  );
}

function cursorOf(place: string): EventCursor {
  const [xid = '0', seq = '0'] = place.split('.');
  return { xid, seq };
}

const placeOf = ({ xid, seq }: EventCursor): string => `${xid}.${seq}`;

function pageOfLog({ events, cursor, isAtHead }: Found) {
  const data = events.map(shownEvent);
  return {
    object: 'list' as const,
    data,
    has_more: !isAtHead,
    first_id: data.at(0)?.place ?? null,
    last_id: placeOf(cursor),
  };
}

function shownEvent(event: LoggedEvent): LoggedEventObject {
  return {
    id: event.eventId,
    object: 'event',
    place: placeOf(event.cursor),
    tenant_id: toTypeId('ten', event.tenantId),
    type: event.type,
    key: event.key,
    keyversion: Number(event.keyversion),
    occurred_at: event.occurredAt.toISOString(),
    causation: event.causation,
    traceparent: event.traceparent,
    data: shownData(event.type, event.data),
  };
}
