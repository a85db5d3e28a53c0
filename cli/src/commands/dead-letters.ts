import { deliveryStates } from '@stoa/contracts';
import type { OperatorClient } from '@stoa/sdk';
import { type Command, Option } from 'commander';
import {
  asOperator,
  collect,
  type CommonFlags,
  type Context,
  example,
  type ListFlags,
  positiveInteger,
  print,
  printJson,
  remark,
  remarkMore,
  withConnection,
  withList,
} from '../context.ts';
import { moment } from '../formats.ts';
import { factLines, tableLines } from '../table.ts';
import { printableLine, type Terminal } from '../terminal.ts';

type Letter = Awaited<ReturnType<OperatorClient['deadLetters']['read']>>;
type Page = Awaited<ReturnType<ReturnType<OperatorClient['deadLetters']['list']>['page']>>;
type Row = Page['data'][number];

interface FilterFlags {
  readonly type?: string;
  readonly consumer?: string;
  readonly code?: string;
  readonly tenant?: string;
  readonly from?: string;
  readonly to?: string;
}

interface ChangeFlags extends CommonFlags, FilterFlags {
  readonly dryRun?: boolean;
}

const id = 'dlt_01jz4x5t2sfkb8m6q0v9c3d7ea';

export function addDeadLetterCommands(program: Command, context: Context): void {
  const letters = program.command('dead-letters').description('events that could not be handled (operator)');
  withConnection(
    withFilter(
      withList(letters.command('list').description('list dead letters, newest first')).addOption(
        new Option('--state <state>', 'only those in this state (default: dead and parked)').choices(
          deliveryStates,
        ),
      ),
    ),
    'operator',
  )
    .addHelpText('after', example('stoa dead-letters list --consumer billing.usage'))
    .action((flags: ListFlags & FilterFlags & { state?: Letter['state'] }) => list(context, flags));
  withConnection(
    letters
      .command('show')
      .argument('<dead-letter>', 'its id, dlt_...')
      .description('show one: the event, why it failed, what waits for it'),
    'operator',
  )
    .addHelpText('after', example(`stoa dead-letters show ${id}`))
    .action(async (letterId: string, flags: CommonFlags) => {
      const letter = await asOperator(context, flags, (client) => client.deadLetters.read(letterId));
      if (flags.json === true) printJson(context, letter);
      else print(context, ...letterLines(letter, context.terminal));
    });
  addChanges(letters, context);
}

function withFilter(command: Command): Command {
  return command
    .option('--type <type>', 'only events of this type, with its version')
    .option('--consumer <name>', 'only those of this consumer')
    .option('--code <code>', 'only those that failed with this code')
    .option('--tenant <tenant>', 'only those of this tenant, ten_...')
    .option('--from <time>', 'first seen at this time or later, UTC')
    .option('--to <time>', 'first seen before this time, UTC');
}

function addChanges(letters: Command, context: Context): void {
  withConnection(
    withFilter(
      letters
        .command('redrive')
        .argument('[dead-letter...]', 'their ids; else those that the filter names')
        .description('hand them to their consumers again, oldest first')
        .option('--dry-run', 'only say how many, and which')
        .option('--rate <count>', 'how many a second', positiveInteger, 50)
        .option('--force', 'parked ones too, and past a version that is missing'),
    ),
    'operator',
  )
    .addHelpText('after', example('stoa dead-letters redrive --consumer billing.usage --dry-run'))
    .action(async (ids: string[], flags: ChangeFlags & { rate: number; force?: boolean }) => {
      const body = {
        ...choiceOf(ids, flags),
        rate_per_second: flags.rate,
        force: flags.force === true,
      };
      const result = await asOperator(context, flags, (client) => client.deadLetters.redrive(body));
      if (flags.json === true) return printJson(context, result);
      if (result.dry_run) sayDry(context, result);
      else print(context, `${result.redriven} of ${result.matched} are handed over again.`);
      if (result.parked > 0) remark(context, `${result.parked} are parked; --force moves them too.`);
    });
  withConnection(
    withFilter(
      letters
        .command('discard')
        .argument('[dead-letter...]', 'their ids; else those that the filter names')
        .description('give them up for good; what waited for them goes on')
        .requiredOption('--reason <text>', 'kept in the audit')
        .option('--dry-run', 'only say how many, and which'),
    ),
    'operator',
  )
    .addHelpText('after', example(`stoa dead-letters discard ${id} --reason "Told by a withdrawn version"`))
    .action(async (ids: string[], flags: ChangeFlags & { reason: string }) => {
      const body = { ...choiceOf(ids, flags), reason: flags.reason };
      const result = await asOperator(context, flags, (client) => client.deadLetters.discard(body));
      if (flags.json === true) return printJson(context, result);
      if (result.dry_run) sayDry(context, result);
      else print(context, `${result.discarded} of ${result.matched} are discarded.`);
    });
}

function sayDry(
  context: Context,
  { matched, first_ids: ids }: { readonly matched: number; readonly first_ids: readonly string[] },
): void {
  print(context, `${matched} match. Nothing was changed.`, ...ids);
  if (matched > ids.length) remark(context, `and ${matched - ids.length} more`);
}

function filterOf(flags: FilterFlags) {
  return {
    ...(flags.type === undefined ? {} : { type: flags.type }),
    ...(flags.consumer === undefined ? {} : { consumer: flags.consumer }),
    ...(flags.code === undefined ? {} : { error_code: flags.code }),
    ...(flags.tenant === undefined ? {} : { tenant_id: flags.tenant }),
    ...(flags.from === undefined ? {} : { from: flags.from }),
    ...(flags.to === undefined ? {} : { to: flags.to }),
  };
}

function choiceOf(ids: readonly string[], flags: ChangeFlags) {
  return {
    ...filterOf(flags),
    ...(ids.length === 0 ? {} : { ids: [...ids] }),
    dry_run: flags.dryRun === true,
  };
}

async function list(
  context: Context,
  flags: ListFlags & FilterFlags & { state?: Letter['state'] },
): Promise<void> {
  const filter = { ...filterOf(flags), ...(flags.state === undefined ? {} : { state: flags.state }) };
  const page = await asOperator(context, flags, (client) =>
    collect(flags, (query) => client.deadLetters.list({ ...query, ...filter }).page()),
  );
  if (flags.json === true) return printJson(context, page);
  if (page.data.length === 0) return remark(context, 'There are none.');
  const { paint } = context.terminal;
  print(
    context,
    ...tableLines<Row>(
      [
        { title: 'ID', value: (letter) => letter.id },
        { title: 'LAST', value: (letter) => moment(letter.last_seen_at) },
        {
          title: 'STATE',
          value: (letter) => letter.state,
          style: (text, letter) =>
            paint(letter.state === 'held' || letter.state === 'retrying' ? 'yellow' : 'red', text),
        },
        { title: 'CONSUMER', value: (letter) => letter.consumer },
        { title: 'TYPE', value: ({ event }) => event.type },
        { title: 'TRIED', align: 'right', value: (letter) => String(letter.attempts) },
        { title: 'WHY', value: reasonOf },
      ],
      page.data,
      context.terminal,
    ),
  );
  remarkMore(context, page);
}

function reasonOf({ state, error, held_by: heldBy }: Row): string {
  if (state === 'held')
    return heldBy === null ? 'waits for an earlier version of its key' : `waits for ${heldBy}`;
  return error === null ? 'is tried for the first time' : `${error.code}: ${error.message}`;
}

function letterLines(letter: Letter, terminal: Terminal): string[] {
  const { event, error } = letter;
  const facts: [string, string][] = [
    ['state', `${letter.state}, ${letter.attempts} attempts, ${letter.redrives} redrives`],
    ['consumer', letter.consumer],
    ['tenant', letter.tenant_id],
    ['event', `${event.type}  ${event.id}`],
    ['key', `${printableLine(event.key)}, version ${event.keyversion}`],
    ['happened', moment(event.occurred_at)],
    ['first seen', moment(letter.first_seen_at)],
    ['last seen', moment(letter.last_seen_at)],
    ['waiting', `${letter.followers} events of its key`],
  ];
  if (letter.state === 'held') facts.push(['held', reasonOf(letter)]);
  if (letter.next_attempt_at !== null) facts.push(['next', moment(letter.next_attempt_at)]);
  if (event.traceparent !== null) facts.push(['trace', printableLine(event.traceparent)]);
  if (error !== null) facts.push(['failed', printableLine(`${error.code}: ${error.message}`)]);
  const stack = error?.stack?.split('\n').map((line) => `  ${printableLine(line)}`) ?? [];
  return [
    terminal.paint('bold', letter.id),
    '',
    ...factLines(facts, terminal),
    ...(stack.length === 0 ? [] : ['', ...stack]),
    '',
    ...JSON.stringify(event.data, null, 2).split('\n').map(printableLine),
  ];
}
