import { open, readdir, stat } from 'node:fs/promises';
import { isUtf8 } from 'node:buffer';
import { join, relative, resolve, sep } from 'node:path';
import type { SourceFile } from './ranking.ts';

const maximumFiles = 300;
const maximumFileBytes = 256 * 1024;
const maximumTotalBytes = 2 * 1024 * 1024;
const maximumDepth = 6;

/**
 * Reads the Markdown files that make up the collection, in the order of `sources`, folders alphabetically.
 * What is missing, unreadable, no UTF-8 or over 256 KiB is left out; reading stops at 300 files or 2 MiB in all.
 * @param root what the names of the files are relative to
 * @param sources files and folders, absolute or relative to `root`; of folders every `*.md` beneath them counts
 */
export async function readCollection(root: string, sources: readonly string[]): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const seen = new Set<string>();
  let totalBytes = 0;
  for (const source of sources) {
    for (const path of await markdownFiles(resolve(root, source), maximumDepth)) {
      if (seen.has(path) || files.length >= maximumFiles) continue;
      seen.add(path);
      const text = await readText(path);
      if (text === null || totalBytes + text.length > maximumTotalBytes) continue;
      totalBytes += text.length;
      files.push({ name: relative(root, path).split(sep).join('/'), text });
    }
  }
  return files;
}

async function markdownFiles(path: string, depth: number): Promise<string[]> {
  const found = await stat(path).catch(() => null);
  if (found?.isFile()) return path.endsWith('.md') ? [path] : [];
  if (!found?.isDirectory() || depth === 0) return [];
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  const names = entries
    .filter((entry) => !entry.name.startsWith('.') && entry.name !== 'node_modules')
    .filter((entry) => entry.isDirectory() || (entry.isFile() && entry.name.endsWith('.md')))
    .map((entry) => entry.name)
    .sort();
  const nested = await Promise.all(names.map((name) => markdownFiles(join(path, name), depth - 1)));
  return nested.flat();
}

/** Never reads more than the limit, also of a file that grows meanwhile. Null where it can't be used. */
async function readText(path: string): Promise<string | null> {
  try {
    await using file = await open(path, 'r');
    const { bytesRead, buffer } = await file.read(
      Buffer.alloc(maximumFileBytes + 1),
      0,
      maximumFileBytes + 1,
      0,
    );
    const bytes = buffer.subarray(0, bytesRead);
    return bytesRead > maximumFileBytes || !isUtf8(bytes) ? null : bytes.toString('utf8');
  } catch {
    return null;
  }
}
