import { z } from 'zod';
import { AppError } from '#kernel';
import type { Session, SessionSource } from '../session.ts';
import type {
  Migration,
  MigrationSet,
  PendingMigration,
  SchemaState,
  SchemaStatus,
  ServingProcess,
} from '../types.ts';
import { type MigrationFile, migrationLabel, readMigrationFiles } from './migration-files.ts';
import { doesKnow, readProcesses } from './serving-processes.ts';

const shortDeadlineMs = 10_000;

export interface AppliedRow extends Migration {
  readonly checksum: string;
  readonly appliedAt: Date;
}

const appliedRow = z.object({
  module: z.string(),
  number: z.number(),
  name: z.string(),
  checksum: z.string(),
  is_compatible: z.boolean(),
  applied_at: z.date(),
});

/** What has been applied, in order, read in a transaction under the door's role; empty where there is no schema yet. */
export async function readApplied(session: Session): Promise<AppliedRow[]> {
  const exists = await session.query(
    `select 1 where to_regclass('platform.migrations') is not null`,
    [],
    shortDeadlineMs,
  );
  if (exists.rows.length === 0) return [];
  const result = await session.query(
    `select module, number, name, checksum, is_compatible, applied_at
     from platform.migrations order by applied_at, module, number`,
    [],
    shortDeadlineMs,
  );
  return result.rows.map((row) => {
    const read = appliedRow.safeParse(row);
    if (!read.success) {
      throw new AppError('internal_error', 'platform.migrations has an unexpected shape.', {
        cause: read.error,
      });
    }
    const { module, number, name, checksum } = read.data;
    // The column's name is from before there were phases: code that doesn't know the migration can live with it, or not.
    const phase = read.data.is_compatible ? 'expand' : 'contract';
    return { module, number, name, phase, checksum, appliedAt: read.data.applied_at };
  });
}

const keyOf = (migration: Pick<Migration, 'module' | 'number'>): string =>
  `${migration.module} ${migration.number}`;

export interface Comparison {
  readonly state: SchemaState;
  readonly missing: readonly MigrationFile[];
  /** Contract migrations that applied and that the files don't hold. */
  readonly unknownContracts: readonly AppliedRow[];
}

/** Throws `migration_changed` where a file differs from what was applied under its number. */
export function compare(files: readonly MigrationFile[], applied: readonly AppliedRow[]): Comparison {
  const known = new Map(files.map((file) => [keyOf(file), file]));
  for (const row of applied) {
    const file = known.get(keyOf(row));
    if (file !== undefined && file.checksum !== row.checksum) {
      throw new AppError(
        'migration_changed',
        `The migration ${migrationLabel(row)} was applied and has been changed since. Restore the file, and write a new one for the new change.`,
      );
    }
  }
  const done = new Set(applied.map(keyOf));
  const missing = files.filter((file) => !done.has(keyOf(file)));
  const unknownContracts = applied.filter((row) => row.phase === 'contract' && !known.has(keyOf(row)));
  return { state: stateOf(missing, unknownContracts), missing, unknownContracts };
}

function stateOf(missing: readonly MigrationFile[], unknownContracts: readonly AppliedRow[]): SchemaState {
  if (unknownContracts.length > 0) return 'ahead';
  return missing.some((file) => file.phase === 'expand') ? 'behind' : 'current';
}

export function pendingOf(
  { module, number, name, phase }: Migration,
  processes: readonly ServingProcess[],
): PendingMigration {
  const migration = { module, number, name, phase };
  const waitsFor = phase === 'expand' ? [] : processes.filter((process) => !doesKnow(process, migration));
  return { ...migration, waitsFor };
}

/** See `Database.schemaStatus`. As the system login, so that a serving process needs no migration login. */
export async function readSchemaStatus(
  source: SessionSource,
  sets: readonly MigrationSet[],
): Promise<SchemaStatus> {
  const files = await readMigrationFiles(sets);
  const session = await source.acquire('system', shortDeadlineMs, undefined);
  let isClean = false;
  try {
    await session.script(`${source.begin('system')}; set local timezone = 'UTC'`, shortDeadlineMs);
    const applied = await readApplied(session);
    const processes = await readProcesses(session);
    await session.script('rollback', shortDeadlineMs);
    isClean = true;
    const { state, missing } = compare(files, applied);
    const known = new Set(files.map(keyOf));
    return {
      state,
      applied: applied.map(({ module, number, name, phase, appliedAt }) => ({
        module,
        number,
        name,
        phase,
        appliedAt,
        isKnown: known.has(`${module} ${number}`),
      })),
      pending: missing.map((file) => pendingOf(file, processes)),
      processes,
    };
  } finally {
    session.release(isClean);
  }
}
