import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { AppError } from '#kernel';
import type { Migration, MigrationPhase, MigrationSet } from '../types.ts';

/** This module's own migrations: schemas, helpers for the others, audit, leases, processes. Always first. */
export const databaseMigrations: MigrationSet = {
  module: 'platform/db',
  directory: new URL('../migrations/', import.meta.url),
};

export interface MigrationFile extends Migration {
  readonly sql: string;
  /** SHA-256 of the text with line ends as LF, in hex: a checkout with CRLF is the same file. */
  readonly checksum: string;
}

const namePattern = /^(\d{4})-([a-z0-9]+(?:-[a-z0-9]+)*)\.sql$/;
const phaseLine = /^--\s*phase\b/i;

function faulty(set: MigrationSet, fault: string): AppError {
  return new AppError('migration_changed', `The migrations of ${set.module} are not in order: ${fault}.`);
}

/** What the first line says, `expand` where it says nothing; null where a line about the phase can't be taken at its word. */
function phaseOf(sql: string): MigrationPhase | null {
  const [first = '', ...others] = sql.split('\n');
  if (others.some((line) => phaseLine.test(line))) return null;
  if (!phaseLine.test(first)) return 'expand';
  if (first.trimEnd() === '-- phase: expand') return 'expand';
  return first.trimEnd() === '-- phase: contract' ? 'contract' : null;
}

async function readSet(set: MigrationSet): Promise<MigrationFile[]> {
  const names = (await readdir(set.directory)).filter((name) => name.endsWith('.sql')).sort();
  return Promise.all(
    names.map(async (fileName, index) => {
      const match = namePattern.exec(fileName);
      if (match === null) throw faulty(set, `${fileName} is not named NNNN-name.sql`);
      const number = Number(match[1]);
      if (number !== index + 1)
        throw faulty(set, `${fileName} follows number ${index}; none may be left out or doubled`);
      const text = await readFile(new URL(fileName, directoryOf(set)), 'utf8');
      const sql = text.replaceAll('\r\n', '\n');
      const phase = phaseOf(sql);
      if (phase === null) {
        throw faulty(
          set,
          `${fileName} must say its phase once, in its first line: \`-- phase: expand\` or \`-- phase: contract\``,
        );
      }
      const checksum = createHash('sha256').update(sql).digest('hex');
      return { module: set.module, number, name: match[2] ?? '', phase, sql, checksum };
    }),
  );
}

function directoryOf(set: MigrationSet): URL {
  return set.directory.href.endsWith('/') ? set.directory : new URL(`${set.directory.href}/`);
}

/** The sets with this module's own in front, whether it was passed or not. */
function withDatabaseMigrations(sets: readonly MigrationSet[]): readonly MigrationSet[] {
  return [databaseMigrations, ...sets.filter((set) => set.module !== databaseMigrations.module)];
}

/**
 * All files, in the order in which they apply. Rejects with `migration_changed` for a gap in the numbers, a file that
 * is not named `NNNN-name.sql` or says no phase that there is, and a module that is passed twice.
 */
export async function readMigrationFiles(sets: readonly MigrationSet[]): Promise<MigrationFile[]> {
  const all = withDatabaseMigrations(sets);
  const twice = all.find((set, index) => all.findIndex((other) => other.module === set.module) !== index);
  if (twice !== undefined) throw faulty(twice, 'the module is passed twice');
  return (await Promise.all(all.map(readSet))).flat();
}

/** One checksum over all files: the same schema has the same one. In hex. */
export async function migrationsChecksum(sets: readonly MigrationSet[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of await readMigrationFiles(sets))
    hash.update(`${file.module}/${file.number}:${file.checksum}\n`);
  return hash.digest('hex');
}

/** As people read it: `control/tenants/0002-regions`. */
export function migrationLabel(migration: Pick<Migration, 'module' | 'number' | 'name'>): string {
  return `${migration.module}/${String(migration.number).padStart(4, '0')}-${migration.name}`;
}
