/**
 * Server-sent events as bytes: where each frame begins and ends, and what shape it has.
 *
 * Problem: every token of every stream passes here, so a frame may cost at most a fraction of a microsecond; nothing is
 * decoded, copied or allocated for a frame that lies whole in one chunk. Yet frames arrive cut at any byte, with any of
 * the three line endings of the WHATWG format (LF, CRLF, CR), with comments, and from servers that mean harm.
 *
 * Approach: one native search for LF per line, and one for CR per chunk (its result is kept, so a stream without CR pays
 * for it once a chunk). A blank line ends a frame. What is left of a chunk stays as a view; only when the next chunk
 * comes are the two joined, in a store that doubles, so that a frame of n bytes costs O(n) however it is cut. A store is
 * only ever appended to, so the views that were handed out stay true for as long as their receiver keeps them.
 *
 * Bound: one frame of `maxFrameBytes` (1 MiB); the store is at most twice that and one chunk.
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */

const LF = 10;
const CR = 13;
const NONE = Number.MAX_SAFE_INTEGER;

/** The most bytes that one frame may have. */
export const MAX_FRAME_BYTES = 1024 * 1024;

/**
 * A complete frame: `buffer[start, end)` without the blank line that ended it, `buffer[start, next)` with it.
 * `lineCount` is how many lines `[start, end)` has. The buffer is never written to afterwards; keeping views is safe.
 */
export type FrameListener = (
  buffer: Buffer,
  start: number,
  end: number,
  next: number,
  lineCount: number,
) => void;

export interface FrameScanner {
  /**
   * Takes the next bytes and calls the listener once per complete frame, in order, before it returns.
   * False where a frame is longer than the cap: the stream is unreadable, and nothing more will be told.
   */
  feed(chunk: Buffer): boolean;
  /**
   * At the stream's end: tells what is left, a last frame without its blank line, as a frame. Sloppy servers end in
   * `data: [DONE]` and one line end; whether an unfinished frame is a cut is seen in its shape.
   */
  flush(): void;
  /** Bytes of the frame that is not complete yet. */
  readonly pendingBytes: number;
}

class ByteFrameScanner implements FrameScanner {
  readonly #onFrame: FrameListener;
  readonly #maxFrameBytes: number;
  #buffer: Buffer = Buffer.alloc(0);
  #length = 0;
  /** What `#buffer` is a view of where frames were joined, with room behind it; null where `#buffer` is a chunk. */
  #store: Buffer | null = null;
  #frameStart = 0;
  #lineStart = 0;
  /** Where the search for the current line's end goes on. */
  #scan = 0;
  #lineEnd = 0;
  #lineCount = 0;
  /** The next CR at or behind `#scan`, NONE where there is none, -1 where it has not been looked for. */
  #nextCr = -1;
  #isAtStreamStart = true;
  #isDead = false;

  constructor(onFrame: FrameListener, maxFrameBytes: number) {
    this.#onFrame = onFrame;
    this.#maxFrameBytes = maxFrameBytes;
  }

  get pendingBytes(): number {
    return this.#length - this.#frameStart;
  }

  feed(chunk: Buffer): boolean {
    if (this.#isDead) return false;
    if (chunk.length === 0) return true;
    if (this.#frameStart === this.#length) this.#adopt(chunk);
    else this.#append(chunk);
    this.#scanLines();
    if (this.#length - this.#frameStart > this.#maxFrameBytes) this.#isDead = true;
    return !this.#isDead;
  }

  flush(): void {
    if (this.#isDead) return;
    const pendingEnd = this.#length;
    if (this.#lineStart < pendingEnd) {
      this.#lineEnd = pendingEnd;
      if (this.#buffer[pendingEnd - 1] === CR) this.#lineEnd -= 1;
      this.#lineCount += 1;
    }
    this.#emit(pendingEnd);
    this.#isDead = true;
  }

  #adopt(chunk: Buffer): void {
    this.#buffer = chunk;
    this.#length = chunk.length;
    this.#store = null;
    this.#frameStart = 0;
    this.#lineStart = 0;
    this.#scan = 0;
    this.#lineCount = 0;
    this.#nextCr = -1;
  }

  #append(chunk: Buffer): void {
    const needed = this.#length + chunk.length;
    if (this.#store !== null && needed <= this.#store.length) {
      chunk.copy(this.#store, this.#length);
      this.#length = needed;
    } else {
      const shift = this.#frameStart;
      const size = needed - shift;
      // Room for as much again: a long frame in small pieces is then copied a logarithmic number of times.
      this.#store = Buffer.allocUnsafe(Math.max(1024, size * 2));
      this.#buffer.copy(this.#store, 0, shift, this.#length);
      chunk.copy(this.#store, this.#length - shift);
      this.#length = size;
      this.#frameStart = 0;
      this.#lineStart -= shift;
      this.#scan -= shift;
      this.#lineEnd -= shift;
    }
    // A view of what is filled: a search over the room behind it would read what is no part of the stream.
    this.#buffer = this.#store.subarray(0, this.#length);
    this.#nextCr = -1;
  }

  /** Every line that is complete; leaves `#scan` where the search goes on with the next chunk. */
  #scanLines(): void {
    const buffer = this.#buffer;
    const length = this.#length;
    while (this.#scan < length && !this.#isDead) {
      if (buffer[this.#scan] === LF && this.#scan === this.#lineStart) {
        this.#endLine(this.#scan, this.#scan + 1);
        continue;
      }
      const end = this.#findLineEnd(buffer);
      if (end === NONE) {
        this.#scan = length;
        return;
      }
      let after = end + 1;
      if (buffer[end] === CR) {
        if (after < length) {
          if (buffer[after] === LF) after += 1;
        } else if (end !== this.#lineStart) {
          // Whether an LF belongs to this line's end is not known yet. A blank line needs no such care: the LF behind it
          // would be a blank line more, which means nothing.
          this.#scan = end;
          return;
        }
      }
      this.#endLine(end, after);
    }
  }

  #findLineEnd(buffer: Buffer): number {
    const lf = buffer.indexOf(LF, this.#scan);
    if (this.#nextCr < this.#scan) {
      const cr = buffer.indexOf(CR, this.#scan);
      this.#nextCr = cr === -1 ? NONE : cr;
    }
    return lf !== -1 && lf < this.#nextCr ? lf : this.#nextCr;
  }

  #endLine(end: number, after: number): void {
    if (end === this.#lineStart) {
      this.#emit(after);
      return;
    }
    this.#lineEnd = end;
    this.#lineCount += 1;
    this.#lineStart = after;
    this.#scan = after;
  }

  #emit(next: number): void {
    let start = this.#frameStart;
    const lineCount = this.#lineCount;
    const end = this.#lineEnd;
    this.#frameStart = next;
    this.#lineStart = next;
    this.#scan = next;
    this.#lineCount = 0;
    if (lineCount === 0) return;
    if (end - start > this.#maxFrameBytes) {
      this.#isDead = true;
      return;
    }
    const buffer = this.#buffer;
    if (this.#isAtStreamStart) {
      this.#isAtStreamStart = false;
      if (buffer[start] === 0xef && buffer[start + 1] === 0xbb && buffer[start + 2] === 0xbf) start += 3;
    }
    this.#onFrame(buffer, start, end, next, lineCount);
  }
}

/**
 * A scanner for one stream.
 * @param onFrame called for each complete frame; must not call `feed` or `flush` of the same scanner
 * @param maxFrameBytes the most bytes of one frame; default 1 MiB
 */
export function createFrameScanner(
  onFrame: FrameListener,
  maxFrameBytes: number = MAX_FRAME_BYTES,
): FrameScanner {
  return new ByteFrameScanner(onFrame, maxFrameBytes);
}

/**
 * What a frame looks like from outside: `object` (its data begins with `{` and ends with `}`; the JSON between is not
 * checked), `done` (`[DONE]`), `quiet` (only comments, ids and the like: nothing that a client would see as an event),
 * `other` (an event whose data is neither).
 */
export type FrameShape = 'object' | 'done' | 'quiet' | 'other';

const SPACE = 32;
const COLON = 58;
const OPEN_BRACE = 123;
const CLOSE_BRACE = 125;
const DONE_BYTES = Buffer.from('[DONE]');

/** True where `data:` stands at `start`; compared as bytes, since a slice or a string would cost more than the rest. */
function hasDataField(buffer: Buffer, start: number, end: number): boolean {
  return (
    end - start >= 5 &&
    buffer[start] === 100 &&
    buffer[start + 1] === 97 &&
    buffer[start + 2] === 116 &&
    buffer[start + 3] === 97 &&
    buffer[start + 4] === COLON
  );
}

function isDone(buffer: Buffer, start: number, end: number): boolean {
  if (end - start !== DONE_BYTES.length) return false;
  for (let index = 0; index < DONE_BYTES.length; index += 1) {
    if (buffer[start + index] !== DONE_BYTES[index]) return false;
  }
  return true;
}

function shapeOfData(buffer: Buffer, start: number, end: number): FrameShape {
  while (start < end && (buffer[start] ?? 0) <= SPACE) start += 1;
  while (end > start && (buffer[end - 1] ?? 0) <= SPACE) end -= 1;
  if (end - start >= 2 && buffer[start] === OPEN_BRACE && buffer[end - 1] === CLOSE_BRACE) return 'object';
  return isDone(buffer, start, end) ? 'done' : 'other';
}

/**
 * The shape of a frame, for the arguments a FrameListener got. A frame of one line, which is nearly every frame, is
 * judged in place; one of several lines is read first.
 */
export function frameShape(buffer: Buffer, start: number, end: number, lineCount: number): FrameShape {
  if (lineCount === 1) {
    if (hasDataField(buffer, start, end)) return shapeOfData(buffer, start + 5, end);
    if (buffer[start] === COLON) return 'quiet';
  }
  const { data } = readFrame(buffer, start, end);
  if (data === null) return 'quiet';
  const bytes = Buffer.from(data);
  return shapeOfData(bytes, 0, bytes.length);
}

/**
 * Where the data of a one-line `data:` frame begins (behind `data:` and one space), or -1 where the frame is not of that
 * kind and `readFrame` must be asked. The data ends with the frame.
 */
export function dataStart(buffer: Buffer, start: number, end: number, lineCount: number): number {
  if (lineCount !== 1 || !hasDataField(buffer, start, end)) return -1;
  return buffer[start + 5] === SPACE && start + 5 < end ? start + 6 : start + 5;
}

export interface ServerSentEvent {
  /** Null where the frame names none. */
  readonly event: string | null;
  /** All data lines joined by LF; null where the frame has none. */
  readonly data: string | null;
}

/** The fields of one frame, decoded as UTF-8 (invalid sequences become U+FFFD). Comments, `id` and `retry` are left out. */
export function readFrame(buffer: Buffer, start: number, end: number): ServerSentEvent {
  const onlyData = dataStart(buffer, start, end, 1);
  if (onlyData !== -1) {
    const text = buffer.toString('utf8', onlyData, end);
    if (!text.includes('\n') && !text.includes('\r')) return { event: null, data: text };
  }
  let event: string | null = null;
  let data: string | null = null;
  for (const line of buffer.toString('utf8', start, end).split(/\r\n|\n|\r/)) {
    const colon = line.indexOf(':');
    if (colon === 0) continue;
    const field = colon === -1 ? line : line.slice(0, colon);
    const raw = colon === -1 ? '' : line.slice(colon + 1);
    const value = raw.startsWith(' ') ? raw.slice(1) : raw;
    if (field === 'data') data = data === null ? value : `${data}\n${value}`;
    else if (field === 'event') event = value;
  }
  return { event, data };
}
