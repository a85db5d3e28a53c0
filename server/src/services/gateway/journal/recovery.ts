/**
 * Recovery: what processes that ended left in their journals reaches the database before this one is ready.
 *
 * The segments of each writer are read in order. An S line behind the writer's checkpoint is shipped as it is. An O line
 * whose S never came belongs to a request that ran when its process died: it becomes a record with the outcome `failed`
 * and the error `process_interrupted`, with the estimate of its input and no output, marked as estimated and without a
 * price, since nobody knows what the provider took. Only then the segments are deleted. Dying anywhere in between is
 * harmless: the next recovery does it all again, and what was shipped already is not written twice.
 *
 * O before S, always, in one writer's files; so only the requests that are open at one moment are held in memory.
 * A line that was cut (the last of a file, by a kill in the middle of a write) is skipped. A damaged line elsewhere is
 * skipped, too, but counted and its file is kept as `damaged-...`: that is a fault of the disk, and somebody should look.
 *
 * The caller owns the lock of the data directory, so every writer but its own is dead.
 */
import { createReadStream } from 'node:fs';
import { readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RequestCompletedV1 } from '@stoa/contracts';
import type { Clock, Logger } from '#kernel';
import type { PendingRecord } from './journal.ts';
import { decodeLine, type JournalLine, openedShape } from './journal-line.ts';
import { parseSegmentName } from './journal-segments.ts';

export interface RecoveryDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Writes records to the database, idempotently; settlement's. */
  ship(records: readonly PendingRecord[]): Promise<number>;
}

export interface RecoverySettings {
  readonly directory: string;
  /** The writer of this process, whose segments are left alone. */
  readonly ownWriterId: string;
  /** Records of one batch; default 1,000. */
  readonly batchRecords?: number;
}

export interface RecoveryReport {
  /** Writers whose journals were found. */
  readonly writers: number;
  /** Settled records that were read behind the checkpoints. */
  readonly settled: number;
  /** Requests that were open when their process died. */
  readonly interrupted: number;
  /** How many of both the database did not have yet. */
  readonly inserted: number;
  /** Lines that are damaged elsewhere than at the end of a file. */
  readonly damagedLines: number;
}

interface SegmentFile {
  readonly number: number;
  readonly name: string;
}

interface Progress {
  settled: number;
  interrupted: number;
  inserted: number;
  damagedLines: number;
}

interface Checkpoint {
  readonly segment: number;
  readonly offset: number;
}

interface PlacedLine {
  /** Null where it is cut or damaged. */
  readonly line: JournalLine | null;
  /** Where the line ends in the file. */
  readonly end: number;
  /** Whether it ended in a newline. */
  readonly isWhole: boolean;
}

const newline = 0x0a;

async function* readLines(path: string): AsyncGenerator<PlacedLine> {
  let rest: Buffer = Buffer.alloc(0);
  let offset = 0;
  const chunks: AsyncIterable<Buffer> = createReadStream(path, { highWaterMark: 1024 * 1024 });
  for await (const chunk of chunks) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      yield { line: decodeLine(bytes.subarray(start, end)), end: offset + end + 1, isWhole: true };
      start = end + 1;
    }
    rest = Buffer.from(bytes.subarray(start));
    offset += start;
  }
  if (rest.length > 0) yield { line: null, end: offset + rest.length, isWhole: false };
}

async function leftSegments(settings: RecoverySettings): Promise<Map<string, SegmentFile[]>> {
  const byWriter = new Map<string, SegmentFile[]>();
  for (const name of (await readdir(settings.directory)).sort()) {
    const parsed = parseSegmentName(name);
    if (parsed === null || parsed.writerId === settings.ownWriterId) continue;
    const files = byWriter.get(parsed.writerId) ?? [];
    files.push({ number: parsed.number, name });
    byWriter.set(parsed.writerId, files);
  }
  return byWriter;
}

/** The last checkpoint that the writer wrote; its checkpoints only ever grow. */
async function readCheckpoint(directory: string, files: readonly SegmentFile[]): Promise<Checkpoint | null> {
  for (const file of files.toReversed()) {
    let last: Checkpoint | null = null;
    for await (const { line } of readLines(join(directory, file.name))) {
      if (line?.type === 'C') last = line;
    }
    if (last !== null) return last;
  }
  return null;
}

/** The record of a request whose process died; null where the O line can't be understood. */
function interruptedRecord(json: string, nowMs: number): RequestCompletedV1 | null {
  const parsed = openedShape.safeParse(JSON.parse(json));
  if (!parsed.success) return null;
  const { target, input_tokens, created_at_ms, ...known } = parsed.data;
  const error = {
    code: 'process_interrupted',
    message: 'The process that served this request ended before the answer did.',
  };
  const createdAt = new Date(created_at_ms).toISOString();
  return {
    ...known,
    outcome: 'failed',
    error,
    decision: null,
    attempts: [
      {
        target,
        provider: 'unknown',
        started_at: createdAt,
        duration_ms: 0,
        time_to_first_token_ms: null,
        status: null,
        error,
        provider_request_id: null,
      },
    ],
    usage: {
      input_tokens,
      output_tokens: 0,
      cached_input_tokens: 0,
      cache_write_tokens: 0,
      reasoning_tokens: 0,
      input_audio_tokens: 0,
      output_audio_tokens: 0,
      estimated: true,
    },
    priced: false,
    cost_femto: null,
    charge_femto: null,
    price_version: null,
    price: null,
    client_request_id: null,
    created_at: createdAt,
    completed_at: new Date(nowMs).toISOString(),
  };
}

class WriterRecovery {
  readonly #deps: RecoveryDeps;
  readonly #settings: RecoverySettings;
  readonly #files: readonly SegmentFile[];
  readonly #progress: Progress;
  readonly #opened = new Map<string, string>();
  readonly #damaged = new Set<SegmentFile>();
  #batch: PendingRecord[] = [];

  constructor(
    deps: RecoveryDeps,
    settings: RecoverySettings,
    files: readonly SegmentFile[],
    progress: Progress,
  ) {
    this.#deps = deps;
    this.#settings = settings;
    this.#files = files;
    this.#progress = progress;
  }

  async run(): Promise<void> {
    const { directory } = this.#settings;
    const checkpoint = await readCheckpoint(directory, this.#files);
    for (const file of this.#files) await this.#readFile(file, checkpoint);
    for (const [requestId, json] of this.#opened) await this.#addInterrupted(requestId, json);
    await this.#shipBatch();
    await Promise.all(this.#files.map(async (file) => this.#discard(file)));
  }

  async #readFile(file: SegmentFile, checkpoint: Checkpoint | null): Promise<void> {
    for await (const { line, end, isWhole } of readLines(join(this.#settings.directory, file.name))) {
      if (line === null) {
        if (isWhole) this.#noteDamage(file, end);
        continue;
      }
      if (line.type === 'C') continue;
      if (line.type === 'O') {
        this.#opened.set(line.requestId, line.json);
        continue;
      }
      this.#opened.delete(line.requestId);
      if (checkpoint !== null && isCovered(checkpoint, file.number, end)) continue;
      this.#progress.settled += 1;
      await this.#add({ requestId: line.requestId, json: line.json });
    }
  }

  async #addInterrupted(requestId: string, json: string): Promise<void> {
    const record = interruptedRecord(json, this.#deps.clock.now());
    if (record === null) {
      this.#deps.logger.error({ requestId }, 'an opened entry of the journal cannot be understood');
      return;
    }
    this.#progress.interrupted += 1;
    await this.#add({ requestId, json: JSON.stringify(record) });
  }

  async #add(record: PendingRecord): Promise<void> {
    this.#batch.push(record);
    if (this.#batch.length >= (this.#settings.batchRecords ?? 1000)) await this.#shipBatch();
  }

  async #shipBatch(): Promise<void> {
    const batch = this.#batch;
    this.#batch = [];
    this.#progress.inserted += await this.#deps.ship(batch);
  }

  #noteDamage(file: SegmentFile, end: number): void {
    this.#progress.damagedLines += 1;
    this.#damaged.add(file);
    this.#deps.logger.error({ file: file.name, end }, 'a line of the journal is damaged');
  }

  async #discard(file: SegmentFile): Promise<void> {
    const path = join(this.#settings.directory, file.name);
    if (this.#damaged.has(file)) await rename(path, join(this.#settings.directory, `damaged-${file.name}`));
    else await rm(path, { force: true });
  }
}

function isCovered(checkpoint: Checkpoint, segment: number, end: number): boolean {
  return segment < checkpoint.segment || (segment === checkpoint.segment && end <= checkpoint.offset);
}

/**
 * Recovers the journals of dead writers in a folder. Run it before readiness, with the data directory's lock held.
 * Rejects with the database's error where it can't write; the segments are then all still there, and it can be called
 * again. Costs about a second for 64 MiB of journal that was not shipped.
 */
export async function recoverJournals(
  deps: RecoveryDeps,
  settings: RecoverySettings,
): Promise<RecoveryReport> {
  const progress: Progress = { settled: 0, interrupted: 0, inserted: 0, damagedLines: 0 };
  const byWriter = await leftSegments(settings);
  for (const files of byWriter.values()) {
    await new WriterRecovery(deps, settings, files, progress).run();
  }
  const report = { writers: byWriter.size, ...progress };
  if (byWriter.size > 0) deps.logger.info(report, 'journals of ended processes recovered');
  return report;
}
