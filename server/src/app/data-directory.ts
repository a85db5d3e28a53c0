import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '#kernel';

/** What Stoa keeps in its data directory; the directory and every secret in it are readable by their owner only. */
export interface DataDirectory {
  readonly path: string;
  readonly pglitePath: string;
  readonly journalPath: string;
  readonly databaseUrlsPath: string;
  readonly credentialsPath: string;
}

export function openDataDirectory(path: string): DataDirectory {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new AppError(
      'invalid_configuration',
      `STOA_DATA_DIR: the directory ${path} cannot be made; choose one that this user may write.`,
      { cause },
    );
  }
  return {
    path,
    pglitePath: join(path, 'pglite'),
    journalPath: join(path, 'journal'),
    databaseUrlsPath: join(path, 'database-urls.json'),
    credentialsPath: join(path, 'credentials.json'),
  };
}

/** The master key of a development data directory: 32 random bytes, made once, mode 0600. */
export function developmentMasterKey(directory: DataDirectory): Uint8Array {
  const path = join(directory.path, 'master.key');
  if (existsSync(path)) {
    const key = Buffer.from(readFileSync(path, 'utf8').trim(), 'base64');
    if (key.length === 32) return key;
    throw new AppError(
      'invalid_configuration',
      `${path} does not hold 32 bytes in base64. Restore it: secrets sealed under it cannot be read without it.`,
    );
  }
  const key = randomBytes(32);
  writePrivately(path, `${key.toString('base64')}\n`);
  return key;
}

const credentialsShape = z.object({
  baseUrl: z.string(),
  adminUrl: z.string(),
  operatorKey: z.string(),
  demo: z.object({ tenantId: z.string(), apiKey: z.string() }).optional(),
});
export type Credentials = z.infer<typeof credentialsShape>;

/** What an earlier start wrote, or null. A file that cannot be read counts as absent: a new one replaces it. */
export function readCredentials(directory: DataDirectory): Credentials | null {
  try {
    const result = credentialsShape.safeParse(JSON.parse(readFileSync(directory.credentialsPath, 'utf8')));
    return result.success ? result.data : null;
  } catch {
    return null;
  }
}

export function writeCredentials(directory: DataDirectory, credentials: Credentials): void {
  writePrivately(directory.credentialsPath, `${JSON.stringify(credentials, null, 2)}\n`);
}

/** Writes beside and renames, so that a reader sees the old file or the new one and never half of one. */
function writePrivately(path: string, content: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, content, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
}
