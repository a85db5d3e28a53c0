import { randomFillSync } from 'node:crypto';

/** Random bytes are drawn 4 KiB at a time: one call to the system for 256 traces. */
const pool = Buffer.alloc(4096);
let used = pool.length;

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const text = pool.toString('hex', used, used + bytes);
  used += bytes;
  return /^0+$/.test(text) ? randomHex(bytes) : text;
}

/** 32 hex digits, never all zero (W3C Trace Context, section 3.2.2.3). */
export function newTraceId(): string {
  return randomHex(16);
}

/** 16 hex digits, never all zero. */
export function newSpanId(): string {
  return randomHex(8);
}

export interface RemoteContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
}

const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** A caller's `traceparent`, or null where it is not valid. Later versions are read by the rules of version 00. */
export function parseTraceparent(text: string): RemoteContext | null {
  const match = text.length <= 256 ? pattern.exec(text) : null;
  if (!match) return null;
  const [, version = '', traceId = '', spanId = '', flags = ''] = match;
  if (version === 'ff' || (version === '00' && text.length !== 55)) return null;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) };
}
