import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { type MigrationSet, migrationsChecksum, openDatabase, openDumpableDatabase } from '#db';
import type { OpenedCopy } from './index.ts';

const oldMs = 24 * 3600 * 1000;

/** Raised when what a snapshot holds beside the migrations changes (the bootstrap, the version of PGlite). */
const layout = 1;

async function removeOld(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const { mtimeMs } = await stat(path);
    if (Date.now() - mtimeMs > oldMs) await rm(path, { force: true });
  }
}

async function makeSnapshot(path: string, migrations: readonly MigrationSet[]): Promise<Uint8Array> {
  const { db, dump } = await openDumpableDatabase({ adapter: 'pglite' });
  try {
    await db.migrate(migrations);
    const bytes = await dump();
    // Whole or not at all: several test files may be at it at once.
    const draft = `${path}.${randomUUID()}.tmp`;
    await writeFile(draft, bytes, { mode: 0o600 });
    await rename(draft, path);
    return bytes;
  } finally {
    await db.close();
  }
}

/** The data directory of a migrated PGlite as a tar, made once for each state of the migrations. */
export async function pgliteSnapshot(migrations: readonly MigrationSet[]): Promise<Uint8Array> {
  const folder = join(tmpdir(), `stoa-test-snapshots-${userInfo().uid}`);
  const path = join(folder, `${layout}-${await migrationsChecksum(migrations)}.tar`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  try {
    return await readFile(path);
  } catch {
    await removeOld(folder).catch(() => undefined);
    return makeSnapshot(path, migrations);
  }
}

/** A PGlite in memory that starts from a snapshot of the migrated schema. */
export async function openPgliteCopy(migrations: readonly MigrationSet[]): Promise<OpenedCopy> {
  const db = await openDatabase({ adapter: 'pglite', snapshot: await pgliteSnapshot(migrations) });
  return { db, close: async () => db.close() };
}
