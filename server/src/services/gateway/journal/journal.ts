/**
 * The journal: how no usage is lost or counted twice through `kill -9`.
 *
 * The problem. A request's usage is known when its answer ends. A database transaction for each request costs more than
 * the request, and a counter in memory dies with the process.
 *
 * The approach. Each process appends to files of its own, in two steps. `open` writes an O line before the provider is
 * called; `settle` writes an S line, the whole record, before the answer's end goes out. The lines of all requests in one
 * turn of the event loop go out together, by one write(2) on an O_APPEND file, and whoever waits for a line is called
 * after it: a write for each line costs a tenth of a request under load. What the kernel took survives any death of the
 * process. Nothing is fsynced: power loss or a crash of the machine can lose what the kernel had not written yet. The
 * records wait in memory, too; settlement takes them from there in batches, and after its commit `confirm` advances the
 * checkpoint (a C line) and deletes the segments that hold nothing needed any more. So the files are read only by
 * recovery, at the next start.
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
import { AppError, type Clock, Fifo, type Logger, type RequestId, Roster, type TenantId } from '#kernel';
import type { MetricRegistry } from '#telemetry';
import { type JournalFiles, localFiles } from './journal-files.ts';
import { openedJson } from './journal-line.ts';
import { type Entry, Opened, type PendingRecord, Waiting } from './journal-entries.ts';
import { RecordBytes } from './record-bytes.ts';
import { journalMetrics } from './journal-metrics.ts';
import { type Segment, Segments } from './journal-segments.ts';
import type { Journal, OpenedEntry, OpenedRequest, Written } from '../types.ts';

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

/** What settlement sees of the journal, beside what the request path sees. */
export interface JournalStore extends Journal {
  /** The oldest records not shipped yet, at most `maxRecords` and (but for one) `maxBytes`. They stay until `confirm`. */
  take(maxRecords: number, maxBytes: number): readonly PendingRecord[];
  /**
   * The database has the `count` oldest records (or they were rejected): forgets them, advances the checkpoint, deletes
   * what is all shipped.
   */
  confirm(count: number): void;
  /** Writes at once what would be written at the end of this turn of the event loop. */
  flush(): void;
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

export type { PendingRecord } from './journal-entries.ts';

/** Records that make a whole batch: as many make settlement ship at once. */
export const batchRecords = 1000;

/** After so long without a write, a line has nobody to share its write with and goes out within its own turn. */
const quietMs = 1;

/** Lines that are written together after the disk was full; bounds the buffer. */
const lateLines = 500;

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
  readonly #opened = new Roster<Opened>();
  readonly #pending = new Fifo<Waiting>();
  readonly #bytes = new RecordBytes();
  /** Those of the pending that no file has. */
  readonly #unwritten = new Set<Waiting>();
  /** What waits for the next write, in the order of its lines. */
  #batch: (Opened | Waiting)[] = [];
  #isFlushPlanned = false;
  #flushedAtMs = Number.NEGATIVE_INFINITY;
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

  open(entry: OpenedEntry, onWritten: Written): OpenedRequest {
    if (this.#isClosed || this.#opened.size + this.#pending.size >= this.#maxPending) throw this.#refusal();
    const isFull = this.#segments.totalBytes >= this.#maxBytes;
    if (isFull && !this.#isDatabaseReachable) throw this.#refusal();
    const opened = new Opened(entry, onWritten);
    if (!isFull) opened.lineEnd = this.#segments.add('O', entry.requestId, openedJson(entry));
    opened.place = this.#opened.add(opened);
    this.#addToBatch(opened);
    return opened;
  }

  settle(record: RequestCompletedV1, opened: OpenedRequest | null, onWritten: Written): void {
    if (opened !== null && !(opened instanceof Opened)) throw new Error('opened by another journal');
    if (opened?.isSettled === true) throw new Error(`request ${record.request_id} was settled twice`);
    if (opened === null && this.#isOverBounds()) {
      this.#metrics.droppedRefusals.add(1);
      onWritten(null);
      return;
    }
    if (opened !== null) opened.isSettled = true;
    const waiting = new Waiting(record, this.#bytes, opened, onWritten);
    if (!this.#isClosed) waiting.lineEnd = this.#segments.addRecord(waiting.requestId, waiting.place);
    this.#addToBatch(waiting);
  }

  pending(tenantId: TenantId, requestId: RequestId): RequestCompletedV1 | null {
    // From the newest on: who asks for one record mostly asks for one that has just ended.
    for (let index = this.#pending.size - 1; index >= 0; index -= 1) {
      const waiting = this.#pending.at(index);
      if (waiting?.requestId !== requestId) continue;
      return waiting.tenantId === tenantId ? parseRecord(waiting.json) : null;
    }
    return null;
  }

  pendingOf(tenantId: TenantId): readonly RequestCompletedV1[] {
    const records: RequestCompletedV1[] = [];
    for (let index = 0; index < this.#pending.size; index += 1) {
      const waiting = this.#pending.at(index);
      if (waiting?.tenantId === tenantId) records.push(parseRecord(waiting.json));
    }
    return records;
  }

  take(maxRecords: number, maxBytes: number): readonly PendingRecord[] {
    const records: PendingRecord[] = [];
    let bytes = 0;
    for (let index = 0; index < Math.min(maxRecords, this.#pending.size); index += 1) {
      const waiting = this.#pending.at(index);
      if (waiting === null) break;
      bytes += waiting.place.end - waiting.place.start;
      if (records.length > 0 && bytes > maxBytes) break;
      records.push(waiting);
    }
    return records;
  }

  confirm(count: number): void {
    let last: Waiting | null = null;
    for (let left = count; left > 0; left -= 1) {
      const waiting = this.#pending.shift();
      if (waiting === null) break;
      this.#confirmedCount += 1;
      waiting.confirmed?.();
      this.#unwritten.delete(waiting);
      this.#bytes.release(waiting.place);
      if (waiting.segment === null) continue;
      waiting.segment.unshippedCount -= 1;
      if (!waiting.isLate) last = waiting;
    }
    if (last?.segment && !this.#isClosed) {
      this.#segments.add('C', String(last.segment.number), String(last.end));
      this.#planFlush();
    }
    for (const segment of this.#segments.closed) {
      if (segment.unshippedCount === 0 && segment.openCount > 0) this.#moveOpened(segment);
      this.#segments.removeIfDone(segment);
    }
  }

  flush(): void {
    const batch = this.#batch;
    this.#batch = [];
    this.#flushedAtMs = this.#deps.clock.monotonic();
    const bytes = this.#segments.addedBytes;
    const segment = this.#write();
    const start = segment === null ? 0 : segment.bytes - bytes;
    for (const entry of batch) {
      const place = entry.lineEnd === 0 ? null : segment;
      if (entry instanceof Opened) this.#finishOpening(entry, place);
      else this.#finishSettling(entry, place, start);
    }
    if (segment !== null) this.#writeLate();
    for (const entry of batch)
      if (!(entry instanceof Waiting && entry.confirmed)) this.#call(entry, entry.refusal);
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
    this.flush();
    this.#isClosed = true;
    this.#segments.close();
    for (const segment of this.#segments.closed) this.#segments.removeIfDone(segment);
  }

  #addToBatch(entry: Opened | Waiting): void {
    this.#batch.push(entry);
    this.#planFlush();
  }

  #planFlush(): void {
    if (this.#isFlushPlanned) return;
    this.#isFlushPlanned = true;
    const isQuiet = this.#deps.clock.monotonic() - this.#flushedAtMs >= quietMs;
    if (isQuiet) queueMicrotask(this.#runPlannedFlush);
    else setImmediate(this.#runPlannedFlush);
  }

  readonly #runPlannedFlush = (): void => {
    this.#isFlushPlanned = false;
    this.flush();
  };

  #write(): Segment | null {
    const failures = this.#segments.failures;
    const segment = this.#segments.write();
    if (this.#segments.failures !== failures)
      this.#metrics.writeFailures.add(this.#segments.failures - failures);
    return segment;
  }

  #finishOpening(opened: Opened, segment: Segment | null): void {
    if (segment !== null) {
      opened.segment = segment;
      segment.openCount += 1;
    } else if (!this.#isDatabaseReachable) {
      this.#leave(opened);
      opened.refusal = this.#refusal();
    }
  }

  #finishSettling(waiting: Waiting, segment: Segment | null, start: number): void {
    const { opened } = waiting;
    waiting.segment = segment;
    if (segment === null) this.#unwritten.add(waiting);
    else {
      waiting.end = start + waiting.lineEnd;
      segment.unshippedCount += 1;
    }
    if (opened !== null) this.#leave(opened);
    waiting.opened = null;
    this.#pending.push(waiting);
    this.#settledCount += 1;
    if (this.#pending.size === 1 || this.#pending.size === batchRecords) this.#listener();
    // Nothing was spent for a request that was never opened, so nobody waits for its record on a full disk.
    const isAtRisk = segment === null && opened !== null;
    if (this.#isAlwaysCommitting || isAtRisk) this.#awaitCommit(waiting);
  }

  #leave(opened: Opened): void {
    if (opened.place === null || !this.#opened.remove(opened.place)) return;
    const { segment } = opened;
    if (segment === null) return;
    segment.openCount -= 1;
    this.#segments.removeIfDone(segment);
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

  /** Puts into the file what the disk did not take when it was settled. */
  #writeLate(): void {
    while (this.#unwritten.size > 0) {
      const late: Waiting[] = [];
      for (const waiting of this.#unwritten) {
        this.#segments.addRecord(waiting.requestId, waiting.place);
        if (late.push(waiting) === lateLines) break;
      }
      const segment = this.#write();
      if (segment === null) return;
      segment.unshippedCount += late.length;
      for (const waiting of late) {
        waiting.segment = segment;
        waiting.isLate = true;
        this.#unwritten.delete(waiting);
      }
    }
  }

  /** Writes the O lines of a closed segment's running requests again, so that the segment can go. */
  #moveOpened(segment: Segment): void {
    // Behind the lines that wait: an O line behind its own S would open the request again.
    this.flush();
    const moved: Opened[] = [];
    this.#opened.forEach((opened) => {
      if (opened.segment !== segment) return;
      this.#segments.add('O', opened.requestId, openedJson(opened.entry));
      moved.push(opened);
    });
    const target = this.#write();
    if (target === null) return;
    target.openCount += moved.length;
    segment.openCount -= moved.length;
    for (const opened of moved) opened.segment = target;
  }

  #awaitCommit(waiting: Waiting): void {
    const timer = setTimeout(() => {
      waiting.confirmed = null;
      this.#metrics.unconfirmed.add(1);
      this.#deps.logger.error(
        { requestId: waiting.requestId },
        'an answer ends without its record being confirmed',
      );
      this.#call(waiting, this.#unwritten.has(waiting) ? unrecorded() : null);
    }, this.#commitWaitMs);
    waiting.confirmed = () => {
      clearTimeout(timer);
      this.#call(waiting, null);
    };
  }

  /** What is thrown inside is that request's own fault and must not keep the others waiting. */
  #call(entry: Entry, refusal: AppError | null): void {
    try {
      entry.tell(refusal);
    } catch (error) {
      this.#deps.logger.error({ err: error }, 'a request failed behind its line in the journal');
    }
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
