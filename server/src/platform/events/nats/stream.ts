/**
 * The stream: made where it is missing, changed where the settings changed, refused where it is something else. The
 * relay keeps it sorted by cursor from its first message to its last, which is what the searches here stand on.
 */

import {
  DiscardPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamInfo,
} from '@nats-io/jetstream';
import type { EventCursor } from '../types.ts';
import { isAfter, readCursor } from './cursor.ts';
import { laneFilter } from './subject.ts';

export interface StreamSettings {
  /** Name of the stream: `STOA_EVENTS`. */
  readonly stream: string;
  /** What subjects begin with: `stoa.ev`. */
  readonly subject: string;
  readonly maxAgeDays: number;
  readonly maxBytes: number;
  /** 1 to 5; more than 1 needs a NATS cluster. */
  readonly replicas: number;
}

/** The stream is there but can't carry events, or can't be made; the message is for the operator. */
export class StreamFault extends Error {
  override readonly name = 'StreamFault';
}

const dayMs = 86_400_000;
const nanosPerMs = 1_000_000;
/** How long a message id is remembered. Only a second net: the relay's chain of sequences already refuses repeats. */
const duplicateWindowMs = 120_000;

/** Says whose events a stream holds. NATS 2.9 keeps no other words of ours on a stream. */
function markOf(logId: string): string {
  return `Events of Stoa, log ${logId}`;
}

interface Limits {
  readonly subjects: string[];
  readonly max_age: number;
  readonly max_bytes: number;
  readonly num_replicas: number;
  readonly discard: DiscardPolicy;
  readonly duplicate_window: number;
}

function limitsOf(settings: StreamSettings): Limits {
  const maxAgeMs = settings.maxAgeDays * dayMs;
  return {
    subjects: [`${settings.subject}.>`],
    max_age: maxAgeMs * nanosPerMs,
    max_bytes: settings.maxBytes,
    num_replicas: settings.replicas,
    discard: DiscardPolicy.Old,
    duplicate_window: Math.min(duplicateWindowMs, maxAgeMs) * nanosPerMs,
  };
}

/** What no update can put right; null where the stream is as it must be. */
function shapeFault(settings: StreamSettings, logId: string, { config }: StreamInfo): string | null {
  if (config.description !== markOf(logId)) {
    return 'does not hold the events of this database; choose another STOA_NATS_STREAM and STOA_NATS_SUBJECT, or delete it';
  }
  const subjects = `${settings.subject}.>`;
  if (config.subjects?.join(' ') !== subjects) {
    return `holds the subjects ${config.subjects?.join(', ') ?? 'of another stream'} instead of ${subjects}`;
  }
  if (config.storage !== StorageType.File) return 'lies in memory instead of in files';
  if (config.retention !== RetentionPolicy.Limits)
    return `has the retention ${config.retention} instead of limits`;
  if (config.sealed) return 'is sealed';
  if (config.mirror !== undefined || (config.sources ?? []).length > 0) return 'is a copy of another stream';
  if (config.no_ack === true) return 'acknowledges nothing';
  if (config.max_msgs_per_subject > 0 || config.max_msgs > 0) return 'is limited by a number of messages';
  return null;
}

function isCode(error: unknown, code: number): boolean {
  return error instanceof JetStreamApiError && error.code === code;
}

/**
 * Makes the stream what the settings say. Throws `StreamFault` where that can't be done; else what the connection
 * throws. May be called any number of times, by several processes at once.
 */
export async function ensureStream(
  jsm: JetStreamManager,
  settings: StreamSettings,
  logId: string,
): Promise<StreamInfo> {
  try {
    return await settleStream(jsm, settings, logId);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.status >= 503) throw error;
    throw new StreamFault(`NATS refuses the stream ${settings.stream}: ${error.message}`, { cause: error });
  }
}

async function settleStream(
  jsm: JetStreamManager,
  settings: StreamSettings,
  logId: string,
): Promise<StreamInfo> {
  const wanted = limitsOf(settings);
  const found = await jsm.streams.info(settings.stream).catch((error: unknown) => {
    if (isCode(error, JetStreamApiCodes.StreamNotFound)) return null;
    throw error;
  });
  if (found === null) {
    const kind = { storage: StorageType.File, retention: RetentionPolicy.Limits, description: markOf(logId) };
    return jsm.streams.add({ name: settings.stream, ...kind, ...wanted });
  }
  const fault = shapeFault(settings, logId, found);
  if (fault !== null) throw new StreamFault(`The stream ${settings.stream} ${fault}.`);
  const { config } = found;
  const isSame =
    config.max_age === wanted.max_age &&
    config.max_bytes === wanted.max_bytes &&
    config.num_replicas === wanted.num_replicas &&
    config.discard === wanted.discard &&
    config.duplicate_window === wanted.duplicate_window;
  return isSame ? found : jsm.streams.update(settings.stream, { ...config, ...wanted });
}

/** A message's sequence and what its headers say of the log; null where there is none, or none of ours. */
export interface StreamPlace {
  readonly sequence: number;
  readonly cursor: EventCursor | null;
}

type Query = { readonly seq: number } | { readonly last_by_subj: string };

async function placeOf(jsm: JetStreamManager, stream: string, query: Query): Promise<StreamPlace | null> {
  const message = await jsm.streams.getMessage(stream, query).catch((error: unknown) => {
    if (isCode(error, JetStreamApiCodes.NoMessageFound)) return null;
    throw error;
  });
  if (message === null) return null;
  return { sequence: message.seq, cursor: readCursor(message.header.get('stoa-cursor')) };
}

/** The message at exactly `sequence`. */
export function placeAt(
  jsm: JetStreamManager,
  stream: string,
  sequence: number,
): Promise<StreamPlace | null> {
  return placeOf(jsm, stream, { seq: sequence });
}

export interface StreamEnd {
  /** Of the last message that the stream took, also where that is gone. */
  readonly sequence: number;
  /** Of the last message that it still has; null where it has none of ours. */
  readonly cursor: EventCursor | null;
  /** Whether messages were taken out of its middle or its end, which retention never does. */
  readonly hasHoles: boolean;
}

export async function streamEnd(jsm: JetStreamManager, stream: string): Promise<StreamEnd> {
  const { state } = await jsm.streams.info(stream);
  const sequence = state.last_seq;
  for (let at = sequence; state.messages > 0 && at >= state.first_seq; at -= 1) {
    const place = await placeAt(jsm, stream, at);
    const hasHoles = at < sequence || (state.num_deleted ?? 0) > 0;
    if (place !== null && place.cursor !== null) return { sequence, cursor: place.cursor, hasHoles };
  }
  return { sequence, cursor: null, hasHoles: true };
}

/** The last message of a lane. */
export function lastOfLane(
  jsm: JetStreamManager,
  settings: StreamSettings,
  lane: number,
): Promise<StreamPlace | null> {
  return placeOf(jsm, settings.stream, { last_by_subj: laneFilter(settings.subject, lane) });
}

/** The first message at or behind `sequence` and below `end` that is there and ours; null where there is none. */
async function nextPlace(
  jsm: JetStreamManager,
  stream: string,
  sequence: number,
  end: number,
): Promise<{ readonly sequence: number; readonly cursor: EventCursor } | null> {
  for (let at = sequence; at < end; at += 1) {
    const place = await placeAt(jsm, stream, at);
    if (place !== null && place.cursor !== null) return { sequence: at, cursor: place.cursor };
  }
  return null;
}

/** The first message that the stream has; null where it has none of ours. */
export async function firstPlace(
  jsm: JetStreamManager,
  stream: string,
): Promise<{ readonly sequence: number; readonly cursor: EventCursor } | null> {
  const { state } = await jsm.streams.info(stream);
  return state.messages === 0 ? null : nextPlace(jsm, stream, state.first_seq, state.last_seq + 1);
}

/**
 * The sequence from which on every message lies behind `after` in the log; the one behind the last where none does.
 * Some 20 requests for a million messages. A message that is missing inside the stream costs one more each.
 */
export async function sequenceBehind(
  jsm: JetStreamManager,
  stream: string,
  state: { readonly first_seq: number; readonly last_seq: number },
  after: EventCursor,
): Promise<number> {
  let low = Math.max(1, state.first_seq);
  let high = state.last_seq + 1;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const place = await nextPlace(jsm, stream, middle, high);
    if (place === null || isAfter(place.cursor, after)) high = middle;
    else low = place.sequence + 1;
  }
  return low;
}
