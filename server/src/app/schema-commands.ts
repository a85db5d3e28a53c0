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
import { type Settled, settleEventLog } from '#events';
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

export interface AfterRestoreOptions {
  /** Says what it would do, having done it and rolled it back. */
  readonly dryRun: boolean;
  /** The stream of NATS in the settings; null where there is none. */
  readonly stream: string | null;
  readonly say: Say;
}

/**
 * `stoa db after-restore`: sets the event log's positions right in a database that was restored. Throws `conflict` while
 * processes of Stoa run on it.
 */
export async function afterRestoreCommand(
  db: Pick<Database, 'schemaStatus' | 'withOperator'>,
  sets: readonly MigrationSet[],
  { dryRun, stream, say }: AfterRestoreOptions,
): Promise<void> {
  const { processes } = await db.schemaStatus(sets);
  const alive = processes.filter((one) => one.isAlive);
  if (alive.length > 0 && !dryRun) {
    const named = alive.map(describeProcess).join('; ');
    throw new AppError(
      'conflict',
      `Processes run on this database: ${named}. End them, and run \`stoa db after-restore\` again.`,
    );
  }
  const settled = await settleEventLog(db, { operator: 'system:command' }, dryRun);
  say(settledValue(settled, dryRun), settledLines(settled, dryRun, stream).join('\n'));
}

function settledValue(
  { foreign, events, places, relays, replays, consumers }: Settled,
  dryRun: boolean,
): object {
  return {
    dry_run: dryRun,
    found: {
      places_ahead: foreign.places,
      relays_ahead: foreign.relays,
      events_ahead: foreign.hasEvents,
      other_server: foreign.isOtherServer,
    },
    events,
    places,
    relays,
    replays,
    consumers,
  };
}

function settledLines(
  { events, places, consumers }: Settled,
  dryRun: boolean,
  stream: string | null,
): string[] {
  const isMoved = places > 0 || events > 0;
  const lines = isMoved
    ? [
        `${events} events ${dryRun ? 'would get' : 'got'} new positions, ${places} places of consumers ${dryRun ? 'would move' : 'moved'} with them.`,
        ...consumers.map(
          ({ name, unread }) =>
            `  ${name}: ${unread} events ${dryRun ? 'would be' : 'are'} handed over; those that its inbox knows are passed over`,
        ),
      ]
    : ["The positions of the event log are this server's: none has to move."];
  if (dryRun) return [...lines, 'Nothing was changed.'];
  lines.push('The log has a new id.');
  if (stream !== null)
    lines.push(
      `Next: delete the stream ${stream} of NATS (\`nats stream rm ${stream}\`), or name another with STOA_NATS_STREAM and STOA_NATS_SUBJECT; it is not gone on with.`,
    );
  return lines;
}

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
