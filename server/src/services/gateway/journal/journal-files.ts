import { closeSync, ftruncateSync, openSync, unlink, writeSync } from 'node:fs';

/** The file calls of the journal, so that a test can hand it a disk that is full or fails. All but `remove` block. */
export interface JournalFiles {
  /** Makes a new file for appending; throws where it exists. */
  create(path: string): number;
  /** Opens a file for appending, made where it is missing. */
  append(path: string): number;
  /** One write(2) of the buffer's first `length` bytes; answers how many were taken, which may be fewer. */
  write(file: number, buffer: Uint8Array, length: number): number;
  truncate(file: number, length: number): void;
  close(file: number): void;
  /** Not on the event loop: freeing a large file's blocks takes milliseconds. */
  remove(path: string, done: (error: Error | null) => void): void;
}

const ownerOnly = 0o600;

export const localFiles: JournalFiles = {
  create: (path) => openSync(path, 'ax', ownerOnly),
  append: (path) => openSync(path, 'a', ownerOnly),
  write: (file, buffer, length) => writeSync(file, buffer, 0, length),
  truncate: ftruncateSync,
  close: closeSync,
  remove: unlink,
};
