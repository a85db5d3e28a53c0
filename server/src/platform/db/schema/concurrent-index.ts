/**
 * Indexes on large tables, built while others write. A file whose second line is `-- concurrently` holds one `create index`,
 * and runs outside of a transaction, since `create index concurrently` can't run in one. PostgreSQL does not know that for a
 * partitioned table: there the index is made on the parent alone, built on one partition after the other, and attached.
 *
 * What a run that was killed left behind is gone over again: an index that is valid stays, one that is not is dropped and
 * built anew. The row in platform.migrations comes last. On PGlite, where one session does everything, the file runs as it is.
 */

import { createHash } from 'node:crypto';
import { AppError } from '#kernel';
import type { Session } from '../session.ts';
import { type MigrationFile, migrationLabel } from './migration-files.ts';

const shortDeadlineMs = 10_000;
/** One index of one partition. */
const buildDeadlineMs = 6 * 3_600_000;

export interface IndexPlan {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  /** From the parenthesis, or `using`, on. */
  readonly rest: string;
}

const planPattern =
  /^create\s+index\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?([a-z_]\w*)\s+on\s+([a-z_]\w*)\.([a-z_]\w*)\s*((?:using\b|\()[^;]+);?$/;

export function isConcurrent(file: MigrationFile): boolean {
  return file.sql.split('\n')[1] === '-- concurrently';
}

/** Throws `migration_changed` where the file holds anything but one index of a table with its schema. */
export function planOf(file: MigrationFile): IndexPlan {
  const sql = file.sql.replaceAll(/--[^\n]*/g, '').trim();
  const [, name, schema, table, rest] = planPattern.exec(sql) ?? [];
  if (name === undefined || schema === undefined || table === undefined || rest === undefined) {
    throw new AppError(
      'migration_changed',
      `The migration ${migrationLabel(file)} says \`-- concurrently\`, so it must hold one \`create index name on schema.table (...)\` in lower case and nothing else.`,
    );
  }
  return { name, schema, table, rest };
}

/** Whether the index is there and whole; null where there is none. */
async function validityOf(session: Session, schema: string, name: string): Promise<boolean | null> {
  const { rows } = await session.query(
    `select indisvalid from pg_index
     join pg_class on pg_class.oid = indexrelid join pg_namespace on pg_namespace.oid = relnamespace
     where nspname = $1 and relname = $2`,
    [schema, name],
    shortDeadlineMs,
  );
  const [row] = rows;
  return typeof row === 'object' && row !== null && 'indisvalid' in row ? row.indisvalid === true : null;
}

async function build(session: Session, plan: IndexPlan): Promise<void> {
  const { name, schema, table, rest } = plan;
  const isValid = await validityOf(session, schema, name);
  if (isValid === true) return;
  if (isValid === false) await session.script(`drop index concurrently ${schema}.${name}`, buildDeadlineMs);
  await session.script(`create index concurrently ${name} on ${schema}.${table} ${rest}`, buildDeadlineMs);
}

/** The partitions of the plan's table on which its index is not yet; null where the table has no partitions. */
async function partitionsWithout(session: Session, plan: IndexPlan): Promise<string[] | null> {
  const { rows: kinds } = await session.query(
    `select 1 from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     where nspname = $1 and relname = $2 and relkind = 'p'`,
    [plan.schema, plan.table],
    shortDeadlineMs,
  );
  if (kinds.length === 0) return null;
  const { rows } = await session.query(
    `select child.relname as name
     from pg_inherits as partitions
     join pg_class as child on child.oid = partitions.inhrelid
     where partitions.inhparent = to_regclass($1) and not exists (
       select from pg_inherits as indexes join pg_index on indexrelid = indexes.inhrelid
       where indexes.inhparent = to_regclass($2) and indrelid = child.oid)
     order by child.relname`,
    [`${plan.schema}.${plan.table}`, `${plan.schema}.${plan.name}`],
    shortDeadlineMs,
  );
  return rows.flatMap((row) =>
    typeof row === 'object' && row !== null && 'name' in row && typeof row.name === 'string'
      ? [row.name]
      : [],
  );
}

/** Stays below PostgreSQL's 63 characters, and is the same in every run. */
function partitionIndexName(plan: IndexPlan, partition: string): string {
  const hash = createHash('sha256').update(`${plan.name} ${partition}`).digest('hex').slice(0, 8);
  return `${partition.slice(0, 50)}_${hash}`;
}

/**
 * Builds the index, outside of any transaction but for the moments that `inTransaction` makes (which tries again while a
 * lock is not to be had).
 */
export async function buildConcurrently(
  session: Session,
  plan: IndexPlan,
  inTransaction: (sql: string) => Promise<void>,
): Promise<void> {
  const whole = `${plan.schema}.${plan.name}`;
  if ((await partitionsWithout(session, plan)) === null) return build(session, plan);
  await inTransaction(
    `create index if not exists ${plan.name} on only ${plan.schema}.${plan.table} ${plan.rest}`,
  );
  for (const partition of (await partitionsWithout(session, plan)) ?? []) {
    const name = partitionIndexName(plan, partition);
    await build(session, { ...plan, name, table: partition });
    await inTransaction(`alter index ${whole} attach partition ${plan.schema}.${name}`);
  }
  if ((await validityOf(session, plan.schema, plan.name)) !== true) {
    throw new AppError(
      'internal_error',
      `The index ${whole} is not valid after it was built on every partition.`,
    );
  }
}
