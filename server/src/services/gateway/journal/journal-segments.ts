import { join } from 'node:path';
import type { Clock, Logger } from '#kernel';
import type { JournalFiles } from './journal-files.ts';
import { LineEncoder, type LineType } from './journal-line.ts';
import type { RecordPlace } from './record-bytes.ts';

/** One file of the journal. */
export interface Segment {
  readonly number: number;
  readonly path: string;
  /** Bytes of whole lines; what lies behind them in the file, if anything, is a line that was cut. */
  bytes: number;
  /** Requests whose O line is here and that run still. */
  openCount: number;
  /** S lines here that are not shipped. */
  unshippedCount: number;
  isClosed: boolean;
}

export interface SegmentSettings {
  readonly directory: string;
  readonly writerId: string;
  readonly segmentBytes: number;
}

/** After a write failed, how long until the disk is tried again. */
const retryAfterMs = 1000;

/** The name of a segment; names of one writer sort by number. */
function segmentName(writerId: string, number: number): string {
  return `journal-${writerId}-${String(number).padStart(8, '0')}.log`;
}

const segmentPattern = /^journal-(\d{13}-\d+-[0-9a-f]{8})-(\d{8})\.log$/;

/** The writer and number that a file's name tells, or null for another file. */
export function parseSegmentName(
  name: string,
): { readonly writerId: string; readonly number: number } | null {
  const match = segmentPattern.exec(name);
  return match === null ? null : { writerId: match[1] ?? '', number: Number(match[2]) };
}

/**
 * The segment files of one writer. Lines are added one by one and written together, by one write(2). Of what the disk
 * took only a part, all is cut off again, or, where that fails too, its segment is closed: the next line never continues
 * a broken one.
 */
export class Segments {
  readonly #deps: { readonly clock: Clock; readonly logger: Logger; readonly files: JournalFiles };
  readonly #settings: SegmentSettings;
  readonly #encoder = new LineEncoder();
  readonly #closed = new Set<Segment>();
  #active: Segment | null = null;
  #file = -1;
  #nextNumber = 1;
  #totalBytes = 0;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  #failures = 0;

  constructor(deps: { clock: Clock; logger: Logger; files: JournalFiles }, settings: SegmentSettings) {
    this.#deps = deps;
    this.#settings = settings;
  }

  /** Bytes of all segments that are not deleted. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Writes that failed since the start. */
  get failures(): number {
    return this.#failures;
  }

  /** Segments that are written to no more and still hold something that is needed, as of now. */
  get closed(): readonly Segment[] {
    return [...this.#closed];
  }

  /** Bytes of the next write. */
  get addedBytes(): number {
    return this.#encoder.length;
  }

  /** Adds a line to the next write. Answers where it ends in that write. */
  add(type: Exclude<LineType, 'S'>, first: string, second: string): number {
    return this.#encoder.add(type, first, second);
  }

  /** As `add`, for the line of a settled request. */
  addRecord(requestId: string, place: RecordPlace): number {
    return this.#encoder.addRecord(requestId, place);
  }

  /**
   * Writes the lines that were added, and forgets them. Answers the segment that has them at its end; null where there is
   * none, or the disk does not take them (and, for a second after a failure, without trying).
   */
  write(): Segment | null {
    const { buffer, length } = this.#encoder;
    if (length === 0) return null;
    this.#encoder.clear();
    const segment = this.#writable();
    if (segment === null) return null;
    try {
      const written = this.#deps.files.write(this.#file, buffer, length);
      if (written !== length) throw new Error(`the disk took ${written} of ${length} bytes`);
    } catch (error) {
      this.#fail(error);
      this.#cutTail(segment);
      return null;
    }
    segment.bytes += length;
    this.#totalBytes += length;
    if (segment.bytes >= this.#settings.segmentBytes) this.#closeActive();
    return segment;
  }

  /** Deletes a closed segment that nothing needs any more; does nothing for the others. */
  removeIfDone(segment: Segment): void {
    if (!segment.isClosed || segment.openCount > 0 || segment.unshippedCount > 0) return;
    if (!this.#closed.delete(segment)) return;
    this.#totalBytes -= segment.bytes;
    this.#deps.files.remove(segment.path, (error) => {
      if (error !== null)
        this.#deps.logger.error({ err: error, path: segment.path }, 'a journal segment stays behind');
    });
  }

  /** Closes the file that is written to; it is deleted where nothing needs it. */
  close(): void {
    this.#closeActive();
  }

  /** Makes the first segment, so that a folder that can't be written shows at once. */
  start(): void {
    this.#begin();
  }

  #writable(): Segment | null {
    if (this.#deps.clock.monotonic() - this.#failedAtMs < retryAfterMs) return null;
    if (this.#active !== null) return this.#active;
    try {
      return this.#begin();
    } catch (error) {
      this.#fail(error);
      return null;
    }
  }

  #begin(): Segment {
    const number = this.#nextNumber;
    const path = join(this.#settings.directory, segmentName(this.#settings.writerId, number));
    this.#file = this.#deps.files.create(path);
    this.#nextNumber = number + 1;
    this.#active = { number, path, bytes: 0, openCount: 0, unshippedCount: 0, isClosed: false };
    return this.#active;
  }

  #fail(error: unknown): void {
    this.#failures += 1;
    this.#failedAtMs = this.#deps.clock.monotonic();
    this.#deps.logger.error({ err: error }, 'the journal cannot be written');
  }

  #cutTail(segment: Segment): void {
    try {
      this.#deps.files.truncate(this.#file, segment.bytes);
    } catch {
      this.#closeActive();
    }
  }

  #closeActive(): void {
    const segment = this.#active;
    if (segment === null) return;
    this.#active = null;
    segment.isClosed = true;
    this.#closed.add(segment);
    try {
      this.#deps.files.close(this.#file);
    } catch (error) {
      this.#fail(error);
    }
  }
}
