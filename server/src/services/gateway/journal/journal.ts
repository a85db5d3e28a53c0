/**
 * The journal: how no usage is lost or counted twice through `kill -9`.
 *
 * The problem. A request's usage is known when its answer ends. A database transaction for each request costs more than
 * the request, and a counter in memory dies with the process.
 *
 * The approach. Each process appends to files of its own, in two steps. `open` writes an O line before the provider is
 * called; `settle` writes an S line, the whole record, before the answer's end goes out. Each is one write(2) of one line
 * on an O_APPEND file: what the kernel took survives any death of the process. Nothing is fsynced: power loss or a crash
 * of the machine can lose what the kernel had not written yet. The records wait in memory, too; settlement takes them
 * from there in batches, and after its commit `confirm` advances the checkpoint (a C line) and deletes the segments that
 * hold nothing needed any more. So the files are read only by recovery, at the next start.
 *
 * States of a request:  (none) --open--> open --settle--> pending --confirm--> gone
 * A request that was refused before a call goes from (none) to pending. After a death, recovery ships the S lines behind
 * the checkpoint, and turns each O without an S into a record that says `process_interrupted`. Everything that ships is
 * idempotent on (tenant, request), so what was shipped but not checkpointed changes nothing.
 *
 * Segments. A file is closed at 64 MiB and deleted once its S lines are shipped and its requests are over. A long request
 * would pin its file, and with it all of the traffic beside it; so the O lines of requests that still run are written
 * again to the active file (at a segment's end only), and the old file goes. An O line may therefore occur twice.
 *
 * Bounds. Memory: `maxPending` requests open or pending; over it `open` refuses. Disk: at `maxBytes` of unshipped files,
 * or when the disk takes nothing more, new requests are no longer journaled: they go on as long as the database answers,
 * and their `settle` waits for its commit (commit mode); with the database away too, `open` refuses before any money is
 * spent. What was opened may always settle. Time: a commit is waited for at most `commitWaitMs`; after that the answer
 * ends and is counted as unconfirmed: well where the file has its record, else with `metering_unavailable`, since what is
 * in memory alone dies with the process. It is written to the file as soon as the disk takes lines again.
 *
 * Two processes never share a file: its name carries the writer's start time, process id and random digits.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RequestCompletedV1 } from '@stoa/contracts';
import { AppError, type Clock, type Logger, type RequestId, type TenantId } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { type JournalFiles, localFiles } from './journal-files.ts';
import { openedJson } from './journal-line.ts';
import { journalMetrics } from './journal-metrics.ts';
import { type LinePlace, type Segment, Segments } from './journal-segments.ts';
import type { Journal, OpenedEntry } from '../types.ts';

export interface JournalDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: MetricRegistry;
  /** Default: the local file system. */
  readonly files?: JournalFiles;
}

export interface JournalSettings {
  /** Folder of the segments; made where it is missing. The caller holds the lock of the data directory around it. */
  readonly directory: string;
  /** Bytes on disk beyond which no request is opened in the journal any more. Default 1 GiB; at least two segments. */
  readonly maxBytes?: number;
  /** Size at which a segment is closed and the next begun. Default 64 MiB. */
  readonly segmentBytes?: number;
  /** Requests open or not shipped that are held in memory at most. Default 100,000. */
  readonly maxPending?: number;
  /** `commit`: `settle` resolves only when the database has the record. Default `journal`. */
  readonly durability?: 'journal' | 'commit';
  /** How long `settle` waits for the database in commit mode before it gives up waiting. Milliseconds, default 10,000. */
  readonly commitWaitMs?: number;
}

/** A settled record on its way to the database. */
export interface PendingRecord {
  readonly requestId: string;
  /** The record as JSON, encoded once. */
  readonly json: string;
}

/** What settlement sees of the journal, beside what the request path sees. */
export interface JournalStore extends Journal {
  /** The oldest records not shipped yet, at most `maxRecords` and (but for one) `maxCharacters`. They stay until `confirm`. */
  take(maxRecords: number, maxCharacters: number): readonly PendingRecord[];
  /** The database has these (or they were rejected): forgets them, advances the checkpoint, deletes what is all shipped. */
  confirm(records: readonly PendingRecord[]): void;
  /** Settlement reports whether the database took its last batch; with a full disk this decides about new requests. */
  setDatabaseReachable(isReachable: boolean): void;
  /** Called when a record arrives in an empty queue, and when the 1,000th waits. One listener, which must not throw. */
  onPending(listener: () => void): void;
  /** Appends what can never be shipped to `rejected-<writer>.jsonl`. Throws where even that can't be written. */
  reject(record: PendingRecord, reason: string): void;
  /** Records settled since the start, and how many of them were confirmed; the queue is first in, first out. */
  readonly settledCount: number;
  readonly confirmedCount: number;
  readonly directory: string;
  /** Of this process; recovery leaves its segments alone. */
  readonly writerId: string;
  /** Writes nothing more; deletes the segments where everything is shipped, leaves them for recovery otherwise. */
  close(): void;
}

/** Records that make a whole batch: as many make settlement ship at once. */
export const batchRecords = 1000;

interface Waiting extends PendingRecord {
  readonly tenantId: string;
  readonly place: LinePlace | null;
  /** Where it was written later, out of its turn: keeps its segment, and moves no checkpoint. */
  copy: LinePlace | null;
  /** Ends the wait of commit mode. */
  confirmed: (() => void) | null;
}

interface Opened {
  segment: Segment | null;
  readonly entry: OpenedEntry;
}

function meteringUnavailable(): AppError {
  return new AppError(
    'metering_unavailable',
    'Usage cannot be recorded at the moment, so no call was made.',
    {
      retryAfterMs: 1000,
    },
  );
}

/** The call was made, so a client must not try again by itself. */
function unrecorded(): AppError {
  const message = 'The usage of this request could not be recorded in time, so its answer is not complete.';
  return new AppError('metering_unavailable', message, { retryAfterMs: 1000, wasMoneySpent: true });
}

function newWriterId(clock: Clock): string {
  return `${String(Math.trunc(clock.now())).padStart(13, '0')}-${process.pid}-${randomBytes(4).toString('hex')}`;
}

class SegmentedJournal implements JournalStore {
  readonly directory: string;
  readonly writerId: string;
  readonly #deps: JournalDeps;
  readonly #files: JournalFiles;
  readonly #segments: Segments;
  readonly #metrics: ReturnType<typeof journalMetrics>;
  readonly #maxBytes: number;
  readonly #maxPending: number;
  readonly #isAlwaysCommitting: boolean;
  readonly #commitWaitMs: number;
  readonly #opened = new Map<string, Opened>();
  readonly #pending = new Map<string, Waiting>();
  /** Those of the pending that no file has. */
  readonly #unwritten = new Set<Waiting>();
  #listener: () => void = () => undefined;
  #settledCount = 0;
  #confirmedCount = 0;
  #isDatabaseReachable = true;
  #isClosed = false;

  constructor(deps: JournalDeps, settings: JournalSettings) {
    const segmentBytes = settings.segmentBytes ?? 64 * 1024 * 1024;
    this.#deps = deps;
    this.#files = deps.files ?? localFiles;
    this.#maxBytes = Math.max(settings.maxBytes ?? 1024 ** 3, 2 * segmentBytes);
    this.#maxPending = settings.maxPending ?? 100_000;
    this.#isAlwaysCommitting = settings.durability === 'commit';
    this.#commitWaitMs = settings.commitWaitMs ?? 10_000;
    this.directory = settings.directory;
    this.writerId = newWriterId(deps.clock);
    this.#metrics = journalMetrics(deps.metrics);
    this.#segments = new Segments(
      { clock: deps.clock, logger: deps.logger, files: this.#files },
      { directory: settings.directory, writerId: this.writerId, segmentBytes },
    );
    mkdirSync(settings.directory, { recursive: true, mode: 0o700 });
    this.#segments.start();
    this.#metrics.observe({
      depth: () => this.#pending.size,
      openCount: () => this.#opened.size,
      bytes: () => this.#segments.totalBytes,
    });
  }

  get depth(): number {
    return this.#pending.size;
  }

  get settledCount(): number {
    return this.#settledCount;
  }

  get confirmedCount(): number {
    return this.#confirmedCount;
  }

  open(entry: OpenedEntry): void {
    if (this.#isClosed || this.#opened.size + this.#pending.size >= this.#maxPending) throw this.#refusal();
    if (this.#opened.has(entry.requestId)) throw new Error(`request ${entry.requestId} was opened twice`);
    const isFull = this.#segments.totalBytes >= this.#maxBytes;
    const place = isFull ? null : this.#append('O', entry.requestId, openedJson(entry));
    if (place === null && !this.#isDatabaseReachable) throw this.#refusal();
    if (place !== null) {
      place.segment.openCount += 1;
      this.#writeLate();
    }
    this.#opened.set(entry.requestId, { segment: place?.segment ?? null, entry });
  }

  settle(record: RequestCompletedV1): void | Promise<void> {
    const requestId = record.request_id;
    if (this.#pending.has(requestId)) throw new Error(`request ${requestId} was settled twice`);
    const opened = this.#opened.get(requestId);
    if (opened === undefined && this.#isOverBounds()) {
      this.#metrics.droppedRefusals.add(1);
      return undefined;
    }
    const json = JSON.stringify(record);
    const place = this.#isClosed ? null : this.#append('S', requestId, json);
    if (place !== null) place.segment.unshippedCount += 1;
    if (opened !== undefined) {
      this.#opened.delete(requestId);
      if (opened.segment !== null) this.#endIn(opened.segment);
    }
    const waiting: Waiting = {
      requestId,
      tenantId: record.tenant_id,
      json,
      place,
      copy: null,
      confirmed: null,
    };
    this.#pending.set(requestId, waiting);
    if (place === null) this.#unwritten.add(waiting);
    else this.#writeLate();
    this.#settledCount += 1;
    if (this.#pending.size === 1 || this.#pending.size === batchRecords) this.#listener();
    // Nothing was spent for a request that was never opened, so nobody waits for its record on a full disk.
    const isAtRisk = place === null && opened !== undefined;
    return this.#isAlwaysCommitting || isAtRisk ? this.#commitOf(waiting) : undefined;
  }

  pending(tenantId: TenantId, requestId: RequestId): RequestCompletedV1 | null {
    const waiting = this.#pending.get(requestId);
    return waiting === undefined || waiting.tenantId !== tenantId ? null : parseRecord(waiting.json);
  }

  pendingOf(tenantId: TenantId): readonly RequestCompletedV1[] {
    const records: RequestCompletedV1[] = [];
    for (const waiting of this.#pending.values()) {
      if (waiting.tenantId === tenantId) records.push(parseRecord(waiting.json));
    }
    return records;
  }

  take(maxRecords: number, maxCharacters: number): readonly PendingRecord[] {
    const records: PendingRecord[] = [];
    let characters = 0;
    for (const waiting of this.#pending.values()) {
      characters += waiting.json.length;
      if (records.length > 0 && (records.length >= maxRecords || characters > maxCharacters)) break;
      records.push(waiting);
    }
    return records;
  }

  confirm(records: readonly PendingRecord[]): void {
    let last: LinePlace | null = null;
    for (const { requestId } of records) {
      const waiting = this.#pending.get(requestId);
      if (waiting === undefined) continue;
      this.#pending.delete(requestId);
      this.#confirmedCount += 1;
      waiting.confirmed?.();
      this.#unwritten.delete(waiting);
      if (waiting.copy !== null) waiting.copy.segment.unshippedCount -= 1;
      if (waiting.place === null) continue;
      waiting.place.segment.unshippedCount -= 1;
      last = waiting.place;
    }
    if (last !== null && !this.#isClosed) this.#append('C', String(last.segment.number), String(last.end));
    for (const segment of this.#segments.closed) {
      if (segment.unshippedCount === 0 && segment.openCount > 0) this.#moveOpened(segment);
      this.#segments.removeIfDone(segment);
    }
  }

  setDatabaseReachable(isReachable: boolean): void {
    this.#isDatabaseReachable = isReachable;
  }

  onPending(listener: () => void): void {
    this.#listener = listener;
  }

  reject(record: PendingRecord, reason: string): void {
    const line = Buffer.from(`{"reason":${JSON.stringify(reason)},"record":${record.json}}\n`);
    const file = this.#files.append(join(this.directory, `rejected-${this.writerId}.jsonl`));
    try {
      const written = this.#files.write(file, line, line.length);
      if (written !== line.length) throw new Error('the disk took only a part of a rejected record');
    } finally {
      this.#files.close(file);
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#segments.close();
    for (const segment of this.#segments.closed) this.#segments.removeIfDone(segment);
  }

  #append(type: 'O' | 'S' | 'C', first: string, second: string): LinePlace | null {
    const failures = this.#segments.failures;
    const place = this.#segments.append(type, first, second);
    if (this.#segments.failures !== failures)
      this.#metrics.writeFailures.add(this.#segments.failures - failures);
    return place;
  }

  #isOverBounds(): boolean {
    return (
      this.#opened.size + this.#pending.size >= this.#maxPending ||
      this.#segments.totalBytes >= this.#maxBytes
    );
  }

  #refusal(): AppError {
    this.#metrics.refusals.add(1);
    return meteringUnavailable();
  }

  #endIn(segment: Segment): void {
    segment.openCount -= 1;
    this.#segments.removeIfDone(segment);
  }

  /** Puts into the file what the disk did not take when it was settled. */
  #writeLate(): void {
    if (this.#unwritten.size === 0) return;
    for (const waiting of this.#unwritten) {
      const copy = this.#append('S', waiting.requestId, waiting.json);
      if (copy === null) return;
      copy.segment.unshippedCount += 1;
      waiting.copy = copy;
      this.#unwritten.delete(waiting);
    }
  }

  /** Writes the O lines of a closed segment's running requests again, so that the segment can go. */
  #moveOpened(segment: Segment): void {
    for (const [requestId, opened] of this.#opened) {
      if (opened.segment !== segment) continue;
      const place = this.#append('O', requestId, openedJson(opened.entry));
      if (place === null) return;
      place.segment.openCount += 1;
      opened.segment = place.segment;
      segment.openCount -= 1;
    }
  }

  #commitOf(waiting: Waiting): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#metrics.unconfirmed.add(1);
        this.#deps.logger.error(
          { requestId: waiting.requestId },
          'an answer ends without its record being confirmed',
        );
        if (this.#unwritten.has(waiting)) reject(unrecorded());
        else resolve();
      }, this.#commitWaitMs);
      waiting.confirmed = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** What `settle` encoded itself, so it is not checked again: a tenth of the time of the schema. */
function parseRecord(json: string): RequestCompletedV1;
function parseRecord(json: string): unknown {
  const value: unknown = JSON.parse(json);
  return value;
}

/**
 * Opens the journal of this process in `settings.directory`.
 * @throws the file system's error where the folder can't be made or written
 */
export function createJournal(deps: JournalDeps, settings: JournalSettings): JournalStore {
  return new SegmentedJournal(deps, settings);
}
