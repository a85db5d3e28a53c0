import type { EventCursor } from '../types.ts';

/** Compares decimal digits without leading zeros as numbers. */
function compareDigits(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Below 0 where `a` is before `b` in the log, above where it is behind, 0 where they are the same. */
export function compareCursors(a: EventCursor, b: EventCursor): number {
  const byTransaction = compareDigits(a.xid, b.xid);
  return byTransaction === 0 ? compareDigits(a.seq, b.seq) : byTransaction;
}

/** The one that is first in the log; null where there is none. */
export function leastOf(cursors: readonly EventCursor[]): EventCursor | null {
  let least: EventCursor | null = null;
  for (const cursor of cursors) if (least === null || compareCursors(cursor, least) < 0) least = cursor;
  return least;
}
