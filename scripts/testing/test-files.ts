import { globSync } from 'node:fs';
import path from 'node:path';

/** The repository's root folder. */
export const rootFolder = path.resolve(import.meta.dirname, '../..');

/**
 * - `pure`: shares one process with the others of its kind
 * - `separate`: gets a process of its own (integration tests beside the code, journeys under test/)
 * - `conformance`: outside test vectors, run by their own script
 */
export type TestKind = 'pure' | 'separate' | 'conformance';

const skippedFolders = new Set(['node_modules', 'fixtures', 'generated', 'dist', '.stoa', '.git']);

/** Which way a test file is run, told by its name and place. */
function kindOf(relativePath: string): TestKind {
  if (relativePath.endsWith('.conformance.test.ts')) return 'conformance';
  if (relativePath.endsWith('.integration.test.ts')) return 'separate';
  return relativePath.startsWith(`test${path.sep}`) ? 'separate' : 'pure';
}

/**
 * Test files of one kind as absolute paths, sorted. `filters` keep the files whose relative path is one of them,
 * lies under one of them, or contains one of them; none keeps all.
 */
export function findTestFiles(root: string, kind: TestKind, filters: string[] = []): string[] {
  const found = globSync('**/*.test.ts', {
    cwd: root,
    exclude: (name) => skippedFolders.has(path.basename(name)),
  });
  const wanted = filters.map((filter) => path.normalize(filter).replace(/^\.\//, ''));
  return found
    .filter((file) => kindOf(file) === kind)
    .filter((file) => wanted.length === 0 || wanted.some((filter) => file.includes(filter)))
    .sort()
    .map((file) => path.join(root, file));
}
