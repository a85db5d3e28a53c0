/**
 * The bytes of records that wait for their batch.
 *
 * A record waits up to a few tenths of a second, which is longer than the collector of young objects runs apart under
 * load: as strings, the two kilobytes of each would be copied twice and then stay until the next full collection. Here
 * they lie outside of the JavaScript heap, in chunks that are used again, and a batch is one copy of them.
 */
interface Chunk {
  readonly bytes: Buffer;
  /** Bytes that are taken. */
  used: number;
  /** Records in it that are not released. */
  held: number;
}

/** Where a record lies: its JSON from `start` to `middle`, its row from there to `end`; each ends in a line end. */
export interface RecordPlace {
  readonly chunk: Chunk;
  readonly start: number;
  readonly middle: number;
  /** As `middle` where it has no row. */
  readonly end: number;
}

const chunkBytes = 1024 * 1024;
/** Chunks that are kept for later while nothing lies in them. */
const keptChunks = 4;
const newline = 0x0a;

function newChunk(size: number): Chunk {
  return { bytes: Buffer.allocUnsafeSlow(size), used: 0, held: 0 };
}

export class RecordBytes {
  #active: Chunk = newChunk(chunkBytes);
  readonly #free: Chunk[] = [];

  /** Keeps a record's JSON and its row, neither of which holds a line end. */
  add(json: string, row: string | null): RecordPlace {
    const most = (json.length + (row?.length ?? 0)) * 3 + 2;
    const chunk = this.#chunkFor(most);
    const start = chunk.used;
    const middle = this.#write(chunk, json);
    const end = row === null ? middle : this.#write(chunk, row);
    chunk.held += 1;
    return { chunk, start, middle, end };
  }

  /** Forgets a record; once for each place. */
  release({ chunk }: RecordPlace): void {
    chunk.held -= 1;
    if (chunk.held > 0) return;
    chunk.used = 0;
    const isKept = chunk !== this.#active && chunk.bytes.length === chunkBytes;
    if (isKept && this.#free.length < keptChunks) this.#free.push(chunk);
  }

  #write(chunk: Chunk, text: string): number {
    const end = chunk.used + chunk.bytes.write(text, chunk.used);
    chunk.bytes[end] = newline;
    chunk.used = end + 1;
    return chunk.used;
  }

  #chunkFor(most: number): Chunk {
    if (chunkBytes - this.#active.used >= most) return this.#active;
    // One that is larger than a chunk gets its own, which is never active.
    if (most > chunkBytes) return newChunk(most);
    this.#active = this.#free.pop() ?? newChunk(chunkBytes);
    return this.#active;
  }
}

/** The JSON without its line end. */
export function jsonAt({ chunk, start, middle }: RecordPlace): string {
  return chunk.bytes.toString('utf8', start, middle - 1);
}

/** Whether the record has a row beside its JSON. */
export function hasRow({ middle, end }: RecordPlace): boolean {
  return end > middle;
}

/** The lines of many records, JSONs and rows apart, each without the last line end. All must have a row. */
export function linesOf(places: readonly RecordPlace[]): {
  readonly jsons: Uint8Array;
  readonly rows: Uint8Array;
} {
  const jsons = Buffer.allocUnsafeSlow(places.reduce((sum, place) => sum + place.middle - place.start, 0));
  const rows = Buffer.allocUnsafeSlow(places.reduce((sum, place) => sum + place.end - place.middle, 0));
  let [jsonEnd, rowEnd] = [0, 0];
  for (const { chunk, start, middle, end } of places) {
    jsonEnd += chunk.bytes.copy(jsons, jsonEnd, start, middle);
    rowEnd += chunk.bytes.copy(rows, rowEnd, middle, end);
  }
  return { jsons: jsons.subarray(0, -1), rows: rows.subarray(0, -1) };
}
