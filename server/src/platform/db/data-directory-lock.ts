/**
 * One process to a data directory. The lock is an exclusive transaction on a small SQLite file, held for as long as the
 * process lives: the kernel frees it however the process ends, `kill -9` included, so no stale lock is possible and no
 * pid has to be believed. The pid in the text file beside it serves the message only.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { AppError } from '#kernel';

/** A lock that nobody refers to any more would be closed, and so freed, by the garbage collector. */
const held = new Set<DatabaseSync>();

export interface DataDirectoryLock {
  /** Lets another process in. May be called twice. */
  release(): void;
}

function holderPid(pidFile: string): string | null {
  try {
    const text = readFileSync(pidFile, 'utf8').trim();
    return /^\d{1,10}$/.test(text) ? text : null;
  } catch {
    // Not written yet, or not readable: the message goes without it.
    return null;
  }
}

function isBusy(error: unknown): boolean {
  // 5 is SQLITE_BUSY: another connection holds the lock.
  return error instanceof Error && 'errcode' in error && error.errcode === 5;
}

/**
 * Takes the data directory for this process, making it (mode 0700) where it is missing. Takes a millisecond and never
 * waits. Throws `data_directory_locked`, naming the holder's pid, where another process has it, and
 * `invalid_configuration` where the directory can't be made or written.
 */
export function lockDataDirectory(directory: string): DataDirectoryLock {
  const pidFile = join(directory, 'stoa.pid');
  let database: DatabaseSync | null = null;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    database = new DatabaseSync(join(directory, 'stoa.lock'), { timeout: 0 });
    // Without a journal file there is nothing to clean up after a kill.
    database.exec('pragma journal_mode = memory; begin exclusive');
    writeFileSync(pidFile, `${process.pid}\n`, { mode: 0o600 });
  } catch (cause) {
    database?.close();
    if (!isBusy(cause)) {
      throw new AppError('invalid_configuration', `The data directory ${directory} cannot be used.`, {
        cause,
      });
    }
    const pid = holderPid(pidFile);
    const holder = pid === null ? 'another process' : `process ${pid}`;
    throw new AppError(
      'data_directory_locked',
      `The data directory ${directory} is used by ${holder}. Stop that process first, or give this one another directory with STOA_DATA_DIR.`,
      { cause, details: pid === null ? {} : { pid: Number(pid) } },
    );
  }
  const lock = database;
  held.add(lock);
  return {
    release() {
      if (held.delete(lock)) lock.close();
    },
  };
}
