import type { EventCursor } from '../types.ts';

function compareDigits(left: string, right: string): number {
  if (left.length !== right.length) return left.length - right.length;
  if (left === right) return 0;
  return left < right ? -1 : 1;
}

/** Below zero where `left` comes first in the log, zero where they are the same place. */
export function compareCursors(left: EventCursor, right: EventCursor): number {
  return compareDigits(left.xid, right.xid) || compareDigits(left.seq, right.seq);
}

export function isAfter(left: EventCursor, right: EventCursor): boolean {
  return compareCursors(left, right) > 0;
}

export function laterOf(left: EventCursor, right: EventCursor): EventCursor {
  return isAfter(right, left) ? right : left;
}

export function earlierOf(left: EventCursor, right: EventCursor): EventCursor {
  return isAfter(left, right) ? right : left;
}

export function writeCursor({ xid, seq }: EventCursor): string {
  return `${xid}.${seq}`;
}

/** Null where the text is no cursor. */
export function readCursor(text: string): EventCursor | null {
  const match = /^(0|[1-9]\d{0,19})\.(0|[1-9]\d{0,18})$/.exec(text);
  const [, xid, seq] = match ?? [];
  return xid === undefined || seq === undefined ? null : { xid, seq };
}
