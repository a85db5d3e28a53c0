import {
  type Database,
  describeProcess,
  type Migration,
  migrationLabel,
  type MigrationSet,
  type PendingMigration,
  type SchemaState,
  type ServingProcess,
} from '#db';
import { AppError } from '#kernel';

/** Prints the one for programs or the other for people. */
export type Say = (value: object, text: string) => void;

export interface MigrateCommandOptions {
  /** Whether contract migrations are to apply, too; else they stay pending. */
  readonly contract: boolean;
  readonly say: Say;
  readonly warn: (fields: object, message: string) => void;
}

/**
 * `stoa db migrate`. Throws `migration_waits` where contract migrations were asked for and processes of older versions run,
 * after it has applied what may apply.
 */
export async function migrateCommand(
  db: Pick<Database, 'migrate'>,
  sets: readonly MigrationSet[],
  { contract, say, warn }: MigrateCommandOptions,
): Promise<void> {
  const { applied, pending } = await db.migrate(sets, {
    contracts: contract ? 'apply' : 'leave',
    onWait: (what) => warn({}, what),
  });
  const lines = [
    applied.length === 0 ? 'No migration was applied.' : 'Applied:',
    ...applied.map((one) => `  ${described(one)}`),
    ...pendingLines(pending),
  ];
  if (pending.length > 0 && !contract) lines.push(adviceFor(pending));
  const isDone = applied.length === 0 && pending.length === 0;
  say(
    { applied: applied.map(migrationValue), pending: pending.map(pendingValue) },
    isDone ? 'The schema is current.' : lines.join('\n'),
  );
  if (contract && pending.length > 0) throw new AppError('migration_waits', refusalOf(pending));
}

/** `stoa db status`: works without the migration login, and changes nothing. */
export async function statusCommand(
  db: Pick<Database, 'schemaStatus'>,
  sets: readonly MigrationSet[],
  say: Say,
): Promise<void> {
  const { state, applied, pending, processes } = await db.schemaStatus(sets);
  const lines = [
    stateLines[state],
    `Applied: ${applied.length === 0 ? 'nothing' : ''}`.trimEnd(),
    ...applied.map(
      (one) =>
        `  ${one.appliedAt.toISOString()}  ${described(one)}${one.isKnown ? '' : ', not known to this version'}`,
    ),
    ...pendingLines(pending),
    ...(processes.length === 0 ? [] : ['Processes:', ...processes.map((one) => `  ${describeProcess(one)}`)]),
  ];
  if (pending.length > 0) lines.push(adviceFor(pending));
  const value = {
    state,
    applied: applied.map((one) => ({
      ...migrationValue(one),
      applied_at: one.appliedAt.toISOString(),
      is_known: one.isKnown,
    })),
    pending: pending.map(pendingValue),
    processes: processes.map(processValue),
  };
  say(value, lines.join('\n'));
}

const stateLines: Readonly<Record<SchemaState, string>> = {
  current: 'This version serves the schema.',
  behind: 'The schema is older than this version needs: run `stoa db migrate`.',
  ahead: 'The schema is newer than this version serves: start the newer version.',
};

const described = (migration: Migration): string => `${migrationLabel(migration)} (${migration.phase})`;

function pendingLines(pending: readonly PendingMigration[]): string[] {
  if (pending.length === 0) return [];
  return ['Pending:', ...pending.flatMap((one) => [`  ${described(one)}`, ...waitLines(one.waitsFor)])];
}

function waitLines(waitsFor: readonly ServingProcess[]): string[] {
  return waitsFor.map((process) => `    waits for ${describeProcess(process)}`);
}

function adviceFor(pending: readonly PendingMigration[]): string {
  if (pending.some((one) => one.phase === 'expand')) return 'Next: `stoa db migrate`.';
  return pending.some((one) => one.waitsFor.length > 0)
    ? 'Next, once these processes have ended: `stoa db migrate --contract`.'
    : 'Next, once you will not go back to an older version: `stoa db migrate --contract`.';
}

function refusalOf(pending: readonly PendingMigration[]): string {
  const processes = new Map(
    pending.flatMap((one) => one.waitsFor.map((process) => [process.processId, process])),
  );
  const named = pending.map(migrationLabel).join(', ');
  const waited = [...processes.values()].map(describeProcess).join('; ');
  return `${named} did not apply, since processes of an older version use what it takes away: ${waited}. End them, and run \`stoa db migrate --contract\` again.`;
}

function migrationValue({ module, number, name, phase }: Migration): object {
  return { name: migrationLabel({ module, number, name }), phase };
}

function pendingValue(pending: PendingMigration): object {
  return { ...migrationValue(pending), waits_for: pending.waitsFor.map(processValue) };
}

function processValue({ processId, roles, host, pid, version, seenAt, isAlive }: ServingProcess): object {
  return {
    id: processId,
    roles,
    host,
    pid,
    version,
    seen_at: seenAt.toISOString(),
    is_alive: isAlive,
  };
}
